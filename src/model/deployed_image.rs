//! The image that an app is deployed from.

use std::{fmt, str::FromStr};

use super::{Digest, ImageName, InvalidName};

/// The name of an image with a tag, a digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeployedImage {
    name: ImageName,
    digest: Option<Digest>,
}

impl DeployedImage {
    /// Whether it is named by a digest, so that it is always the same.
    pub fn has_digest(&self) -> bool {
        self.digest.is_some()
    }
}

impl FromStr for DeployedImage {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // What stands before another `@` may be a password: the name refuses it, and does not show it.
        let (name, digest) = match text.rsplit_once('@') {
            Some((name, digest)) if digest.starts_with("sha256:") => (name, Some(digest)),
            Some(_) | None => (text, None),
        };
        let digest = digest.map(str::parse).transpose().map_err(|_| InvalidName {
            what: "digest of an image",
            value: "sha256:…".to_owned(),
            rule: "write sha256: and 64 hexadecimal digits",
        })?;
        Ok(Self { name: name.parse()?, digest })
    }
}

impl fmt::Display for DeployedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl TryFrom<String> for DeployedImage {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<DeployedImage> for String {
    fn from(image: DeployedImage) -> Self {
        image.to_string()
    }
}

impl schemars::JsonSchema for DeployedImage {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DeployedImage".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "minLength": 1, "maxLength": 500,
            "description": "The name of an image with a tag, a digest, or both: company/base:1, ghcr.io/company/base@sha256:…",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_tag_or_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, has_digest) in [
            ("nginx".to_owned(), false),
            ("ghcr.io/company/app:1.2".to_owned(), false),
            (format!("localhost:5000/app@{digest}"), true),
            (format!("company/app:1@{digest}"), true),
        ] {
            let image: DeployedImage = text.parse().unwrap();
            assert_eq!((image.to_string(), image.has_digest()), (text, has_digest));
        }
        for bad in ["", "a b", "x\nRUN id", "user:hunter2@host/app", "app@sha256:12", "App", "--platform=x"] {
            let error = bad.parse::<DeployedImage>().unwrap_err().to_string();
            assert!(!error.contains("hunter2") && !error.contains('\n'), "{error}");
        }
    }
}
