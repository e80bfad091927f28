//! Errors of the configuration.

use std::path::PathBuf;

/// Why a configuration is rejected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Configuration file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The configuration file has an unknown key or an invalid value.
    #[error("{path}, line {line}: {message}")]
    File {
        /// Configuration file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// An environment variable names an unknown key or has an invalid value.
    #[error("environment variable {name}: {message}")]
    Environment {
        /// Environment variable.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A value is of the right type, but not acceptable, or does not fit the other values.
    #[error("{key}: {message}")]
    Value {
        /// Key, as `section.key`.
        key: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}
