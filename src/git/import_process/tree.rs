//! The files of an archive, by path.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::{
    git::protocol::{MAX_FILES, MAX_PATHS_BYTES},
    lifecycle::MAX_DEPTH,
    model::Line,
};

/// Maximum length of a path, and of the target of a link, in bytes: Linux's.
pub(super) const MAX_PATH_LEN: usize = 4095;

/// Number of a file's contents in what `git fast-import` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(pub(super) u64);

/// What a file is; git knows no other modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileMode {
    Regular,
    Executable,
    Symlink,
}

/// A file whose contents git has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) mode: FileMode,
    pub(super) mark: Mark,
    /// Target of a symbolic link.
    pub(super) target: Option<Vec<u8>>,
}

/// The files of an archive.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: BTreeMap<Vec<u8>, File>,
    paths_bytes: usize,
}

/// What the path of an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EntryPath {
    /// A path with slashes between names, and nothing else.
    Valid(Vec<u8>),
    /// The folder itself.
    Root,
    /// Something in a folder `.git`, which git never stores.
    OfGit,
}

/// Reads the path of an entry. The error is what is wrong, after the path.
pub(super) fn entry_path(written: &[u8]) -> Result<EntryPath, &'static str> {
    if written.starts_with(b"/") {
        return Err("is an absolute path; make the archive with tar -C FOLDER .");
    }
    if written.contains(&0) {
        return Err("contains a NUL");
    }
    if written.len() > MAX_PATH_LEN {
        return Err("is longer than 4095 bytes");
    }
    let names: Vec<_> = written.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    if names.contains(&&b".."[..]) {
        return Err("leads out of the archive");
    }
    if names.len() > MAX_DEPTH {
        return Err("lies in more than 100 folders");
    }
    if names.iter().any(|name| name.eq_ignore_ascii_case(b".git")) {
        return Ok(EntryPath::OfGit);
    }
    if names.iter().any(|name| is_like_git(name)) {
        return Err("has a name that other systems take for .git; rename it");
    }
    Ok(if names.is_empty() { EntryPath::Root } else { EntryPath::Valid(names.join(&b'/')) })
}

/// Whether another file system takes the name for `.git`, so that git does not store it (fsck: `hasDotgit`).
fn is_like_git(name: &[u8]) -> bool {
    // NTFS: the short name, an alternate stream, and trailing dots and spaces.
    let base = name.split(|byte| matches!(byte, b':' | b'\\')).next().unwrap_or_default();
    let base = base.trim_ascii_end();
    let trimmed = base.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(&base[..0], |last| &base[..=last]);
    if [&b".git"[..], b"git~1"].iter().any(|git| trimmed.eq_ignore_ascii_case(git)) {
        return true;
    }
    // HFS+ ignores these characters.
    let ignored = |c: &char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let Ok(text) = std::str::from_utf8(name) else { return false };
    text.chars().filter(|c| !ignored(c)).collect::<String>().eq_ignore_ascii_case(".git")
}

impl Tree {
    pub(super) fn files(&self) -> impl Iterator<Item = (&[u8], &File)> {
        self.files.iter().map(|(path, file)| (path.as_slice(), file))
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<&File> {
        self.files.get(path)
    }

    /// Adds a file; one that is there already is replaced, as tar does.
    pub(super) fn add(&mut self, path: Vec<u8>, file: File) -> Result<(), String> {
        self.paths_bytes += path.len();
        match self.files.entry(path) {
            Entry::Occupied(mut there) => {
                there.insert(file);
            }
            Entry::Vacant(free) => {
                free.insert(file);
            }
        }
        if self.files.len() > MAX_FILES || self.paths_bytes > MAX_PATHS_BYTES {
            return Err(format!("has more than {MAX_FILES} files, or longer paths than can be stored"));
        }
        Ok(())
    }

    /// The folder in which all files are; it is left out of their paths then.
    pub(super) fn strip_top_folder(&mut self) -> Option<String> {
        let first = self.files.keys().next()?;
        let top = first[..=first.iter().position(|byte| *byte == b'/')?].to_vec();
        if !self.files.keys().all(|path| path.starts_with(&top)) {
            return None;
        }
        let files = std::mem::take(&mut self.files);
        self.files = files.into_iter().map(|(path, file)| (path[top.len()..].to_vec(), file)).collect();
        Some(String::from_utf8_lossy(&top[..top.len() - 1]).into_owned())
    }

    /// Refuses a file that another one has as its folder, and links that leave the archive.
    pub(super) fn check(&self) -> Result<(), String> {
        for (path, file) in &self.files {
            let folders = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
            for folder in folders {
                if self.files.contains_key(folder) {
                    return Err(format!("has {} as a file and as a folder", shown(folder)));
                }
            }
            let leaves = |target| leaves_root(path, target);
            if file.target.as_deref().is_some_and(leaves) {
                let text = "is a symbolic link that leads out of the archive; remove it, or replace it by a copy";
                return Err(format!("cannot be deployed: {} {text}", shown(path)));
            }
        }
        Ok(())
    }
}

/// Whether the target of a link leads out of the root.
fn leaves_root(link: &[u8], target: &[u8]) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let mut depth = link.iter().filter(|byte| **byte == b'/').count();
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// A path for a message.
pub(super) fn shown(path: &[u8]) -> String {
    format!("{:?}", Line::excerpt(&String::from_utf8_lossy(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalized_and_those_that_lead_elsewhere_are_refused() {
        let valid = |path: &[u8]| entry_path(path).unwrap();
        assert_eq!(valid(b"./a//b/./c"), EntryPath::Valid(b"a/b/c".to_vec()));
        assert_eq!(valid(b"./"), EntryPath::Root);
        assert_eq!(valid(b"a/.GIT/config"), EntryPath::OfGit);
        assert_eq!(valid(b".gitignore"), EntryPath::Valid(b".gitignore".to_vec()));
        let deep = "d/".repeat(MAX_DEPTH) + "f";
        let long = "x".repeat(MAX_PATH_LEN + 1);
        for bad in [
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a\0b",
            "git~1/config",
            ".git. /x",
            ".g\u{200c}it/x",
            ".git::$X",
            &deep,
            &long,
        ] {
            assert!(entry_path(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn links_stay_in_the_archive() {
        for (link, target, leaves) in [
            ("a/b", "../c", false),
            ("a/b", "../../c", true),
            ("b", "..", true),
            ("b", "a/../c", false),
            ("b", "/etc/passwd", true),
            ("a/b", "x/../../..", true),
        ] {
            assert_eq!(leaves_root(link.as_bytes(), target.as_bytes()), leaves, "{link} -> {target}");
        }
    }
}
