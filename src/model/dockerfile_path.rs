//! Paths of Dockerfiles.

use std::{fmt, str::FromStr};

use super::{InvalidName, line::is_unsafe};

/// The path of a Dockerfile, relative to the folder that is built, such as `docker/Dockerfile.prod`. It does not leave that
/// folder. Read from a path that may begin with `./`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DockerfilePath(String);

const RULE: &str =
    "use a path relative to the folder that is built, such as docker/Dockerfile.prod, without .. and empty parts in it";

impl DockerfilePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for DockerfilePath {
    fn default() -> Self {
        Self("Dockerfile".to_owned())
    }
}

impl FromStr for DockerfilePath {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let path = text.trim_start_matches("./");
        let valid = (1..=400).contains(&path.len())
            && !text.starts_with('/')
            && !path.starts_with('-')
            && !path.chars().any(is_unsafe)
            && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if valid {
            return Ok(Self(path.to_owned()));
        }
        Err(InvalidName { what: "path of a Dockerfile", value: text.chars().take(80).collect(), rule: RULE })
    }
}

impl TryFrom<String> for DockerfilePath {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<DockerfilePath> for String {
    fn from(path: DockerfilePath) -> Self {
        path.0
    }
}

impl fmt::Display for DockerfilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl schemars::JsonSchema for DockerfilePath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DockerfilePath".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "title": "path of a Dockerfile", "format": "dockerfile-path", "description": RULE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_within_the_folder_that_is_built() {
        for (text, path) in [
            ("Dockerfile.prod", "Dockerfile.prod"),
            ("./docker/Dockerfile", "docker/Dockerfile"),
            ("././a b/D", "a b/D"),
            ("..D", "..D"),
        ] {
            assert_eq!(text.parse::<DockerfilePath>().unwrap().as_str(), path);
        }
        for text in
            ["", ".", "./", "/etc/passwd", ".//etc", "../D", "a/../../D", "a//D", "a/", "-D", "./-D", "a\nb", "."]
        {
            let error = text.parse::<DockerfilePath>().unwrap_err().to_string();
            assert!(error.contains("is not a valid path of a Dockerfile: use a path relative"), "{text}: {error}");
        }
    }
}
