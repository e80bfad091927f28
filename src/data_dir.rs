//! The data folder: who may read it (the server and, of it what git needs, the user that git runs as), and how much room there is.

mod floor;
mod room;
mod usage;

pub use floor::{BelowFloor, DiskFloor};
pub use room::Room;
pub use usage::{FreeSpace, TreeUsage, disk_usage, free_bytes};

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::Path,
    time::Duration,
};

use rustix::fs::Mode;

/// Folders in it that hold output, logs and images of apps.
const PRIVATE: [&str; 4] = ["blobs", "builds", "logs", "tasks"];

/// Folders in it that git's user passes through: its repositories, settings and program.
const OF_GIT: [&str; 2] = ["git", "repos"];

/// Files in it without secrets that are mounted into containers, where every user must be able to read them.
const MOUNTED: [&str; 2] = ["build-ca-certificates.pem", "resolv.conf"];

/// From now on, what this process and its children create is closed to other users, unless its mode is set.
pub fn close_new_files() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Creates the data folder if necessary, and closes it and what is in it, also if an earlier version had left it open. Git's
/// user may pass through it, but not list it; nobody else may do either.
///
/// # Errors
///
/// The folder, or something in it, cannot be created or closed to others.
pub fn create(path: &Path, git_user: u32) -> io::Result<()> {
    if !path.exists() {
        create_private(path)?;
    }
    for name in PRIVATE {
        DirBuilder::new().recursive(true).mode(0o700).create(path.join(name))?;
    }
    open_to_git(path, git_user)?;
    // What is below these entries is closed with them.
    for entry in fs::read_dir(path)? {
        match close(&entry?, git_user) {
            // A router, or a helper of it, has just replaced or removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            closed => closed?,
        }
    }
    Ok(())
}

/// Creates a folder that only its owner may enter, or closes it. Where folders above it are missing, they let other users,
/// such as git's, through.
///
/// # Errors
///
/// It cannot be created, or closed to others.
pub fn create_private(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), create_passable)?;
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Creates missing folders so that other users pass through them, whatever the umask.
fn create_passable(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), create_passable)?;
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o711))
}

/// Closes an entry of the data folder.
fn close(entry: &fs::DirEntry, git_user: u32) -> io::Result<()> {
    let (path, name, kind) = (entry.path(), entry.file_name(), entry.file_type()?);
    if kind.is_symlink() || MOUNTED.iter().any(|mounted| name == *mounted) {
        // The mode of a link is that of what it leads to, which is not ours.
        return Ok(());
    }
    if OF_GIT.iter().any(|of_git| name == *of_git) {
        return open_to_git(&path, git_user);
    }
    fs::set_permissions(&path, Permissions::from_mode(if kind.is_dir() { 0o700 } else { 0o600 }))
}

/// Lets git's user pass through a folder, and nobody else.
///
/// # Errors
///
/// Group or mode of the folder cannot be changed.
pub fn open_to_git(folder: &Path, git_user: u32) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        chown(folder, None, Some(git_user))?;
    }
    fs::set_permissions(folder, Permissions::from_mode(0o710))
}

/// Removes a file, or a folder with all in it, if it exists.
///
/// # Errors
///
/// It cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&above), 0o711, "git's user passes through it");
        for name in ["tasks", "repos", "git", "buildpacks", "downloads", "lost+found"] {
            fs::create_dir_all(path.join(name)).unwrap();
            fs::set_permissions(path.join(name), Permissions::from_mode(0o755)).unwrap();
        }
        for name in ["server.lock", "paas.db", "ssh_host_ed25519_key", "resolv.conf"] {
            fs::write(path.join(name), "").unwrap();
            fs::set_permissions(path.join(name), Permissions::from_mode(0o644)).unwrap();
        }
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "").unwrap();
        fs::set_permissions(&outside, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&outside, path.join("link")).unwrap();

        create(&path, 64_021).unwrap();
        assert_eq!(mode(&path), 0o710);
        assert_eq!(mode(&outside), 0o644, "what a link leads to is not ours");
        for entry in fs::read_dir(&path).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != "link") {
            let expected = match entry.file_name().to_str().unwrap() {
                "repos" | "git" => 0o710,
                "resolv.conf" => 0o644,
                _ if entry.path().is_dir() => 0o700,
                _ => 0o600,
            };
            assert_eq!(mode(&entry.path()), expected, "{}", entry.path().display());
        }
    }
}
