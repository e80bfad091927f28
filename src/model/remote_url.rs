//! Addresses of remote repositories.

use std::{fmt, str::FromStr};

use super::{Address, InvalidName, host_and_port};

/// Maximum length of an address, in bytes.
const MAX_LEN: usize = 2000;

const RULE: &str = "write https://HOST/PATH, without a password";

/// How a remote repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteScheme {
    /// `https://`
    Https,
    /// `http://`
    Http,
    /// `ssh://`, or without a scheme.
    Ssh,
    /// `git://`
    Git,
    /// `file://`: a folder of the server.
    File,
}

/// The address of a remote repository, without credentials.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RemoteUrl {
    text: String,
    /// As a URL, which `USER@HOST:PATH` is not.
    url: String,
    scheme: RemoteScheme,
}

impl RemoteUrl {
    /// As it was written, for git.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same as a URL.
    pub fn as_url(&self) -> &str {
        &self.url
    }

    /// How it is reached.
    pub fn scheme(&self) -> RemoteScheme {
        self.scheme
    }

    /// Host, in lower case and without brackets; empty for a folder of the server.
    pub fn host(&self) -> String {
        let host = host_and_port(&self.url).map_or("", |(host, _)| host);
        host.trim_matches(['[', ']']).to_ascii_lowercase()
    }

    /// Whether only an admin may have it fetched, wherever it leads.
    pub fn is_for_admins(&self) -> bool {
        matches!(self.scheme, RemoteScheme::Git | RemoteScheme::File)
    }
}

impl FromStr for RemoteUrl {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| {
            let value = Address::new(text).to_string().chars().take(80).collect();
            InvalidName { what: "address of a repository", value, rule }
        };
        if text.len() > MAX_LEN || text.chars().any(|c| c.is_control() || c.is_whitespace()) || text.starts_with('-') {
            return Err(invalid(RULE));
        }
        if Address::new(text).to_string() != text {
            return Err(invalid("leave out the password and the query"));
        }
        let schemes = [
            ("https://", RemoteScheme::Https),
            ("http://", RemoteScheme::Http),
            ("ssh://", RemoteScheme::Ssh),
            ("git://", RemoteScheme::Git),
            ("file://", RemoteScheme::File),
        ];
        let found = schemes.into_iter().find(|(prefix, _)| text.starts_with(prefix));
        let (scheme, url) = match found {
            Some((_, scheme)) => (scheme, text.to_owned()),
            None if text.contains("://") || text.contains("::") => return Err(invalid(RULE)),
            None => {
                let (host, path) =
                    text.split_once(':').filter(|(host, _)| !host.contains('/')).ok_or_else(|| invalid(RULE))?;
                (RemoteScheme::Ssh, format!("ssh://{host}/{}", path.trim_start_matches('/')))
            }
        };
        let remote = Self { text: text.to_owned(), url, scheme };
        let (host, rest) = (remote.host(), host_and_port(&remote.url));
        let is_port = rest.is_none_or(|(_, port)| port.is_none_or(|port| port.parse::<u16>().is_ok()));
        let is_host = !host.starts_with('-') && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b));
        let user = remote.url.split_once("://").and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'));
        let is_user = user.is_none_or(|(user, _)| !user.starts_with('-') && !user.is_empty());
        if !is_host || !is_port || !is_user || (host.is_empty() != (scheme == RemoteScheme::File)) {
            return Err(invalid(RULE));
        }
        Ok(remote)
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl TryFrom<String> for RemoteUrl {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<RemoteUrl> for String {
    fn from(url: RemoteUrl) -> Self {
        url.text
    }
}

impl schemars::JsonSchema for RemoteUrl {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RemoteUrl".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_LEN, "description": RULE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_their_hosts() {
        for (text, scheme, host) in [
            ("https://GitHub.com/acme/shop.git", RemoteScheme::Https, "github.com"),
            ("http://[::1]:8080/x", RemoteScheme::Http, "::1"),
            ("ssh://git@forge.example:2222/acme/shop", RemoteScheme::Ssh, "forge.example"),
            ("git@github.com:acme/shop.git", RemoteScheme::Ssh, "github.com"),
            ("git://host/x", RemoteScheme::Git, "host"),
            ("file:///srv/x.git", RemoteScheme::File, ""),
        ] {
            let url: RemoteUrl = text.parse().unwrap();
            assert_eq!((url.as_str(), url.scheme(), url.host().as_str()), (text, scheme, host));
        }
        assert_eq!("git@github.com:acme/shop".parse::<RemoteUrl>().unwrap().as_url(), "ssh://git@github.com/acme/shop");
    }

    #[test]
    fn what_runs_a_program_or_has_a_password_is_refused() {
        for bad in [
            "",
            "/srv/x.git",
            "x",
            "ext::sh -c id",
            "ext::id",
            "--upload-pack=id",
            "ftp://host/x",
            "https://user:hunter2@host/x",
            "https://hunter2@host/x",
            "https://host/x?token=hunter2",
            "ssh://-oProxyCommand=id/x",
            "ssh://-oProxyCommand=id@host/x",
            "-oProxyCommand=id:x",
            "https:///x",
            "https://host:x/y",
            "https://ho st/y",
        ] {
            let error = bad.parse::<RemoteUrl>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
