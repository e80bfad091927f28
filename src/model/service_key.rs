//! The key of a service: which instances the requests of a route go to.

use std::{fmt, str::FromStr};

use super::{AppName, ProcessType};

/// The instances of one process type of an app, at one of their ports. As text, in messages and reports: `my-app/web/8080`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceKey {
    /// Owning app.
    pub app: AppName,
    /// Process type of the instances.
    pub process_type: ProcessType,
    /// Container port of the mapping; [`CONTAINER_PORT`](super::CONTAINER_PORT) stands for the port of the release.
    pub port: u16,
}

/// A text that is no key of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid service: write it as app/process-type/port")]
pub struct InvalidServiceKey(String);

impl FromStr for ServiceKey {
    type Err = InvalidServiceKey;

    fn from_str(text: &str) -> Result<Self, InvalidServiceKey> {
        let parse = || {
            let (app, rest) = text.split_once('/')?;
            let (process_type, port) = rest.split_once('/')?;
            Some(Self { app: app.parse().ok()?, process_type: process_type.parse().ok()?, port: port.parse().ok()? })
        };
        parse().ok_or_else(|| InvalidServiceKey(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for ServiceKey {
    type Error = InvalidServiceKey;

    fn try_from(text: String) -> Result<Self, InvalidServiceKey> {
        text.parse()
    }
}

impl From<ServiceKey> for String {
    fn from(key: ServiceKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, process_type, port } = self;
        write!(f, "{app}/{process_type}/{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_from_its_text() {
        let key: ServiceKey = "my-app/web/8080".parse().unwrap();
        assert_eq!((key.app.as_str(), key.process_type.as_str(), key.port), ("my-app", "web", 8080));
        assert_eq!(serde_json::to_string(&key).unwrap(), r#""my-app/web/8080""#);
        assert_eq!(serde_json::from_str::<ServiceKey>(r#""my-app/web/8080""#).unwrap(), key);
    }

    #[test]
    fn another_text_is_refused() {
        for text in ["", "a", "a/web", "a/web/", "a/web/x", "a/web/65536", "a/web/1/2", "A/web/1", "a//1"] {
            assert_eq!(text.parse::<ServiceKey>(), Err(InvalidServiceKey(text.to_owned())), "{text:?}");
        }
    }
}
