//! The data folder of local builds: where it is, who uses it, and the id under which its builds have resources on the
//! engine.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::error::{LocalError, Result};
use crate::{data_dir, store::Store};

/// Prefix of the server ids of local builds; no server's id has it.
pub(super) const SERVER_ID_PREFIX: &str = "local-";

/// File that is locked while a process builds. Its presence tells a data folder of local builds from another one.
pub(super) const LOCK_FILE: &str = "local.lock";

/// Path of the data folder. git runs as another user, who may not have access to the home of root.
pub(super) fn path() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(cache) = absolute("XDG_CACHE_HOME") {
        return Ok(cache.join("paas"));
    }
    if std::env::var_os("XDG_CACHE_HOME").is_some_and(|cache| !cache.is_empty()) {
        return Err(LocalError::Wrong("XDG_CACHE_HOME is not an absolute path".to_owned()));
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/cache/paas/local".into());
    }
    let home =
        absolute("HOME").ok_or_else(|| LocalError::Wrong("neither XDG_CACHE_HOME nor HOME is set".to_owned()))?;
    Ok(home.join(".cache/paas"))
}

/// Creates the data folder if need be, and locks it for this process.
pub(super) fn lock(data_dir: &Path, git_user: u32) -> Result<File> {
    data_dir::create(data_dir, git_user).map_err(LocalError::file("make", data_dir))?;
    let lock = data_dir::lock(&data_dir.join(LOCK_FILE)).map_err(LocalError::file("lock", data_dir))?;
    lock.ok_or_else(|| LocalError::Running(data_dir.to_owned()))
}

/// The server id with which resources of these builds are labelled on the engine.
pub(super) async fn server_id(data_dir: &Path) -> Result<String> {
    Ok(format!("{SERVER_ID_PREFIX}{}", Store::open(data_dir)?.server_id().await?))
}
