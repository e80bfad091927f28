//! Service bindings as the files that a container mounts: in memory, a folder for each workload, which goes with its container.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::Mutex;

use crate::{
    config::Config,
    engine::disk::{DiskError, MemoryFolder, Owner},
    model::Bindings,
};

/// User and group id of root.
const ROOT: Owner = (0, 0);

/// Age from which a folder without a container is left over: before, the container may be about to be created.
const MIN_AGE: Duration = Duration::from_mins(10);

/// The bindings of all workloads on this machine; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct BindingFiles {
    folder: MemoryFolder,
    /// Held while it is mounted.
    mounting: Arc<Mutex<()>>,
}

impl BindingFiles {
    pub(super) fn new(config: &Config) -> Self {
        Self { folder: MemoryFolder::new(config.data_dir.join("bindings")), mounting: Arc::default() }
    }

    /// Forgets the bindings of all workloads.
    pub(super) async fn unmount(config: &Config) -> Result<(), DiskError> {
        Self::new(config).folder.unmount().await
    }

    /// Writes the bindings of a workload whose container does not run yet. Returns their folder.
    pub(super) async fn write(&self, id: &str, bindings: &Bindings, owner: Owner) -> Result<PathBuf, DiskError> {
        let lock = self.mounting.lock().await;
        self.folder.mount().await?;
        drop(lock);
        let (path, bindings) = (self.folder.path().join(id), bindings.clone());
        let written = path.clone();
        in_blocking(path, move |path| write(path, &bindings, owner)).await.map(|()| written)
    }

    /// Removes the bindings of a workload, which has no container any more.
    pub(super) async fn remove(&self, id: &str) -> Result<(), DiskError> {
        in_blocking(self.folder.path().join(id), remove).await
    }

    /// The workloads whose bindings are old enough to be left over, if they have no container.
    pub(super) async fn old(&self) -> Result<HashSet<String>, DiskError> {
        if !self.folder.is_mounted().await? {
            return Ok(HashSet::new());
        }
        in_blocking(self.folder.path().to_owned(), old).await
    }
}

async fn in_blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, DiskError> {
    let told = path.clone();
    let done = tokio::task::spawn_blocking(move || work(&path)).await.map_err(|_| DiskError::Aborted)?;
    done.map_err(|source| DiskError::CannotPrepare { path: told, source })
}

/// Only the user reads the files. Where that is root, all users of the container do: such an image starts programs as others.
fn write(path: &Path, bindings: &Bindings, owner: Owner) -> io::Result<()> {
    let (of_folder, of_file) = if owner == ROOT { (0o555, 0o444) } else { (0o500, 0o400) };
    let finish = |folder: &Path| {
        fs::set_permissions(folder, fs::Permissions::from_mode(of_folder))?;
        chown(folder, Some(owner.0), Some(owner.1))
    };
    remove(path)?;
    fs::create_dir(path)?;
    for (name, binding) in bindings {
        let folder = path.join(name.as_str());
        fs::create_dir(&folder)?;
        for (name, content) in binding.files() {
            let file = folder.join(name);
            io::Write::write_all(
                &mut fs::OpenOptions::new().write(true).create_new(true).mode(of_file).open(&file)?,
                content,
            )?;
            fs::set_permissions(&file, fs::Permissions::from_mode(of_file))?;
            chown(&file, Some(owner.0), Some(owner.1))?;
        }
        finish(&folder)?;
    }
    finish(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn old(folder: &Path) -> io::Result<HashSet<String>> {
    let before = SystemTime::now().checked_sub(MIN_AGE);
    let mut names = HashSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if before.is_some_and(|before| entry.metadata().and_then(|data| data.modified()).is_ok_and(|at| at < before)) {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn bindings(password: &str) -> Bindings {
        let text = format!(r#"{{ "db": {{ "type": "postgresql", "values": {{ "password": "{password}" }} }} }}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn files_are_the_users_alone_and_are_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w1");
        let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        for password in ["AAAA", "BBBB"] {
            write(&path, &bindings(password), own).unwrap();
        }
        assert_eq!(fs::read_to_string(path.join("db/type")).unwrap(), "postgresql");
        assert_eq!(fs::read(path.join("db/password")).unwrap(), [4, 16, 65]);
        let mode = |name: &str| fs::metadata(path.join(name)).unwrap().mode() & 0o777;
        let expected = if own == ROOT { [0o555, 0o444] } else { [0o500, 0o400] };
        assert_eq!([mode("db"), mode("db/password")], expected);
        assert_eq!(old(dir.path()).unwrap(), HashSet::new(), "its container may be about to be created");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn another_user_than_root_has_the_files() {
        if !rustix::process::getuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("w1"), &bindings("AAAA"), (1000, 1001)).unwrap();
        for (name, mode) in [("w1", 0o500), ("w1/db", 0o500), ("w1/db/type", 0o400), ("w1/db/password", 0o400)] {
            let found = fs::metadata(dir.path().join(name)).unwrap();
            assert_eq!((found.mode() & 0o777, found.uid(), found.gid()), (mode, 1000, 1001), "{name}");
        }
    }
}
