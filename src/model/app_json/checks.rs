//! Health checks of an `app.json`: docker-container-healthchecker, docs/file-format.md.

use std::time::Duration;

use super::node::{InvalidAppJson, MAX_WORDS, Node};
use crate::model::{
    CheckHeader, CheckType, DeclaredCheck, Exposure, HealthCheck, HttpProbe, Line, Probe, Scheme,
    ignored_keys::shown_key,
};

/// Longest text that a body can be searched for, in bytes: each attempt may search a MiB for it.
const MAX_CONTENT_LEN: usize = 1000;

/// The keys of a health check.
const CHECK_KEYS: [&str; 17] = [
    "type",
    "name",
    "description",
    "path",
    "content",
    "httpHeaders",
    "scheme",
    "port",
    "command",
    "listening",
    "uptime",
    "initialDelay",
    "attempts",
    "wait",
    "timeout",
    "warn",
    "onFailure",
];

/// Reads a check; notes its keys that change nothing.
pub(super) fn health_check(
    check: &Node<'_>,
    exposure: Exposure,
    unused: &mut Vec<String>,
) -> Result<DeclaredCheck, InvalidAppJson> {
    let check_type = match check.get("type")? {
        None => CheckType::Startup,
        Some(kind) => match kind.string()? {
            "" | "startup" => CheckType::Startup,
            "readiness" => CheckType::Readiness,
            "liveness" => CheckType::Liveness,
            _ => return Err(kind.must("startup, readiness or liveness")),
        },
    };
    let seconds = |key: &str| check.get(key)?.map(|seconds| seconds.seconds()).transpose();
    let probe = probe(check)?;
    let declared = DeclaredCheck {
        check_type,
        name: check
            .get("name")?
            .map(|name| name.string())
            .transpose()?
            .map(Line::sanitize)
            .filter(|name| !name.is_empty()),
        port: check.get("port")?.map(|port| port.port()).transpose()?,
        initial_delay: seconds("initialDelay")?.unwrap_or_default(),
        attempts: check.get("attempts")?.map(|attempts| attempts.integer(1..=HealthCheck::MAX_ATTEMPTS)).transpose()?,
        wait: seconds("wait")?,
        timeout: seconds("timeout")?.map(|timeout| timeout.max(Duration::from_millis(100))),
        warn: check.get("warn")?.map(|warn| warn.boolean()).transpose()?.unwrap_or(false),
        probe,
    };
    note_unused(check, &declared, exposure, unused)?;
    Ok(declared)
}

/// What a check tests. Its four kinds exclude each other.
fn probe(check: &Node<'_>) -> Result<Option<Probe>, InvalidAppJson> {
    let command = check.get("command")?.map(|command| command.words()).transpose()?.filter(|words| !words.is_empty());
    let path = check.get("path")?;
    let uptime = check.get("uptime")?.map(|uptime| uptime.seconds()).transpose()?.filter(|uptime| !uptime.is_zero());
    let listening = check.get("listening")?.map(|listening| listening.boolean()).transpose()?.unwrap_or(false);
    let kinds = [
        ("command", command.is_some()),
        ("path", path.is_some()),
        ("uptime", uptime.is_some()),
        ("listening", listening),
    ];
    let given: Vec<_> = kinds.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
    if let [one, other, ..] = given[..] {
        let text = format!("{} has both {one} and {other}; keep one of the two, or make two checks of it", check.path);
        return Err(InvalidAppJson(text));
    }
    let content = match check.get("content")? {
        Some(content) if content.string()?.len() > MAX_CONTENT_LEN => {
            return Err(content.must(&format!("a text of at most {MAX_CONTENT_LEN} bytes")));
        }
        Some(content) => Some(content.string()?).filter(|text| !text.is_empty()),
        None => None,
    };
    let headers = match check.get("httpHeaders")? {
        Some(headers) => headers.items()?.iter().map(header).collect::<Result<Vec<_>, _>>()?,
        None => Vec::new(),
    };
    if headers.len() > MAX_WORDS {
        let text = format!("{}.httpHeaders has more than {MAX_WORDS} headers; remove some", check.path);
        return Err(InvalidAppJson(text));
    }
    let scheme = match check.get("scheme")? {
        None => Scheme::Http,
        Some(scheme) => match scheme.string()?.to_ascii_lowercase().as_str() {
            "" | "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(scheme.must("http or https")),
        },
    };
    if let Some(path) = path {
        let text = match path.value.as_str() {
            Some(text) if text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') => {
                text.to_owned()
            }
            _ => return Err(path.must("a string that begins with / and has no spaces and no #")),
        };
        return Ok(Some(Probe::Http(HttpProbe { path: text, content: content.map(str::to_owned), headers, scheme })));
    }
    Ok(command.map(Probe::Command).or(uptime.map(Probe::Uptime)).or(listening.then_some(Probe::Tcp)))
}

fn header(entry: &Node<'_>) -> Result<CheckHeader, InvalidAppJson> {
    let required = |key: &str| {
        let missing = || InvalidAppJson(format!("{}.{key} is missing; a header has a name and a value", entry.path));
        entry.get(key)?.ok_or_else(missing)
    };
    let (name, value) = (required("name")?, required("value")?);
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    // RFC 9110, sections 5.1 and 5.5.
    if name.string()?.is_empty() || !name.string()?.bytes().all(is_token) {
        return Err(name.must("the name of a header, such as Host"));
    }
    if !value.string()?.bytes().all(|b| b == b'\t' || (0x20..0x7f).contains(&b)) {
        return Err(value.must("the value of a header: one line of ASCII text"));
    }
    Ok(CheckHeader { name: name.string()?.to_owned(), value: value.string()?.trim().to_owned() })
}

/// Notes the keys of a check that change nothing; refuses a check that could not fail.
fn note_unused(
    check: &Node<'_>,
    declared: &DeclaredCheck,
    exposure: Exposure,
    unused: &mut Vec<String>,
) -> Result<(), InvalidAppJson> {
    let path = &check.path;
    let has = |key: &str| Ok::<_, InvalidAppJson>(check.get(key)?.is_some());
    let mut note = |key: &str, why: &str| {
        unused.push(format!("app.json: {path}.{} has no effect: {why}", shown_key(key)));
    };
    for key in ["content", "httpHeaders", "scheme"] {
        if has(key)? && !matches!(declared.probe, Some(Probe::Http(_))) {
            note(key, "the check sends no request; give it a path");
        }
    }
    let default = HealthCheck::default_for(exposure).probe;
    let probe = declared.probe.as_ref().unwrap_or(&default);
    let connects = match probe {
        Probe::Tcp | Probe::Http(_) => true,
        Probe::Command(_) | Probe::Uptime(_) => false,
    };
    if has("port")? && !connects {
        note("port", "the check connects to no port; give it a path, or listening");
    }
    if matches!(probe, Probe::Uptime(_)) {
        let kind = match declared.check_type {
            CheckType::Startup => None,
            CheckType::Readiness => Some("readiness"),
            CheckType::Liveness => Some("liveness"),
        };
        if let Some(kind) = kind {
            return Err(InvalidAppJson(format!(
                "{path} is a {kind} check that only waits, and only a startup check can; give it a path, a command or listening, \
                 or remove it"
            )));
        }
        for key in ["attempts", "wait", "timeout"] {
            if has(key)? {
                note(key, "the check only waits");
            }
        }
    }
    if has("onFailure")? {
        let why = "paas runs no command and sends no request when a check fails; logs and checks:run tell it";
        note("onFailure", why);
    }
    let object = check.value.as_object();
    for key in object.into_iter().flat_map(serde_json::Map::keys).filter(|key| !CHECK_KEYS.contains(&key.as_str())) {
        let keys = CHECK_KEYS.join(", ");
        note(key, &format!("it is not known; the keys of a check are {keys}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_content_is_refused() {
        let read = |len: usize| {
            let value = serde_json::json!({ "path": "/", "content": "x".repeat(len) });
            let check = Node { path: "healthchecks.web[0]".into(), value: &value };
            health_check(&check, Exposure::PortMappings, &mut Vec::new())
        };
        assert!(read(MAX_CONTENT_LEN).is_ok());
        let error = read(MAX_CONTENT_LEN + 1).unwrap_err().to_string();
        assert!(
            error.starts_with("app.json: healthchecks.web[0].content must be a text of at most 1000 bytes"),
            "{error}"
        );
    }
}
