//! What an admin opens for an app or for the whole server: an address, a block, a name or this machine, and a port.

use std::{fmt, net::IpAddr, str::FromStr};

use super::{
    address_block::{AddressBlock, InvalidAddressBlock},
    line::Line,
    names::AppName,
};

/// Name of this machine in instances.
pub const HOST_NAME: &str = "host.paas.internal";

/// Name of an app in the instances of the apps that are linked to it.
pub fn internal_name(app: &AppName) -> String {
    format!("{app}.paas.internal")
}

/// How this machine is written as a target.
const THIS_MACHINE: &str = "host";
/// Maximum length of a name, in bytes (RFC 1035).
const MAX_NAME_LEN: usize = 253;
/// Maximum length of a label of a name, in bytes (RFC 1035).
const MAX_LABEL_LEN: usize = 63;

/// A destination outside of an app: `CIDR[:PORT]`, `ADDRESS[:PORT]`, `NAME[:PORT]`, or `host[:PORT]` for this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkTarget {
    /// Where it is.
    pub place: TargetPlace,
    /// TCP and UDP port; `None` for every port and protocol.
    pub port: Option<u16>,
}

/// Where a [`NetworkTarget`] is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetPlace {
    /// This machine, at all of its addresses.
    ThisMachine,
    /// An address or a block of addresses.
    Block(AddressBlock),
    /// A name, which stands for the addresses that it resolves to.
    Name(String),
}

/// Why text is no [`NetworkTarget`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetworkTarget {
    /// It has none of the forms.
    #[error(
        "{0:?} is no network target; write an address, a CIDR block, a name, or `host` for this machine, and :PORT if it is \
         one port: 10.1.2.3:5432, 10.1.0.0/16, [fd00::7]:443, db.example.com:5432, host:5432"
    )]
    Syntax(String),
    /// The block is invalid.
    #[error(transparent)]
    Block(#[from] InvalidAddressBlock),
    /// The address is one that every container uses for itself.
    #[error("{0} is the container itself; write host, or host:PORT, for this machine")]
    Loopback(String),
    /// Nothing can be opened there.
    #[error("{0} is no address of a network service: it is unspecified, multicast, or an IPv4 address in IPv6 form")]
    Special(AddressBlock),
}

impl FromStr for NetworkTarget {
    type Err = InvalidNetworkTarget;

    fn from_str(text: &str) -> Result<Self, InvalidNetworkTarget> {
        let invalid = || InvalidNetworkTarget::Syntax(text.chars().take(80).collect());
        let (place, port) = split(text).ok_or_else(invalid)?;
        let port = match port {
            Some(port) => Some(parse_port(port).ok_or_else(invalid)?),
            None => None,
        };
        // Names are the same in all cases of their letters, and with the dot of the root.
        let name = place.strip_suffix('.').unwrap_or(place).to_ascii_lowercase();
        if name == THIS_MACHINE || name == HOST_NAME {
            return Ok(Self { place: TargetPlace::ThisMachine, port });
        }
        let looks_numeric = place.contains(':') || place.contains('/') || place.parse::<IpAddr>().is_ok();
        if looks_numeric {
            let block = match place.parse() {
                Ok(block) => block,
                Err(InvalidAddressBlock::Syntax(_)) => return Err(invalid()),
                Err(other) => return Err(other.into()),
            };
            check(block)?;
            return Ok(Self { place: TargetPlace::Block(block), port });
        }
        if name == "localhost" || name.ends_with(".localhost") {
            return Err(InvalidNetworkTarget::Loopback(Line::excerpt(&name)));
        }
        if is_name(&name) { Ok(Self { place: TargetPlace::Name(name), port }) } else { Err(invalid()) }
    }
}

/// Separates the port, if there is one. `None` if brackets are not in pairs.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, rest) = rest.split_once(']')?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':')?),
        };
        return inner.contains(':').then_some((inner, port));
    }
    match text.split_once(':') {
        // An IPv6 address or block without a port.
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((place, port)) => Some((place, Some(port))),
        None => Some((text, None)),
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// Refuses blocks in which nothing can be opened.
fn check(block: AddressBlock) -> Result<(), InvalidNetworkTarget> {
    let first = block.first();
    let is_wide = block.bits() == 0;
    if first.is_loopback() {
        return Err(InvalidNetworkTarget::Loopback(block.single().map_or(block.to_string(), |a| a.to_string())));
    }
    let other_form = matches!(first, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if first.is_multicast() || other_form || (first.is_unspecified() && !is_wide) {
        return Err(InvalidNetworkTarget::Special(block));
    }
    Ok(())
}

/// Whether it is a name of the domain name system, and not an address that is not complete.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL_LEN).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= MAX_NAME_LEN && name.split('.').all(is_label) && last.bytes().any(|b| b.is_ascii_alphabetic())
}

impl fmt::Display for NetworkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            TargetPlace::ThisMachine => THIS_MACHINE.to_owned(),
            TargetPlace::Block(block) => block.single().map_or(block.to_string(), |address| address.to_string()),
            TargetPlace::Name(name) => name.clone(),
        };
        match self.port {
            Some(port) if place.contains(':') => write!(f, "[{place}]:{port}"),
            Some(port) => write!(f, "{place}:{port}"),
            None => f.write_str(&place),
        }
    }
}

impl TryFrom<String> for NetworkTarget {
    type Error = InvalidNetworkTarget;

    fn try_from(text: String) -> Result<Self, InvalidNetworkTarget> {
        text.parse()
    }
}

impl From<NetworkTarget> for String {
    fn from(target: NetworkTarget) -> Self {
        target.to_string()
    }
}

impl schemars::JsonSchema for NetworkTarget {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NetworkTarget".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "title": "network target",
            "format": "network-target",
            "description": "CIDR[:PORT], ADDRESS[:PORT], NAME[:PORT], or host[:PORT] for the server's machine",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_written_as_they_are_read() {
        for (text, canonical) in [
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3/32:5432", "10.1.2.3:5432"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.0/8:443", "10.0.0.0/8:443"),
            ("0.0.0.0/0:443", "0.0.0.0/0:443"),
            ("fd00::7", "fd00::7"),
            ("[fd00::7]:443", "[fd00::7]:443"),
            ("[fd00::7]", "fd00::7"),
            ("[fd00::/8]:443", "[fd00::/8]:443"),
            ("fd00::/8", "fd00::/8"),
            ("host", "host"),
            ("host:5432", "host:5432"),
            ("host.paas.internal:5432", "host:5432"),
            ("Host:80", "host:80"),
            ("host.", "host"),
            ("DB.Example.com.:5432", "db.example.com:5432"),
            ("nas", "nas"),
        ] {
            let target: NetworkTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse::<NetworkTarget>().unwrap(), target, "{text}");
        }
    }

    #[test]
    fn what_opens_nothing_is_refused_with_the_reason() {
        for bad in [
            "",
            ":80",
            "10.1.2",
            "10.1.2.3:",
            "10.1.2.3:0",
            "10.1.2.3:70000",
            "10.1.2.3:+5",
            "10.0.0.0/33",
            "a b",
            "-a.example",
            "a..b",
            "[10.1.2.3]:80",
            "[fd00::7",
            "[fd00::7]80",
            "http://db.example.com",
            "x:y",
            "1.2",
        ] {
            let error = bad.parse::<NetworkTarget>().unwrap_err();
            assert!(matches!(error, InvalidNetworkTarget::Syntax(_)), "{bad}: {error}");
        }
        for (bad, reason) in [
            ("127.0.0.1:5432", "127.0.0.1 is the container itself; write host, or host:PORT, for this machine"),
            ("localhost:5432", "localhost is the container itself"),
            ("[::1]:5432", "::1 is the container itself"),
            ("\u{1b}[31m.localhost:1", ".localhost is the container itself"),
            ("0.0.0.0", "0.0.0.0/32 is no address of a network service"),
            ("224.0.0.0/4", "224.0.0.0/4 is no address of a network service"),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.1/128 is no address of a network service"),
            ("10.1.2.3/8:80", "\"10.1.2.3/8\" is no CIDR block: 8 bits of it are 10.0.0.0/8"),
        ] {
            let error = bad.parse::<NetworkTarget>().unwrap_err().to_string();
            assert!(error.starts_with(reason), "{bad}: {error}");
        }
        for bad in [format!("{}.localhost", "a".repeat(500)), format!("10.1.2.3/{}8", "0".repeat(500))] {
            let error = bad.parse::<NetworkTarget>().unwrap_err().to_string();
            assert!(error.chars().count() < 300, "{error}");
        }
    }
}
