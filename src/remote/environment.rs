//! What of this process's environment decides where a command is run.

use std::path::PathBuf;

/// What of this process's environment decides where a command is run.
#[derive(Debug, Default)]
pub struct Environment {
    /// `XDG_CONFIG_HOME`, or `.config` in the home folder (XDG Base Directory specification).
    pub config_home: Option<PathBuf>,
    /// `PAAS_REMOTE`.
    pub remote: Option<String>,
    /// The working directory.
    pub folder: PathBuf,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self {
            config_home: absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config"))),
            remote: std::env::var("PAAS_REMOTE").ok().filter(|name| !name.is_empty()),
            folder: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
        }
    }

    /// The file of the remotes, if there is a folder for it.
    pub fn remotes_file(&self) -> Option<PathBuf> {
        Some(self.config_home.as_ref()?.join("paas/remotes.toml"))
    }
}
