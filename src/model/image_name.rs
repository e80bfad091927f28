//! Names of images.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use super::{InvalidName, RegistryHost, address::ImageReference};

/// The name of an image with its tag. Two names are equal if they stand for the same image: `base:1` is
/// `docker.io/library/base:1`. `Display` shows a name as it was written.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName {
    full: String,
    written: String,
}

const RULE: &str = "write lowercase words separated by slashes, after the registry if it is not Docker Hub, and a tag, such \
                    as company/base:1 or ghcr.io/company/base:1";

/// Maximum length of a name without its tag, as registries accept it.
const MAX_NAME_LEN: usize = 255;

impl ImageName {
    /// The whole name: with registry and tag.
    pub fn full(&self) -> &str {
        &self.full
    }
}

impl FromStr for ImageName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| {
            // It may be an address with a password.
            let value = ImageReference::new(text).to_string().chars().take(80).collect();
            InvalidName { what: "image name", value, rule }
        };
        if text.contains("://") {
            return Err(invalid("leave out the scheme: write the name alone, such as company/base:1"));
        }
        if text.contains('@') {
            return Err(invalid("name the image by a tag, such as company/base:1, without a digest or a user"));
        }
        let (host, rest) = match text.split_once('/') {
            Some((host, rest)) if RegistryHost::is_host_of_image(host) => {
                (host.parse().map_err(|error: InvalidName| invalid(error.rule))?, rest)
            }
            Some(_) | None => (RegistryHost::docker_hub(), text),
        };
        let (path, tag) = rest.split_once(':').unwrap_or((rest, "latest"));
        let is_id = path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit());
        if is_id || !path.split('/').all(is_component) || !is_tag(tag) {
            return Err(invalid(RULE));
        }
        // Docker Hub's own images are below `library/`.
        let library = if host.is_docker_hub() && !path.contains('/') { "library/" } else { "" };
        let name = format!("{host}/{library}{path}");
        if name.len() > MAX_NAME_LEN {
            return Err(invalid("it is longer than 255 characters"));
        }
        Ok(Self { full: format!("{name}:{tag}"), written: text.to_owned() })
    }
}

/// Whether this is a component of a path: words of lowercase letters and digits between single separators.
fn is_component(text: &str) -> bool {
    let is_word_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_separator = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    let mut separators = text.split(|c: char| c.is_ascii() && is_word_byte(c as u8)).filter(|text| !text.is_empty());
    text.bytes().next().is_some_and(is_word_byte)
        && text.bytes().last().is_some_and(is_word_byte)
        && separators.all(is_separator)
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

impl PartialEq for ImageName {
    fn eq(&self, other: &Self) -> bool {
        self.full == other.full
    }
}

impl Eq for ImageName {}

impl Hash for ImageName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.full.hash(state);
    }
}

impl TryFrom<String> for ImageName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.written
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.written)
    }
}

impl schemars::JsonSchema for ImageName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ImageName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "title": "image name", "format": "image-name", "description": RULE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_completed_and_shown_as_it_was_written() {
        for (written, full) in [
            ("base", "docker.io/library/base:latest"),
            ("base:1", "docker.io/library/base:1"),
            ("library/base:1", "docker.io/library/base:1"),
            ("index.docker.io/base:1", "docker.io/library/base:1"),
            ("company/base:1.2-rc_3", "docker.io/company/base:1.2-rc_3"),
            ("GHCR.io/a/b__c/d--e.f:X", "ghcr.io/a/b__c/d--e.f:X"),
            ("localhost/base", "localhost/base:latest"),
            ("127.0.0.1:5000/base:1", "127.0.0.1:5000/base:1"),
        ] {
            let name: ImageName = written.parse().unwrap();
            assert_eq!((name.full(), name.to_string().as_str()), (full, written));
        }
        assert_eq!("base".parse::<ImageName>(), "docker.io/library/base:latest".parse());
        assert_ne!("base:1".parse::<ImageName>(), "base:2".parse());
    }

    #[test]
    fn what_is_no_name_is_refused_without_a_password() {
        let id = "a".repeat(64);
        for (text, reason) in [
            ("", "write lowercase words"),
            ("Base:1", "write lowercase words"),
            ("a//b", "write lowercase words"),
            ("a._b", "write lowercase words"),
            ("a___b", "write lowercase words"),
            ("-a", "write lowercase words"),
            ("a/", "write lowercase words"),
            ("a:", "write lowercase words"),
            ("a:b:c", "write lowercase words"),
            ("a:-b", "write lowercase words"),
            ("../a", "write a host name"),
            (&id, "write lowercase words"),
            (&"a".repeat(300), "longer than 255"),
            ("a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "by a tag"),
            ("docker://a", "leave out the scheme"),
            ("user:s3cret@host.example/a", "without a digest or a user"),
        ] {
            let error = text.parse::<ImageName>().unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("s3cret"), "{text}: {error}");
        }
    }
}
