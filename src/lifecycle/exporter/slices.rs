//! Which files of the app the patterns of a slice match (buildpack.md, "Slices").

use std::path::{Component, Path, PathBuf};

use crate::lifecycle::files;

/// Files of the app that a slice's pattern matches: relative to the app's folder, or absolute and in it.
pub(super) fn matching(workspace: &Path, pattern: &str) -> Vec<PathBuf> {
    let relative = Path::new(pattern).strip_prefix(workspace).unwrap_or(Path::new(pattern));
    let parts: Option<Vec<&str>> = relative
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| if let Component::Normal(part) = part { part.to_str() } else { None })
        .collect();
    let Some(parts) = parts.filter(|parts| !parts.is_empty()) else { return Vec::new() };
    let mut found = vec![workspace.to_owned()];
    for part in parts {
        found = found
            .into_iter()
            .filter(|folder| folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()))
            .flat_map(|folder| {
                let names = files::names(&folder).unwrap_or_default();
                names.into_iter().filter(|name| glob(part, name)).map(move |name| folder.join(name))
            })
            .collect();
    }
    let mut files = Vec::new();
    for path in found {
        collect(&path, &mut files);
    }
    files
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    files.push(path.to_owned());
    if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        for name in files::names(path).unwrap_or_default() {
            collect(&path.join(name), files);
        }
    }
}

/// Patterns of Go's `filepath.Match`, within one name: `*`, `?`, `[a-z]`, `[^a]`, and `\\` before a character that stands
/// for itself.
fn glob(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    let mut left = name.chars();
    let Some(first) = rest.next() else { return name.is_empty() };
    match first {
        '*' => name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| glob(rest.as_str(), &name[at..])),
        '?' => left.next().is_some() && glob(rest.as_str(), left.as_str()),
        '[' => {
            let Some((class, rest)) = rest.as_str().split_once(']') else { return false };
            let (class, wanted) = class.strip_prefix('^').map_or((class, true), |class| (class, false));
            left.next().is_some_and(|c| in_class(class, c) == wanted) && glob(rest, left.as_str())
        }
        '\\' => rest.next().is_some_and(|c| left.next() == Some(c)) && glob(rest.as_str(), left.as_str()),
        c => left.next() == Some(c) && glob(rest.as_str(), left.as_str()),
    }
}

fn in_class(class: &str, wanted: char) -> bool {
    let chars: Vec<char> = class.chars().filter(|c| *c != '\\').collect();
    let mut at = 0;
    while at < chars.len() {
        let range = chars.get(at + 1) == Some(&'-') && at + 2 < chars.len();
        let last = if range { chars[at + 2] } else { chars[at] };
        if (chars[at]..=last).contains(&wanted) {
            return true;
        }
        at += if range { 3 } else { 1 };
    }
    false
}
