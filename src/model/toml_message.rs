//! What a TOML parser says is wrong.

use super::Line;

/// Maximum length of the message, in characters: it may repeat a value.
const MAX_LEN: usize = 300;

/// The message of a TOML error on one line.
pub fn toml_message(error: &toml::de::Error) -> String {
    Line::beginning(&error.message().split_whitespace().collect::<Vec<_>>().join(" "), MAX_LEN)
}
