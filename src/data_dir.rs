//! Who may read the data folder: the server, and of it what git needs, the user that git runs as.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

/// Folders in it that hold output, logs and images of apps.
const PRIVATE: [&str; 4] = ["blobs", "builds", "logs", "tasks"];

/// Creates the data folder if necessary. Git's user may pass through it, but not list it; nobody else may do either. Those of
/// earlier versions were open to all users.
///
/// # Errors
///
/// The folder, or one in it, cannot be created or closed to others.
pub fn create(path: &Path, git_user: u32) -> io::Result<()> {
    // The folders above it, where they are missing, let git's user through, too.
    DirBuilder::new().recursive(true).mode(0o711).create(path)?;
    for name in PRIVATE {
        let folder = path.join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, None, Some(git_user))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o710))
}

/// Locks a file of the folder for this process, which creates it if need be; `None` if another process has it. A child of a
/// process that was killed has its locks as well, between fork and exec: that is waited for.
///
/// # Errors
///
/// It cannot be opened, closed to others, or locked.
pub fn lock(path: &Path) -> io::Result<Option<File>> {
    const ATTEMPTS: u32 = 50;
    let file = open_private(path)?;
    for _ in 0..ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// Opens a file for writing that only its owner may read; creates it if necessary.
///
/// # Errors
///
/// It cannot be opened, or closed to others.
pub fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_waited_for_for_a_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path).unwrap().expect("nobody has it");
        assert!(lock(&path).unwrap().is_none());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                drop(held);
            });
            assert!(lock(&path).unwrap().is_some(), "it was released");
        });
    }

    #[test]
    fn other_users_read_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (above, path) = (dir.path().join("above"), dir.path().join("above/data"));
        create(&path, 64_021).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&above), 0o711, "git's user passes through it");
        let open = Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, open.clone()).unwrap();
        std::fs::set_permissions(path.join("tasks"), open).unwrap();
        std::fs::write(path.join("server.lock"), "").unwrap();
        create(&path, 64_021).unwrap();
        open_private(&path.join("server.lock")).unwrap();
        assert_eq!((mode(&path), mode(&path.join("server.lock"))), (0o710, 0o600));
        for name in PRIVATE {
            assert_eq!(mode(&path.join(name)), 0o700, "{name}");
        }
    }
}
