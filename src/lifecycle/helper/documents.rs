//! Values in JSON, TOML and YAML files.

use std::path::Path;

use super::answer::{Answer, Refusal, no, wrong};
use crate::lifecycle::files;

/// Syntax of a document.
#[derive(Clone, Copy)]
pub(super) enum Syntax {
    Json,
    Toml,
    Yaml,
}

impl Syntax {
    fn parse(self, text: &str) -> Result<serde_json::Value, String> {
        match self {
            Self::Json => serde_json::from_str(text).map_err(|e| e.to_string()),
            Self::Toml => files::parse_toml(text).map(files::json_of),
            Self::Yaml => serde_norway::from_str(text)
                .map_err(|e: serde_norway::Error| e.to_string().lines().next().unwrap_or_default().to_owned()),
        }
    }
}

/// Parses the text of a file.
pub(super) fn document(syntax: Syntax, file: &str, text: &str) -> Result<serde_json::Value, Refusal> {
    syntax.parse(text).map_err(|e| wrong(format!("{file} is not valid: {e}")))
}

/// The value at a key such as `a.b`: strings as they are, others as JSON.
pub(super) fn value(syntax: Syntax, file: &str, key: &str, default: Option<&&str>) -> Answer {
    let value = match files::read_text(Path::new(file)).map_err(wrong)? {
        Some(text) => document(syntax, file, &text)?,
        None => serde_json::Value::Null,
    };
    let found = key.split('.').try_fold(&value, |value, part| value.get(part));
    match (found, default) {
        (Some(serde_json::Value::String(text)), _) => Ok(text.clone()),
        (Some(value), _) if !value.is_null() => Ok(value.to_string()),
        (_, Some(default)) => Ok((*default).to_owned()),
        (_, None) => Err(no()),
    }
}
