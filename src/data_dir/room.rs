//! Folders of limited size: what is added makes room by removing what is oldest.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What a folder may hold.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Size of its files together, in bytes.
    pub max_bytes: u64,
    /// Number of its files.
    pub max_files: usize,
}

impl Room {
    /// Removes the oldest files of a folder until the rest fits, but not the `newest`. Files that end in `.new`, which are being
    /// written, and folders do not count. Returns the number of removed files. Blocks.
    ///
    /// # Errors
    ///
    /// The folder cannot be read, or a file not be removed.
    pub fn make(self, folder: &Path, newest: &Path) -> io::Result<usize> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(about) if about.is_file() && entry.path().extension().is_none_or(|end| end != "new") => {
                    files.push((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len(), entry.path()));
                }
                // Another task has removed it.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, size, _)| size).sum();
        let mut count = files.len();
        let mut removed = 0;
        for (_, size, path) in files.iter().filter(|(.., path)| path != newest) {
            if bytes <= self.max_bytes && count <= self.max_files {
                break;
            }
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            bytes -= size;
            count -= 1;
            removed += 1;
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_files_make_room_by_number_and_by_size() {
        let dir = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names.into_iter().map(|name| name.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        for (age, name) in ["e", "d", "c", "b", "a"].into_iter().enumerate() {
            let path = dir.path().join(name);
            fs::write(&path, "12345").unwrap();
            let modified = SystemTime::now() - Duration::from_mins(age as u64);
            fs::File::open(path).unwrap().set_modified(modified).unwrap();
        }
        fs::create_dir(dir.path().join("folder")).unwrap();
        fs::write(dir.path().join("f.new"), "much more").unwrap();
        let at = |name: &str| dir.path().join(name);
        let room = |max_bytes, max_files| Room { max_bytes, max_files };
        assert_eq!(room(25, 5).make(dir.path(), &at("e")).unwrap(), 0);
        assert_eq!(room(25, 4).make(dir.path(), &at("a")).unwrap(), 1);
        assert_eq!(names(), "a c d e f.new folder");
        assert_eq!(room(14, 100).make(dir.path(), &at("e")).unwrap(), 2);
        assert_eq!(names(), "d e f.new folder");
    }
}
