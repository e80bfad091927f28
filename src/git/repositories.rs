//! All repositories of a server.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{fs, process::Command};

use super::{
    command::output,
    error::{GitError, Result, failed},
    files::{blocking, sync},
    groups::{GATE, Group, Groups},
    program,
    quota::Quota,
    settings,
    usage::Usage,
};
use crate::{config::Config, data_dir, model::AppName};

/// Oldest version of git with the `proc-receive` hook.
const MIN_VERSION: (u32, u32) = (2, 29);

/// All repositories of a server; cheap to clone.
#[derive(Debug, Clone)]
pub struct Repositories(Arc<RepositoriesShared>);

/// State that all clones of [`Repositories`] share.
#[derive(Debug)]
struct RepositoriesShared {
    /// Folder of all repositories.
    dir: PathBuf,
    /// Folder of the settings.
    home: PathBuf,
    program: PathBuf,
    user_id: u32,
    max_source_bytes: u64,
    groups: Arc<Groups>,
    quota: Quota,
    usages: Mutex<HashMap<AppName, Arc<Usage>>>,
}

impl Repositories {
    /// Opens `<data_dir>/repos`, writes the settings, the hook and a copy of this program to `<data_dir>/git`, and checks
    /// the version of git. Only one server may open a data folder. git's processes get control groups named after the server, if
    /// there is one.
    pub async fn open(config: &Config, server_id: Option<&str>) -> Result<Self> {
        Self::open_with(Path::new(program::THIS_PROGRAM), config, server_id).await
    }

    /// The same with another program as the one that reads repositories.
    pub async fn open_with(program: &Path, config: &Config, server_id: Option<&str>) -> Result<Self> {
        let dir = config.data_dir.join("repos");
        let home = config.data_dir.join("git");
        for path in [&dir, &home] {
            fs::create_dir_all(path).await.map_err(failed("create", path))?;
            let (folder, git_user) = (path.clone(), config.user_id);
            let open = move || data_dir::open_to_git(&folder, git_user);
            blocking(open).await.map_err(failed("create", path))?;
        }
        let max_source_bytes = config.build.disk_mib << 20;
        let usages = Mutex::default();
        let (original, installed) = (program.to_owned(), home.join("paas"));
        let program = installed.clone();
        let install = move || program::install(&original, &installed);
        blocking(install).await.map_err(failed("write", &program))?;
        let groups = server_id.map_or_else(|| Groups::none(&config.git), |id| Groups::new(id, &config.git));
        let quota = Quota::new(config);
        let user_id = config.user_id;
        let shared = RepositoriesShared { dir, home, program, user_id, max_source_bytes, groups, quota, usages };
        let repositories = Self(Arc::new(shared));
        let version = repositories.git(&repositories.0.dir, ["--version"]).await;
        let version = version.map_err(|error| match (error, repositories.user_id()) {
            (GitError::Start(e), Some(user)) if e.kind() == io::ErrorKind::PermissionDenied => {
                GitError::NoEntry { user, folder: repositories.0.dir.clone() }
            }
            (other, _) => other,
        })?;
        let version = version.trim();
        match settings::version(version) {
            Some(numbers) if numbers >= MIN_VERSION => {
                settings::write(&repositories.0.home, numbers, config.git.max_push_bytes).await?;
            }
            _ => return Err(GitError::TooOld(version.to_owned())),
        }
        repositories.remove_unfinished().await?;
        Ok(repositories)
    }

    /// Folder of all repositories.
    pub(super) fn dir(&self) -> &Path {
        &self.0.dir
    }

    pub(super) fn path(&self, app: &AppName) -> PathBuf {
        self.0.dir.join(format!("{app}.git"))
    }

    /// This program, which git's user can run, and only root may write: it reads repositories, and is git's hook.
    pub fn program(&self) -> &Path {
        &self.0.program
    }

    /// User that git runs as; `None` if the server does not run as root and cannot choose it.
    pub fn user_id(&self) -> Option<u32> {
        rustix::process::geteuid().is_root().then_some(self.0.user_id)
    }

    /// Maximum size of all files of a commit, in bytes.
    pub(super) fn max_source_bytes(&self) -> u64 {
        self.0.max_source_bytes
    }

    /// Limits of each repository.
    pub(super) fn quota(&self) -> Quota {
        self.0.quota
    }

    /// A control group for the processes of one push, fetch, or other use of a repository.
    pub async fn group(&self) -> Group {
        self.0.groups.group().await
    }

    /// What uses the repository of an app.
    pub(super) fn usage(&self, app: &AppName) -> Arc<Usage> {
        let mut usages = self.0.usages.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(usages.entry(app.clone()).or_default())
    }

    /// Creates the repository of an app unless it exists. The repository appears complete or not at all.
    pub async fn create(&self, app: &AppName) -> Result<()> {
        let path = self.path(app);
        if fs::try_exists(&path).await.map_err(failed("access", &path))? {
            return Ok(());
        }
        let unfinished = self.0.dir.join(format!("{app}.new-{:016x}", rand::random::<u64>()));
        let made = self.init(&unfinished).await;
        let moved = match made {
            Ok(()) => fs::rename(&unfinished, &path).await.map_err(failed("create", &path)),
            Err(error) => Err(error),
        };
        match moved {
            Ok(()) => sync(&[&self.0.dir]).await,
            Err(error) => {
                let _ = fs::remove_dir_all(&unfinished).await;
                // Another task may have created it in the meantime.
                if fs::try_exists(&path).await.unwrap_or(false) { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Initialises a bare repository in a new folder.
    pub(super) async fn init(&self, folder: &Path) -> Result<()> {
        fs::DirBuilder::new().mode(0o700).create(folder).await.map_err(failed("create", folder))?;
        if let Some(id) = self.user_id() {
            let owned = folder.to_owned();
            let change_owner = move || std::os::unix::fs::chown(owned, Some(id), Some(id));
            blocking(change_owner).await.map_err(failed("change the owner of", folder))?;
        }
        self.git(folder, ["init", "--quiet", "--bare", "--template=", "."]).await?;
        let inside =
            ["HEAD", "config", "objects/info", "objects/pack", "objects", "refs/heads", "refs/tags", "refs", ""];
        let paths: Vec<_> = inside.iter().map(|name| folder.join(name)).collect();
        sync(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>()).await
    }

    /// Removes the repository of an app, if it exists. It is renamed first, so that it disappears at once.
    pub async fn remove(&self, app: &AppName) -> Result<()> {
        let path = self.path(app);
        let removed = self.0.dir.join(format!("{app}.gone-{:016x}", rand::random::<u64>()));
        match fs::rename(&path, &removed).await {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(failed("remove", &path))?,
        }
        sync(&[&self.0.dir]).await?;
        let usage = self.0.usages.lock().unwrap_or_else(PoisonError::into_inner).remove(app);
        // A garbage collection after the last push may be running.
        let _lock = match &usage {
            Some(usage) => usage.wait_until_unused().await,
            None => None,
        };
        fs::remove_dir_all(&removed).await.map_err(failed("remove", &removed))
    }

    /// Removes repositories whose creation or removal was interrupted by the death of a server.
    async fn remove_unfinished(&self) -> Result<()> {
        let dir = &self.0.dir;
        let mut entries = fs::read_dir(dir).await.map_err(failed("read", dir))?;
        while let Some(entry) = entries.next_entry().await.map_err(failed("read", dir))? {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.contains(".new-") || name.contains(".gone-") {
                fs::remove_dir_all(entry.path()).await.map_err(failed("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// A git command in a folder, not started. The process is killed when its handle is dropped.
    pub fn command(&self, folder: &Path) -> Command {
        self.child("git", folder)
    }

    /// A git command in a folder that begins in a control group ([`Group::run`]).
    pub(super) fn gated_command(&self, folder: &Path) -> Command {
        let mut command = self.child("sh", folder);
        command.args(["-c", GATE, "sh", "git"]).stdin(Stdio::piped());
        command
    }

    /// A program that runs under the same restrictions as git.
    pub(super) fn child(&self, program: impl AsRef<OsStr>, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.0.home)
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(id) = self.user_id() {
            command.uid(id).gid(id);
        }
        command
    }

    /// Runs git until it ends; returns its standard output.
    pub(super) async fn git<S: AsRef<OsStr>>(
        &self,
        folder: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        let mut command = self.command(folder);
        command.args(arguments);
        output(command).await
    }
}
