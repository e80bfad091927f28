//! Version ranges as npm writes them.

use std::io::{self, Read as _};

use nodejs_semver::{Range, Version};

use super::answer::{Answer, no, wrong};

/// Largest list of versions that is read, in bytes.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// Reads versions from the standard input, a JSON array or one a line, and gives the highest one in the range.
pub(super) fn semver_max(range: &str) -> Answer {
    let range: Range = range.parse().map_err(|_| wrong(format!("{range:?} is not a version range that npm knows")))?;
    let mut text = String::new();
    io::stdin().take(MAX_LIST_BYTES).read_to_string(&mut text).map_err(|e| wrong(e.to_string()))?;
    let versions: Vec<String> = match serde_json::from_str(&text) {
        Ok(versions) => versions,
        Err(_) => text.lines().map(|line| line.trim().trim_matches('"').to_owned()).collect(),
    };
    let in_range =
        versions.iter().filter_map(|v| v.parse::<Version>().ok()).filter(|v| !v.is_prerelease() && range.satisfies(v));
    in_range.max().map(|v| v.to_string()).ok_or_else(no)
}
