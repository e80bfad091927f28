//! The source in a folder: the files that `git add` would add, in the same form as those of a push.

use std::{
    fs,
    io::Cursor,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::error::{LocalError, Result};
use crate::{
    git::{self, GitError},
    model::Files,
};

/// Modification time of every file, as the buildpack specification gives it.
const MTIME: u64 = 315_532_801;

/// The folder's files as a tar, without those that git ignores.
pub(super) fn tar(folder: &Path, files: &Files) -> Result<Cursor<Vec<u8>>> {
    let wrong = |e: ignore::Error| LocalError::Wrong(e.to_string());
    let is_included = git::file_filter(files).map_err(GitError::from)?;
    let mut walk = ignore::WalkBuilder::new(folder);
    walk.hidden(false).ignore(false).git_global(false).parents(true).require_git(false);
    walk.filter_entry(|entry| entry.file_name() != ".git");
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in walk.build() {
        let entry = entry.map_err(wrong)?;
        let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        if !entry.file_type().is_some_and(|kind| kind.is_dir()) && is_included(relative) {
            paths.push(relative.to_owned());
        }
    }
    if paths.is_empty() {
        return Err(LocalError::Wrong(format!("{} contains no files to build", folder.display())));
    }
    paths.sort();
    let mut tar = tar::Builder::new(Vec::new());
    for path in paths {
        let full = folder.join(&path);
        let metadata = fs::symlink_metadata(&full).map_err(LocalError::file("read", &full))?;
        let mut header = tar::Header::new_gnu();
        header.set_mtime(MTIME);
        header.set_mode(if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 });
        if metadata.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            let target = fs::read_link(&full).map_err(LocalError::file("read", &full))?;
            tar.append_link(&mut header, &path, target).map_err(LocalError::file("add", &full))?;
        } else if metadata.is_file() {
            let bytes = fs::read(&full).map_err(LocalError::file("read", &full))?;
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, &path, &bytes[..]).map_err(LocalError::file("add", &full))?;
        }
    }
    Ok(Cursor::new(tar.into_inner().map_err(LocalError::file("add", folder))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_folder_is_the_same_as_that_of_a_push() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            (".gitignore", "node_modules\n"),
            ("node_modules/x", ""),
            (".git/x", ""),
            ("a", "1"),
            (".env", "2"),
            ("docs/b", "3"),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let names = |files: &Files| {
            let mut archive = tar::Archive::new(tar(dir.path(), files).unwrap());
            let names = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string());
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&Files::All), ".env .gitignore a docs/b");
        assert_eq!(names(&Files::Exclude(vec!["docs/".into(), ".*".into()])), "a");
        assert_eq!(names(&Files::Include(vec!["docs/*".into()])), "docs/b");
        assert!(tar(dir.path(), &Files::Include(vec!["none".into()])).is_err());
    }
}
