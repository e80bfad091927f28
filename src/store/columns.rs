//! Columns of a row that hold text or JSON, as the types that they stand for.

use std::{fmt::Display, str::FromStr};

use rusqlite::Row;
use serde::{Serialize, de::DeserializeOwned};

use super::error::{Result, StoreError};

/// Parses stored text; `what` names its kind in the error.
pub(super) fn parse<T: FromStr<Err: Display>>(what: &'static str, text: &str) -> Result<T> {
    text.parse().map_err(|e: T::Err| StoreError::Corrupt { what, why: e.to_string() })
}

/// Parses stored JSON.
pub(super) fn parse_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| StoreError::Corrupt { what, why: e.to_string() })
}

/// Writes the JSON to be stored.
pub(super) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt { what, why: e.to_string() })
}

/// Parses a column of text.
pub(super) fn text<T: FromStr<Err: Display>>(row: &Row<'_>, column: &str, what: &'static str) -> Result<T> {
    parse(what, &row.get::<_, String>(column)?)
}

/// Parses a column of text that may be NULL.
pub(super) fn optional_text<T: FromStr<Err: Display>>(
    row: &Row<'_>,
    column: &str,
    what: &'static str,
) -> Result<Option<T>> {
    row.get::<_, Option<String>>(column)?.map(|text| parse(what, &text)).transpose()
}

/// Parses a column of JSON.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str, what: &'static str) -> Result<T> {
    parse_json(what, &row.get::<_, String>(column)?)
}
