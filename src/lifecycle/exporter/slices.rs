//! How slices divide the app's folder (buildpack.md, "Slices"), as in the reference implementation.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use crate::lifecycle::{contributions::Slice, files};

/// The entries of the app's layers: those that each slice takes, then the rest. Paths are relative to the app's folder, which is
/// the empty path, and in the order of the tar.
pub(super) fn divide(app: &Path, slices: &[Slice]) -> io::Result<Vec<Vec<PathBuf>>> {
    let mut folder = AppFolder { all: vec![PathBuf::new()], left: HashMap::new(), taken: HashSet::new() };
    list(app, Path::new(""), &mut folder)?;
    let mut layers: Vec<_> = slices.iter().map(|slice| folder.take(slice)).collect();
    layers.push(folder.all.iter().filter(|path| !folder.taken.contains(*path)).cloned().collect());
    // Not by components, as paths are compared otherwise.
    for layer in &mut layers {
        layer.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    }
    Ok(layers)
}

/// What there is in the app's folder, and what of it slices have taken.
struct AppFolder {
    all: Vec<PathBuf>,
    /// Number of entries of each folder that are not taken.
    left: HashMap<PathBuf, usize>,
    taken: HashSet<PathBuf>,
}

fn list(app: &Path, below: &Path, found: &mut AppFolder) -> io::Result<()> {
    let folder = app.join(below);
    for entry in files::readable(&folder, || fs::read_dir(&folder))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        *found.left.entry(below.to_owned()).or_default() += 1;
        if entry.file_type()?.is_dir() {
            list(app, &path, found)?;
        }
        found.all.push(path);
    }
    Ok(())
}

impl AppFolder {
    /// Takes what the patterns of a slice match, and what is in folders that they match, unless an earlier slice took it. With it
    /// come the folders above, which stay for the other layers as well until all that is in them is taken.
    fn take(&mut self, slice: &Slice) -> Vec<PathBuf> {
        let patterns: Vec<_> = slice.paths.iter().filter_map(|pattern| names(pattern)).collect();
        let is_matched = |path: &Path| {
            let mut upwards = path.ancestors().take_while(|path| !path.as_os_str().is_empty());
            upwards.any(|path| patterns.iter().any(|pattern| matches(pattern, path)))
        };
        let new = self.all.iter().filter(|path| is_matched(path) && !self.taken.contains(*path));
        let new: BTreeSet<PathBuf> = new.cloned().collect();
        for path in &new {
            self.mark_taken(path);
        }
        let above = new.iter().flat_map(|path| path.ancestors().skip(1)).map(Path::to_owned);
        let above: BTreeSet<PathBuf> = above.filter(|path| !new.contains(path)).collect();
        // The deepest first: a folder of folders is taken if they are.
        for folder in above.iter().rev() {
            if self.left.get(folder).is_none_or(|left| *left == 0) {
                self.mark_taken(folder);
            }
        }
        new.into_iter().chain(above).collect()
    }

    fn mark_taken(&mut self, path: &Path) {
        let left = path.parent().and_then(|folder| self.left.get_mut(folder));
        if self.taken.insert(path.to_owned())
            && let Some(left) = left
        {
            *left -= 1;
        }
    }
}

/// A slice's pattern, which may be absolute, relative to the app's folder.
pub(super) fn relative(app: &Path, pattern: &str) -> String {
    Path::new(pattern).strip_prefix(app).map_or_else(|_| pattern.to_owned(), |below| below.display().to_string())
}

/// The names of a pattern's path, cleaned as by Go's `filepath.Clean`; `None` if it leads out of the folder.
fn names(pattern: &str) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    for part in Path::new(pattern).components() {
        match part {
            Component::Normal(name) => names.push(name.to_str()?),
            Component::ParentDir => drop(names.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(names)
}

/// Whether a pattern matches a path; no part of it matches more than one name.
fn matches(pattern: &[&str], path: &Path) -> bool {
    let names: Vec<_> = path.iter().collect();
    names.len() == pattern.len()
        && pattern.iter().zip(names).all(|(pattern, name)| glob(pattern, &name.to_string_lossy()))
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
