//! Keys of manifests that have no effect: the developer is told each of them, and what to do instead.

use super::Line;

/// Maximum number of keys that one line names.
const MAX_NAMED: usize = 20;

/// Lines for the developer about keys of a file that have no effect. `advice` gives for a key what to do instead, if there is
/// something.
pub(super) fn lines(file: &str, keys: Vec<String>, advice: impl Fn(&str) -> Option<&'static str>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut others = Vec::new();
    for key in keys {
        let shown: String = Line::sanitize(&key).chars().take(100).collect();
        match advice(&key) {
            Some(advice) if lines.len() < MAX_NAMED => lines.push(format!("{file}: {shown} has no effect; {advice}")),
            _ => others.push(shown),
        }
    }
    let more = others.len().saturating_sub(MAX_NAMED);
    others.truncate(MAX_NAMED);
    if more > 0 {
        others.push(format!("and {more} more"));
    }
    match others.as_slice() {
        [] => {}
        [key] => lines.push(format!("{file}: the key {key} has no effect")),
        keys => lines.push(format!("{file}: these keys have no effect: {}", keys.join(", "))),
    }
    lines
}
