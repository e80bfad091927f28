//! The address of a remote.

use std::{fmt, str::FromStr};

use crate::model::{Address, Line};

/// Where a server is reached with ssh: `ssh://[USER@]HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RemoteAddress {
    user: Option<String>,
    /// A name, or an address without brackets.
    host: String,
    port: Option<u16>,
}

/// Why an address is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the address of a server; write ssh://paas@HOST:2222")]
pub struct InvalidAddress(String);

impl RemoteAddress {
    /// What ssh gets as its destination.
    pub(super) fn destination(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        }
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether both lead to the same server. The user does not matter: the server knows callers by their keys.
    pub(super) fn is_same_server(&self, other: &Self) -> bool {
        const SSH: u16 = 22;
        self.host.eq_ignore_ascii_case(&other.host) && self.port.unwrap_or(SSH) == other.port.unwrap_or(SSH)
    }

    /// Address and path of a git URL: `ssh://[USER@]HOST[:PORT]/PATH`, or `[USER@]HOST:PATH`.
    pub(super) fn of_git_url(url: &str) -> Option<(Self, &str)> {
        if let Some(rest) = url.strip_prefix("ssh://") {
            let (authority, path) = rest.split_once('/')?;
            return Some((Self::of_authority(authority)?, path));
        }
        let (place, path) =
            url.split_once(':').filter(|(place, path)| !place.contains('/') && !path.starts_with("//"))?;
        Some((Self::of_authority(place).filter(|address| address.port.is_none())?, path))
    }

    fn of_authority(authority: &str) -> Option<Self> {
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let is_ipv6 = place.starts_with('[');
        // Nothing that ssh could take for an option, or that a line of its configuration would expand.
        let is_word = |text: &str| {
            !text.is_empty()
                && text.len() <= 253
                && !text.starts_with('-')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if !(is_ipv6 || is_word(host)) || !user.is_none_or(is_word) {
            return None;
        }
        let port = match port {
            Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
            None => None,
        };
        Some(Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

impl FromStr for RemoteAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(Line::excerpt(&Address::new(text).to_string()));
        let rest = text.strip_prefix("ssh://").ok_or_else(invalid)?;
        Self::of_authority(rest.strip_suffix('/').unwrap_or(rest)).ok_or_else(invalid)
    }
}

impl TryFrom<String> for RemoteAddress {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<RemoteAddress> for String {
    fn from(address: RemoteAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        let host = &self.host;
        if host.contains(':') { write!(f, "[{host}]") } else { write!(f, "{host}") }?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written_unchanged() {
        for text in
            ["ssh://paas@host:2222", "ssh://host", "ssh://10.0.0.1:22", "ssh://a.b@[::1]:2222", "ssh://[fe80::1]"]
        {
            assert_eq!(text.parse::<RemoteAddress>().unwrap().to_string(), text);
        }
        let address: RemoteAddress = "ssh://paas@[::1]:2222/".parse().unwrap();
        assert_eq!((address.destination().as_str(), address.port()), ("paas@::1", Some(2222)));
    }

    #[test]
    fn what_is_none_or_could_be_an_option_is_refused() {
        for text in [
            "",
            "host",
            "https://host",
            "ssh://",
            "ssh://host:0",
            "ssh://host:99999",
            "ssh://host/app",
            "ssh://-oProxyCommand=x",
            "ssh://-l@host",
            "ssh://a b@host",
            "ssh://host:22:22",
            "ssh://[::1",
            "ssh://[host]",
            "ssh://user:word@host",
            "ssh://%h",
        ] {
            let error = text.parse::<RemoteAddress>().unwrap_err().to_string();
            assert!(error.ends_with("write ssh://paas@HOST:2222") && !error.contains("word"), "{text}: {error}");
        }
    }

    #[test]
    fn urls_of_git_are_compared_by_host_and_port() {
        let read = |url| RemoteAddress::of_git_url(url).map(|(address, path)| (address.to_string(), path));
        assert_eq!(read("ssh://paas@host:2222/my-app"), Some(("ssh://paas@host:2222".to_owned(), "my-app")));
        assert_eq!(read("paas@host:my-app"), Some(("ssh://paas@host".to_owned(), "my-app")));
        for url in ["https://host/my-app", "/srv/my-app", "../my:app", "file:///x"] {
            assert_eq!(read(url), None, "{url}");
        }
        let same = |a: &str, b: &str| a.parse::<RemoteAddress>().unwrap().is_same_server(&b.parse().unwrap());
        assert!(same("ssh://paas@host:2222", "ssh://ann@HOST:2222") && same("ssh://host", "ssh://host:22"));
        assert!(!same("ssh://host", "ssh://host:2222") && !same("ssh://host", "ssh://other"));
    }
}
