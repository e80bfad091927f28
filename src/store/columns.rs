//! Columns of a row that hold text or JSON, as the types that they stand for.

use std::{fmt::Display, str::FromStr};

use rusqlite::Row;
use serde::{Serialize, de::DeserializeOwned};

use super::error::{Result, StoreError};

/// Parses stored text; `what` names its kind in the error.
pub(super) fn parse<T: FromStr<Err: Display>>(what: &'static str, text: &str) -> Result<T> {
    text.parse().map_err(|e: T::Err| StoreError::Corrupt { what, why: e.to_string() })
}

/// Version of the format in which values are stored as JSON.
pub(super) const FORMAT_VERSION: u32 = 1;

/// A value that is stored as JSON, with the version of its format.
#[derive(Serialize, serde::Deserialize)]
struct Versioned<T> {
    version: u32,
    value: T,
}

/// The part of [`Versioned`] that every version can read.
#[derive(serde::Deserialize)]
struct Version {
    version: u32,
}

/// Refuses a format that this version of paas does not know.
pub(super) fn check_version(what: &'static str, version: u32) -> Result<()> {
    if version == FORMAT_VERSION {
        return Ok(());
    }
    let why = format!("format {version} was written by another version of paas; use the version of paas that wrote it");
    Err(StoreError::Corrupt { what, why })
}

/// Parses JSON that carries no version.
pub(super) fn parse_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| StoreError::Corrupt { what, why: e.to_string() })
}

/// Writes JSON that carries no version.
pub(super) fn to_plain_json<T: Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt { what, why: e.to_string() })
}

/// Writes the JSON of a column, with the version of its format.
pub(super) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String> {
    to_plain_json(what, &Versioned { version: FORMAT_VERSION, value })
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

/// Parses a column of JSON that [`to_json`] wrote.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str, what: &'static str) -> Result<T> {
    let text: String = row.get(column)?;
    check_version(what, parse_json::<Version>(what, &text)?.version)?;
    Ok(parse_json::<Versioned<T>>(what, &text)?.value)
}
