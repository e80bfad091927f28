//! Addresses of repositories and images. They may contain credentials, which only who fetches from them gets to see.

use std::fmt;

/// What replaces a value that is not shown.
const HIDDEN: &str = "xxxxx";

/// Length from which a credential is replaced even inside of a word, in bytes.
const MIN_DISTINCT_LEN: usize = 4;

/// The address of a repository, as a user wrote it. `Display` and `Debug` leave out its credentials: the user
/// information, unless it is a mere user name that is no secret (`ssh://git@host`), and the values of its query.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// Wraps an address.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole address, for the program that fetches from it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Replaces this address and its credentials in the message of another program, and leaves out the credentials of
    /// every other URL there.
    #[must_use]
    pub fn hide_in(&self, message: &str) -> String {
        let message = with_shown_urls(&message.replace(&self.0, &self.to_string()));
        self.credentials().iter().fold(message, |message, credential| hide(&message, credential))
    }

    /// Everything in the address that is not shown, as it is written and percent-decoded; the longest first.
    fn credentials(&self) -> Vec<String> {
        let parts = Parts::of(&self.0);
        let userinfo = parts.userinfo.filter(|_| parts.has_secret_userinfo()).unwrap_or_default();
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let query = parts.rest.split_once('?').map_or("", |(_, query)| query);
        let query = query.split(['&', '#']).map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        let written = [userinfo, user, password].into_iter().chain(query).filter(|text| !text.is_empty());
        let mut all: Vec<_> = written.flat_map(|text| [text.to_owned(), percent_decoded(text)]).collect();
        all.sort_by_key(|text| std::cmp::Reverse(text.len()));
        all.dedup();
        all
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = Parts::of(&self.0);
        f.write_str(parts.scheme)?;
        match parts.userinfo {
            // Without a scheme, what stands before the host would look like a part of it.
            Some(_) if parts.has_secret_userinfo() && parts.scheme.is_empty() => write!(f, "{HIDDEN}@")?,
            Some(userinfo) if !parts.has_secret_userinfo() => write!(f, "{userinfo}@")?,
            Some(_) | None => {}
        }
        f.write_str(&without_values(parts.rest))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

/// The reference of an image, as a user wrote it: `registry/name:tag`. `Display` and `Debug` leave out credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageReference(String);

impl ImageReference {
    /// Wraps a reference.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole reference, for the engine.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it contains credentials, with which the engine cannot pull an image.
    pub fn has_credentials(&self) -> bool {
        self.to_string() != self.0
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = Address(format!("{DOCKER}{}", self.0)).to_string();
        f.write_str(shown.strip_prefix(DOCKER).unwrap_or(&shown))
    }
}

impl fmt::Debug for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

/// How the address of an image begins.
const DOCKER: &str = "docker://";

/// The parts of an address.
struct Parts<'a> {
    /// Scheme with `://`; empty if there is none.
    scheme: &'a str,
    /// What stands before the `@` of the host.
    userinfo: Option<&'a str>,
    /// Host, port, path, query and fragment.
    rest: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let is_scheme = |scheme: &str| !scheme.is_empty() && scheme.bytes().all(is_of_scheme);
        let scheme = text.find("://").filter(|&at| is_scheme(&text[..at])).map_or(0, |at| at + "://".len());
        let (scheme, rest) = text.split_at(scheme);
        let at = match scheme {
            "" if rest.starts_with(['/', '.']) => None,
            "" => without_digest(rest).rfind('@'),
            image if image.eq_ignore_ascii_case(DOCKER) => without_digest(rest).rfind('@'),
            // Who does not escape `/`, `?` or `#` in a password ends the host too early.
            _ if !has_valid_port(text) => rest.rfind('@'),
            _ => authority(rest).rfind('@'),
        };
        let (userinfo, rest) = at.map_or((None, rest), |at| (Some(&rest[..at]), &rest[at + 1..]));
        Self { scheme, userinfo, rest }
    }

    /// Whether the user information is more than the name of a user whose key or agent authenticates it.
    fn has_secret_userinfo(&self) -> bool {
        let is_ssh = ["", "ssh://", "git+ssh://", "ssh+git://"].iter().any(|it| self.scheme.eq_ignore_ascii_case(it));
        self.userinfo.is_some_and(|userinfo| !is_ssh || percent_decoded(userinfo).contains(':'))
    }
}

fn is_of_scheme(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+.-".contains(&byte)
}

/// User information, host and port, of what follows the scheme (RFC 3986, section 3.2).
fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Host and port of `scheme://user@host:port/path`; an IPv6 address includes its brackets.
pub fn host_and_port(url: &str) -> Option<(&str, Option<&str>)> {
    let (_, rest) = url.split_once("://")?;
    let host = authority(rest).rsplit('@').next()?;
    Some(match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (host, None),
    })
}

/// Whether the port of a URL, if it has one, is a number.
pub(super) fn has_valid_port(url: &str) -> bool {
    let port = host_and_port(url).and_then(|(_, port)| port);
    port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The reference of an image without its digest: `@sha256:…`.
fn without_digest(reference: &str) -> &str {
    let is_digest = |text: &str| {
        text.split_once(':').is_some_and(|(algorithm, hex)| {
            algorithm.bytes().all(|b| b.is_ascii_alphanumeric())
                && hex.len() >= 32
                && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    };
    reference.rsplit_once('@').filter(|(_, digest)| is_digest(digest)).map_or(reference, |(name, _)| name)
}

/// Hides the values of a query, and words of it that have no name.
fn without_values(rest: &str) -> String {
    let Some((path, query)) = rest.split_once('?') else { return rest.to_owned() };
    let (query, fragment) = query.split_at(query.find('#').unwrap_or(query.len()));
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) => format!("{name}={HIDDEN}"),
        None if pair.is_empty() => String::new(),
        None => HIDDEN.to_owned(),
    });
    format!("{path}?{}{}", pairs.collect::<Vec<_>>().join("&"), without_values(fragment))
}

/// A message whose URLs show no credentials.
pub(super) fn with_shown_urls(message: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || "'\"`<>()".contains(c);
    let mut shown = String::with_capacity(message.len());
    for word in message.split_inclusive(is_end) {
        let url = word.strip_suffix(is_end).unwrap_or(word);
        let scheme = url.find("://").map(|end| {
            let before = url[..end].bytes().rev().take_while(|&byte| is_of_scheme(byte)).count();
            end - before
        });
        match scheme {
            Some(start) => {
                shown.push_str(&url[..start]);
                shown.push_str(&Address::new(&url[start..]).to_string());
                shown.push_str(&word[url.len()..]);
            }
            None => shown.push_str(word),
        }
    }
    shown
}

/// Hides a credential in a message. A short one would also be found within words that have nothing to do with it.
fn hide(message: &str, credential: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut end = 0;
    for (at, found) in message.match_indices(credential) {
        let (before, after) = (&message[..at], &message[at + found.len()..]);
        let is_in_word = before.ends_with(char::is_alphanumeric) || after.starts_with(char::is_alphanumeric);
        shown.push_str(&message[end..at]);
        shown.push_str(if is_in_word && found.len() < MIN_DISTINCT_LEN { found } else { HIDDEN });
        end = at + found.len();
    }
    shown + &message[end..]
}

/// Text with its `%XX` decoded (RFC 3986, section 2.1); bytes that are no UTF-8 are replaced.
fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(value.unwrap_or(byte));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn an_address_is_shown_without_its_credentials() {
        for (text, shown) in [
            ("https://user:s3cret@example.com/x.git#v1:go", "https://example.com/x.git#v1:go"),
            ("https://s3cret@example.com", "https://example.com"),
            ("https://a:s3@cret@example.com/x", "https://example.com/x"),
            ("https://user:s3%40cr%2Fet@example.com/x", "https://example.com/x"),
            ("https://user:s3/cret@example.com/x", "https://example.com/x"),
            ("https://user:s3#cret@example.com/x", "https://example.com/x"),
            ("https://user:s3?cret@example.com/x", "https://example.com/x"),
            ("HTTPS://s3cret@example.com/x", "HTTPS://example.com/x"),
            ("http://user:s3cret@[2001:db8::7]:81/x", "http://[2001:db8::7]:81/x"),
            ("https://example.com/x?token=s3cret", "https://example.com/x?token=xxxxx"),
            (
                "https://u:s3cret@example.com/x?a=s3cret&b=s3=cret&s3cret#v1:go",
                "https://example.com/x?a=xxxxx&b=xxxxx&xxxxx#v1:go",
            ),
            ("https://example.com?token=s3cret@x", "https://example.com?token=xxxxx"),
            ("https://example.com/x#v1?token=s3cret", "https://example.com/x#v1?token=xxxxx"),
            ("https://example.com/x?", "https://example.com/x?"),
            ("https://example.com:8443/@scope/x.git", "https://example.com:8443/@scope/x.git"),
            ("ssh://git@example.com:22/x.git", "ssh://git@example.com:22/x.git"),
            ("ssh://git:s3cret@example.com/x.git", "ssh://example.com/x.git"),
            ("ssh://git%3as3cret@example.com/x.git", "ssh://example.com/x.git"),
            ("ftp://user:s3cret@example.com/x", "ftp://example.com/x"),
            ("git+https://s3cret@example.com/x", "git+https://example.com/x"),
            ("htps://s3cret@example.com/x", "htps://example.com/x"),
            ("git+ssh://git@example.com/x", "git+ssh://git@example.com/x"),
            ("file:///srv/a@b/x.git", "file:///srv/a@b/x.git"),
            ("docker://user:s3cret@example.com/x:1", "docker://example.com/x:1"),
            ("docker://s3cret@example.com/x:1", "docker://example.com/x:1"),
            ("Docker://user:s3/cret@example.com/x", "Docker://example.com/x"),
            ("docker://example.com/x?token=s3cret", "docker://example.com/x?token=xxxxx"),
            ("docker://debian:13", "docker://debian:13"),
            ("user:s3cret@example.com/x", "xxxxx@example.com/x"),
            ("git@example.com:x.git", "git@example.com:x.git"),
            ("/srv/a:b@c/x.cnb", "/srv/a:b@c/x.cnb"),
            ("standard input", "standard input"),
            ("acme/go@1.2", "acme/go@1.2"),
        ] {
            let address = Address::new(text);
            assert_eq!(address.to_string(), shown);
            assert_eq!(format!("{address:?}"), format!("{shown:?}"));
            assert_eq!(address.expose(), text);
        }
    }

    #[test]
    fn the_digest_of_an_image_is_no_credential() {
        for name in ["debian", "debian:13", "example.com:5000/x", "example.com/x:1"] {
            let reference = ImageReference::new(format!("{name}@{DIGEST}"));
            assert_eq!(reference.to_string(), format!("{name}@{DIGEST}"));
            assert!(!reference.has_credentials());
            let secret = ImageReference::new(format!("user:s3cret@{name}@{DIGEST}"));
            assert_eq!(format!("{secret} {secret:?}"), format!("{reference} {reference:?}"));
            assert!(secret.has_credentials());
        }
        assert!(ImageReference::new("s3cret@example.com/x").has_credentials());
    }

    #[test]
    fn messages_of_git_show_no_credentials() {
        let address = "https://us%40er:s3cret@example.com/x?token=t%2Fken&v=1";
        for (message, shown) in [
            (
                "unable to access 'https://us%40er:s3cret@example.com/x?token=t%2Fken&v=1/': The requested URL returned error: 403",
                "unable to access 'https://example.com/x?token=xxxxx&v=xxxxx': The requested URL returned error: 403",
            ),
            (
                "could not read Password for 'https://us%40er@example.com'",
                "could not read Password for 'https://example.com'",
            ),
            ("(https://example.com/y?token=other), s3cret", "(https://example.com/y?token=xxxxx), xxxxx"),
            ("us@er with s3cret, and with t/ken", "xxxxx with xxxxx, and with xxxxx"),
            ("remote error 1 of 11", "remote error xxxxx of 11"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(Address::new(address).hide_in(message), shown);
        }
        let plain = Address::new("ssh://git@example.com/x");
        assert_eq!(plain.hide_in("git: no ssh://git@example.com/x"), "git: no ssh://git@example.com/x");
    }

    #[test]
    fn percent_encoding_is_decoded() {
        for (text, decoded) in [("a%40b", "a@b"), ("%", "%"), ("%4", "%4"), ("%zz%ff", "%zz\u{fffd}"), ("", "")] {
            assert_eq!(percent_decoded(text), decoded);
        }
    }
}
