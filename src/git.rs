//! Repositories, by children of git: it is the most trusted server of its own protocol. They run unprivileged, in
//! process groups of their own, with an environment that nobody outside decides.
//!
//! Repositories belong to that unprivileged user, so nothing in them is trusted: whatever is written or removed inside
//! one is done by a child, and the settings of all repositories are one file that only root may write.

mod fetch;
mod repository;
mod settings;
mod source;
mod tidy;

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{fs, process::Command};

pub use fetch::{Fetched, Origin, host_and_port};
pub use repository::Repository;
pub use source::{Source, chosen};
pub use tidy::InUse;

use crate::{config::Config, model::AppName};

/// The oldest git whose `proc-receive` hook we rely on.
const OLDEST: (u32, u32) = (2, 29);

/// Why git, or a repository, fails.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The user that git runs as does not get to the repositories.
    #[error(
        "git runs as user {user}, who may not enter {folder}: let others pass through the folders above it (chmod o+x), or \
         keep paas's data elsewhere (data_dir in paas.toml; XDG_CACHE_HOME for paas build)"
    )]
    NoEntry {
        /// Their number.
        user: u32,
        /// Where the repositories are.
        folder: PathBuf,
    },
    /// git does not start.
    #[error("git does not start: {0}; install it: apt-get install git")]
    Start(#[source] io::Error),
    /// git is too old.
    #[error("{0} is too old: 2.29 or newer is needed")]
    TooOld(String),
    /// A git command failed.
    #[error("git {command} failed: {message}")]
    Command {
        /// Its first word.
        command: String,
        /// What it said, in one line.
        message: String,
    },
    /// A file of a repository.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// git said what we do not understand.
    #[error("git said something unexpected: {0:?}")]
    Unexpected(String),
    /// There is nothing in the commit.
    #[error("the pushed commit has no files; add some, commit and push again")]
    EmptyTree,
    /// A repository elsewhere cannot be fetched.
    #[error("cannot fetch {url}: {message}; check the address, and that anybody may read it")]
    Fetch {
        /// Which.
        url: String,
        /// What git said.
        message: String,
    },
    /// A pattern that chooses files is wrong.
    #[error("project.toml, key io.buildpacks.{key}: {message}")]
    Pattern {
        /// `include` or `exclude`.
        key: &'static str,
        /// What is wrong.
        message: String,
    },
    /// There is no such folder in the commit.
    #[error("the pushed commit has no folder {0:?}")]
    NoSuchFolder(String),
    /// So many files that listing them would take the machine down.
    #[error("the pushed commit has more than {0} files or folders; take out what the app does not need")]
    TooManyFiles(usize),
    /// The files would not fit onto a build's disk.
    #[error("the files of the pushed commit come to {} MiB, and a build's disk has {} MiB (build.disk_mib); take out what the app does not need", bytes >> 20, most >> 20)]
    SourceTooLarge {
        /// All files together.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// No Linux file can have such a name, or such a target.
    #[error("{0:?}… is longer than a path, or a symbolic link's target, may be")]
    PathTooLong(String),
    /// A file of a fixed purpose is too large.
    #[error("{path} is larger than {most} bytes; shorten it")]
    TooLarge {
        /// Which.
        path: String,
        /// The limit.
        most: usize,
    },
}

type Result<T, E = GitError> = std::result::Result<T, E>;

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let path = path.to_owned();
    move |source| GitError::File { act, path, source }
}

/// All repositories of a server; cheap to clone.
#[derive(Debug, Clone)]
pub struct Repositories(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    home: PathBuf,
    user_id: u32,
    most_source_bytes: u64,
    uses: Mutex<HashMap<AppName, Arc<tidy::Use>>>,
}

impl Repositories {
    /// Opens `<data_dir>/repos` and writes the settings and the hook of all repositories to `<data_dir>/git`; checks
    /// that git is there and new enough. Only one server may do so for a data folder.
    pub async fn open(config: &Config) -> Result<Self> {
        let dir = config.data_dir.join("repos");
        let home = config.data_dir.join("git");
        for (path, mode) in [(&dir, 0o711), (&home, 0o755)] {
            fs::create_dir_all(path).await.map_err(failed("make", path))?;
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).await.map_err(failed("make", path))?;
        }
        let most_source_bytes = config.build.disk_mib << 20;
        let inner = Inner { dir, home, user_id: config.user_id, most_source_bytes, uses: Mutex::default() };
        let repositories = Self(Arc::new(inner));
        let version = repositories.git(&repositories.0.dir, ["--version"]).await;
        let version = version.map_err(|error| match (error, repositories.user_id()) {
            (GitError::Start(e), Some(user)) if e.kind() == io::ErrorKind::PermissionDenied => {
                GitError::NoEntry { user, folder: repositories.0.dir.clone() }
            }
            (other, _) => other,
        })?;
        let version = version.trim();
        match settings::version(version) {
            Some(numbers) if numbers >= OLDEST => {
                settings::write(&repositories.0.home, numbers, config.git.max_push_bytes).await?;
            }
            _ => return Err(GitError::TooOld(version.to_owned())),
        }
        repositories.remove_unfinished().await?;
        Ok(repositories)
    }

    /// The repository of an app, which may not be there.
    pub fn get(&self, app: &AppName) -> Repository {
        Repository { repositories: self.clone(), app: app.clone(), path: self.path(app) }
    }

    fn path(&self, app: &AppName) -> PathBuf {
        self.0.dir.join(format!("{app}.git"))
    }

    /// Where the settings are, and where the hook's program is put: only root may write there.
    pub fn home(&self) -> &Path {
        &self.0.home
    }

    /// The user that git runs as, if the server may choose.
    pub fn user_id(&self) -> Option<u32> {
        rustix::process::geteuid().is_root().then_some(self.0.user_id)
    }

    fn most_source_bytes(&self) -> u64 {
        self.0.most_source_bytes
    }

    /// Makes the app's repository unless it is there. It appears whole or not at all.
    pub async fn create(&self, app: &AppName) -> Result<()> {
        let path = self.path(app);
        if fs::try_exists(&path).await.map_err(failed("look at", &path))? {
            return Ok(());
        }
        let unfinished = self.0.dir.join(format!("{app}.new-{:016x}", rand::random::<u64>()));
        let made = self.init(&unfinished).await;
        let moved = match made {
            Ok(()) => fs::rename(&unfinished, &path).await.map_err(failed("make", &path)),
            Err(error) => Err(error),
        };
        match moved {
            Ok(()) => sync(&[&self.0.dir]).await,
            Err(error) => {
                let _ = fs::remove_dir_all(&unfinished).await;
                // Somebody else made it meanwhile.
                if fs::try_exists(&path).await.unwrap_or(false) { Ok(()) } else { Err(error) }
            }
        }
    }

    async fn init(&self, folder: &Path) -> Result<()> {
        fs::DirBuilder::new().mode(0o700).create(folder).await.map_err(failed("make", folder))?;
        if let Some(id) = self.user_id() {
            let given = folder.to_owned();
            let give = move || std::os::unix::fs::chown(given, Some(id), Some(id));
            blocking(give).await.map_err(failed("give away", folder))?;
        }
        self.git(folder, ["init", "--quiet", "--bare", "--template=", "."]).await?;
        let inside =
            ["HEAD", "config", "objects/info", "objects/pack", "objects", "refs/heads", "refs/tags", "refs", ""];
        let paths: Vec<_> = inside.iter().map(|name| folder.join(name)).collect();
        sync(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>()).await
    }

    /// Removes the app's repository, if it is there: at once from its place, and then its files.
    pub async fn remove(&self, app: &AppName) -> Result<()> {
        let path = self.path(app);
        let gone = self.0.dir.join(format!("{app}.gone-{:016x}", rand::random::<u64>()));
        match fs::rename(&path, &gone).await {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(failed("remove", &path))?,
        }
        sync(&[&self.0.dir]).await?;
        let uses = self.0.uses.lock().unwrap_or_else(PoisonError::into_inner).remove(app);
        // What the last push left may be collected just now.
        let _alone = match &uses {
            Some(uses) => uses.end().await,
            None => None,
        };
        fs::remove_dir_all(&gone).await.map_err(failed("remove", &gone))
    }

    /// What an earlier server was about to make or to remove when it died.
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

    /// A git command in this folder, not started. It dies with its handle.
    pub fn command(&self, folder: &Path) -> Command {
        self.child("git", folder)
    }

    /// Any program under the rules of git's children.
    fn child(&self, program: &str, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.0.home)
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
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

    /// Runs git to its end; what it printed.
    async fn git<S: AsRef<OsStr>>(&self, folder: &Path, words: impl IntoIterator<Item = S>) -> Result<String> {
        let mut command = self.command(folder);
        command.args(words);
        finish(command).await
    }
}

async fn finish(mut command: Command) -> Result<String> {
    let output = command.output().await.map_err(GitError::Start)?;
    if !output.status.success() {
        return Err(command_failed(&command, &output.stderr));
    }
    String::from_utf8(output.stdout).map_err(|_| GitError::Unexpected("not UTF-8".to_owned()))
}

fn command_failed(command: &Command, stderr: &[u8]) -> GitError {
    let word = command.as_std().get_args().next().map_or_else(String::new, |w| w.to_string_lossy().into_owned());
    let text = String::from_utf8_lossy(stderr);
    // What follows the reason is advice, or the same again.
    let fatal = text.lines().find_map(|line| line.strip_prefix("fatal: "));
    let last = || text.lines().rfind(|line| !line.trim().is_empty());
    let message = fatal.or_else(last).unwrap_or("it said nothing");
    GitError::Command { command: word, message: crate::model::Line::sanitize(message) }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Waits until these files and folders are on disk.
async fn sync(paths: &[&Path]) -> Result<()> {
    for path in paths {
        let file = fs::File::open(path).await.map_err(failed("sync", path))?;
        file.sync_all().await.map_err(failed("sync", path))?;
    }
    Ok(())
}
