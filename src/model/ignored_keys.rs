//! Keys of manifests that have no effect: the developer is told each of them, and what to do instead.

use super::first_names;

/// Maximum number of keys that one line names.
const MAX_NAMED: usize = 20;

/// Length from which two letters of a key may be mistyped, in bytes.
const LONG_KEY: usize = 8;

/// Maximum length of the name of a key in a message, and of its path, in characters.
const MAX_KEY_LEN: usize = 60;
const MAX_PATH_LEN: usize = 100;

/// Lines for the developer about keys of a file that have no effect. `advice` gives for a key what to do instead, if there is
/// something.
pub(super) fn lines(file: &str, keys: Vec<String>, advice: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut others = Vec::new();
    for key in keys {
        let shown = shown_path(&key);
        match advice(&key) {
            Some(advice) if lines.len() < MAX_NAMED => lines.push(format!("{file}: {shown} has no effect; {advice}")),
            _ => others.push(shown),
        }
    }
    match others.as_slice() {
        [] => {}
        [key] => lines.push(format!("{file}: the key {key} has no effect")),
        keys => lines.push(format!("{file}: these keys have no effect: {}", listed(keys))),
    }
    lines
}

/// The key that was clearly meant by one that is not known: known keys are rarely mistyped by more than a letter or two.
pub(super) fn meant<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let key = key.to_ascii_lowercase();
    let errors = |known: &&'a str| (strsim::osa_distance(&key, known), *known);
    let (errors, closest) = known.iter().map(errors).min()?;
    let max = if closest.len() < LONG_KEY { 1 } else { 2 };
    (errors <= max).then_some(closest)
}

/// The line for the developer about keys that a file gives more than once, if there are some.
pub(super) fn repeated(file: &str, keys: &[String]) -> Option<String> {
    let shown: Vec<_> = keys.iter().map(|key| shown_path(key)).collect();
    match shown.as_slice() {
        [] => None,
        [key] => {
            Some(format!("{file}: {key} is given more than once; the last one counts, and the others have no effect"))
        }
        keys => Some(format!(
            "{file}: these keys are given more than once; of each the last one counts, and the others have no effect: {}",
            listed(keys)
        )),
    }
}

/// A key in a path: in quotes if it would be unclear without.
pub(super) fn shown_key(key: &str) -> String {
    let key: String = key.chars().take(MAX_KEY_LEN).collect();
    let quoted = format!("{key:?}");
    let is_plain = !key.is_empty() && quoted.len() == key.len() + 2 && !key.contains([' ', '.', ',']);
    if is_plain { key } else { quoted }
}

fn shown_path(path: &str) -> String {
    path.chars().take(MAX_PATH_LEN).collect()
}

fn listed(keys: &[String]) -> String {
    first_names(&keys[..keys.len().min(MAX_NAMED)], keys.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_is_recognised() {
        let known = ["formation", "healthchecks", "scripts", "cron"];
        for (key, expected) in [
            ("helthchecks", Some("healthchecks")),
            ("healthCheck", Some("healthchecks")),
            ("health_checks", Some("healthchecks")),
            ("formaiton", Some("formation")),
            ("script", Some("scripts")),
            ("crno", Some("cron")),
            ("env", None),
            ("icon", None),
            ("format", None),
            ("", None),
        ] {
            assert_eq!(meant(key, &known), expected, "{key}");
        }
    }

    #[test]
    fn an_unclear_key_is_quoted() {
        for (key, shown) in [
            ("web", "web"),
            ("$schema", "$schema"),
            ("größe", "größe"),
            ("", r#""""#),
            (" ", r#"" ""#),
            ("a.b", r#""a.b""#),
            ("a\n\u{1b}[31m", r#""a\n\u{1b}[31m""#),
            ("\u{202e}x", r#""\u{202e}x""#),
            ("a\"b", r#""a\"b""#),
        ] {
            assert_eq!(shown_key(key), shown);
        }
        assert_eq!(shown_key(&"x".repeat(1000)).len(), MAX_KEY_LEN);
    }
}
