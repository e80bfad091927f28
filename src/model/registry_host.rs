//! Hosts of image registries.

use std::{fmt, str::FromStr};

use super::{InvalidName, address::ImageReference};

/// The host of an image registry, with its port if it has one, in lowercase: `ghcr.io`, `registry.example.com:5000`. All
/// names of Docker Hub are `docker.io`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryHost(String);

/// The host of Docker Hub in the names of images.
const DOCKER_HUB: &str = "docker.io";
/// Its other names.
const DOCKER_HUB_ALIASES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "hub.docker.com"];

const RULE: &str = "write a host name or address with an optional port, such as ghcr.io or registry.example.com:5000";

impl RegistryHost {
    /// Docker Hub, on which images without a host are.
    pub fn docker_hub() -> Self {
        Self(DOCKER_HUB.to_owned())
    }

    /// The registry of an image. What is no valid name is looked for on Docker Hub, and not found.
    pub fn of_image(reference: &str) -> Self {
        let host = reference.split_once('/').filter(|(host, _)| Self::is_host_of_image(host));
        host.and_then(|(host, _)| host.parse().ok()).unwrap_or_else(Self::docker_hub)
    }

    /// The host as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host without its port.
    pub fn name(&self) -> &str {
        split(&self.0).0.trim_matches(['[', ']'])
    }

    /// Whether this is Docker Hub.
    pub fn is_docker_hub(&self) -> bool {
        self.0 == DOCKER_HUB
    }

    /// Whether the first component of an image's name is a host: it has a dot or a port, or is `localhost`.
    pub(super) fn is_host_of_image(component: &str) -> bool {
        component.contains(['.', ':']) || component.eq_ignore_ascii_case("localhost")
    }
}

impl FromStr for RegistryHost {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| {
            // It may be an address with a password.
            let value = ImageReference::new(text).to_string().chars().take(80).collect();
            Err(InvalidName { what: "registry host", value, rule })
        };
        if text.contains("://") {
            return invalid("leave out the scheme and the path: write the host alone, such as ghcr.io");
        }
        if text.contains('/') {
            return invalid("leave out the path: write the host alone, such as ghcr.io");
        }
        let host = text.to_ascii_lowercase();
        if !is_host_and_port(&host) {
            return invalid(RULE);
        }
        if !Self::is_host_of_image(&host) {
            return invalid("the host of an image has a dot or a port, or is localhost, such as ghcr.io");
        }
        if DOCKER_HUB_ALIASES.contains(&host.as_str()) {
            return Ok(Self::docker_hub());
        }
        Ok(Self(host))
    }
}

/// Host and port.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        // The colons of an IPv6 address are within brackets.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    }
}

/// Whether a text is a host, or an IPv6 address in brackets, with an optional port.
fn is_host_and_port(text: &str) -> bool {
    let (host, port) = split(text);
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.len() <= 253 && host.split('.').all(is_label),
    };
    let is_port =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    is_host && port.is_none_or(is_port)
}

impl TryFrom<String> for RegistryHost {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<RegistryHost> for String {
    fn from(host: RegistryHost) -> Self {
        host.0
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl schemars::JsonSchema for RegistryHost {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RegistryHost".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "title": "registry host", "format": "registry-host", "description": RULE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_of_an_image_is_found() {
        for (image, host, name) in [
            ("debian:13", "docker.io", "docker.io"),
            ("company/base", "docker.io", "docker.io"),
            ("GHCR.io/a/b:1", "ghcr.io", "ghcr.io"),
            ("127.0.0.1:5000/x@sha256:00", "127.0.0.1:5000", "127.0.0.1"),
            ("[::1]:5000/x", "[::1]:5000", "::1"),
        ] {
            let found = RegistryHost::of_image(image);
            assert_eq!((found.as_str(), found.name()), (host, name), "{image}");
        }
    }

    #[test]
    fn a_host_is_read_in_lowercase_and_docker_hub_has_one_name() {
        for (text, host) in [
            ("GHCR.io", "ghcr.io"),
            ("registry.example.com:5000", "registry.example.com:5000"),
            ("localhost", "localhost"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("[2001:db8::7]:5000", "[2001:db8::7]:5000"),
            ("docker.io", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("Hub.Docker.com", "docker.io"),
        ] {
            assert_eq!(text.parse::<RegistryHost>().unwrap().as_str(), host, "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_with_its_reason_and_without_a_password() {
        for (text, reason) in [
            ("https://index.docker.io/v1/", "leave out the scheme"),
            ("ghcr.io/owner", "leave out the path"),
            ("my-app", "has a dot or a port"),
            ("", "write a host name"),
            ("a..b", "write a host name"),
            ("-a.b", "write a host name"),
            ("a.b:0", "write a host name"),
            ("a.b:99999", "write a host name"),
            ("a.b:", "write a host name"),
            ("a.b:+1", "write a host name"),
            ("[::x]:1", "write a host name"),
            ("a.b\n", "write a host name"),
            ("user:s3cret@a.b", "write a host name"),
            ("https://user:s3cret@a.b", "leave out the scheme"),
        ] {
            let error = text.parse::<RegistryHost>().unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("s3cret") && !error.contains('\n'), "{error}");
        }
    }
}
