//! Reads files that a buildpack wrote: only regular files of limited size. Also removes and lists folders.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use serde::de::DeserializeOwned;

use crate::model::{Line, decode_text, toml_message};

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Opens a regular file: follows no link, and does not wait for a pipe.
fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Reads a small text file; `None` if it does not exist.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("cannot read {}: {e}", path.display());
    let file = match open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) if path.is_symlink() => return Err(wrong(&"it is a symbolic link; write a regular file")),
        Err(e) => return Err(wrong(&e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| wrong(&e))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(&"it is larger than 1 MiB"));
    }
    decode_text(bytes).map(Some).map_err(|e| wrong(&e))
}

/// Reads a TOML file; the default if it does not exist. The error names the file, the line and the key.
pub(super) fn read_toml<T: DeserializeOwned + Default>(path: &Path) -> Result<T, String> {
    match read_text(path)? {
        None => Ok(T::default()),
        Some(text) => parse_toml(&text).map_err(|e| format!("{}, {e}", path.display())),
    }
}

/// Parses TOML. The error is one line that names the line and the key.
pub(super) fn parse_toml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|e| {
        let message = toml_message(&e);
        let Some(span) = e.span() else { return message };
        let before = text.get(..span.start).unwrap_or(text);
        let number = before.matches('\n').count() + 1;
        let line = text.lines().nth(number - 1).unwrap_or_default();
        match line.split_once('=').map(|(key, _)| key.trim()).filter(|key| !key.is_empty() && key.len() < 100) {
            Some(key) => format!("line {number}, key {}: {message}", Line::excerpt(key)),
            None => format!("line {number}: {message}"),
        }
    })
}

/// Converts TOML to JSON, dates to text: serde would give the parser's internal form.
pub(super) fn json_of(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(yes) => yes.into(),
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(values) => values.into_iter().map(json_of).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, json_of(value))).collect(),
    }
}

/// Whether `<name>.toml` in a buildpack's folder of layers describes a layer.
pub(super) fn is_layer_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/') && !matches!(name, "launch" | "build" | "store")
}

/// A new file in the folder, without a name: nothing else can open it.
pub(super) fn unnamed(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let path = folder.join("unnamed");
    let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Opens a file or folder of ours; if its permissions keep even its owner from reading it, they are changed for that moment.
pub(super) fn readable<T>(path: &Path, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    use std::os::unix::fs::PermissionsExt as _;
    match open() {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let own = fs::metadata(path)?.permissions();
            fs::set_permissions(path, fs::Permissions::from_mode(own.mode() | 0o400))?;
            let opened = open();
            fs::set_permissions(path, own)?;
            opened
        }
        opened => opened,
    }
}

/// Removes everything in a folder except for `except`, but not the folder itself.
pub(super) fn empty(folder: &Path, except: &[&str]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(folder)?.permissions().mode();
    if mode & 0o700 != 0o700 {
        fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o700))?;
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if except.iter().any(|name| entry.file_name() == **name) {
            continue;
        }
        let path = entry.path();
        if entry.file_type()?.is_dir() { remove_tree(&path)? } else { fs::remove_file(&path)? }
    }
    Ok(())
}

/// Depth to which a tree is removed folder by folder.
const USUAL_DEPTH: usize = 100;

/// Removes a tree, even if the permissions of a folder in it forbid that, or if it is deeper than paths and a stack reach.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    fs::symlink_metadata(path)?;
    remove_to_depth(path, USUAL_DEPTH).or_else(|_| remove_level_by_level(path))
}

fn remove_to_depth(path: &Path, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("it is deep"));
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_to_depth(&entry.path(), depth - 1)?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// Empties a folder, and moves the folders of each of its folders beside these, so that no path gets long; then removes it.
fn remove_level_by_level(root: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let open = |folder: &Path| fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    let mut moved =
        (0_u64..).map(|n| root.join(format!("removed-{n}"))).filter(|path| path.symlink_metadata().is_err());
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        open(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            if !entry.file_type()?.is_dir() {
                fs::remove_file(&path)?;
            } else if folder == root {
                folders.push(path);
            } else if let Some(beside) = moved.next() {
                // To be moved, it must be writable itself.
                open(&path)?;
                fs::rename(&path, &beside)?;
                folders.push(beside);
            }
        }
        if folder != root {
            fs::remove_dir(&folder)?;
        }
    }
    fs::remove_dir(root)
}

/// Names in a folder, sorted; none if it does not exist.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn folders_that_builds_leave_are_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let layers = dir.path().join("layers");
        let kept = layers.join("kept");
        fs::create_dir_all(layers.join("closed/inner/removed-0")).unwrap();
        fs::create_dir_all(&kept).unwrap();
        fs::write(layers.join("closed/inner/file"), "").unwrap();
        // Deeper than a path may be long: each new folder is the one above the others.
        let deep = layers.join("deep");
        fs::create_dir(&deep).unwrap();
        for _ in 0..3000 {
            fs::rename(&deep, layers.join("below")).unwrap();
            fs::create_dir(&deep).unwrap();
            fs::rename(layers.join("below"), deep.join("removed-0")).unwrap();
        }
        for folder in ["closed/inner", "closed", "."] {
            fs::set_permissions(layers.join(folder), fs::Permissions::from_mode(0o000)).unwrap();
        }
        empty(&layers, &["kept"]).unwrap();
        assert_eq!(names(&layers).unwrap(), ["kept"]);
        remove_tree(&layers).unwrap();
        assert!(!layers.exists() && remove_tree(&layers).is_err());
    }
}
