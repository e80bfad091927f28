//! Repositories, by children of git: it is the most trusted server of its own protocol. They run unprivileged, in
//! process groups of their own, with an environment that nobody outside decides.

mod repository;
mod source;

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use tokio::process::Command;

pub use repository::Repository;
pub use source::Source;

use crate::{config::Config, model::AppName};

/// The oldest git whose `proc-receive` hook we rely on.
const OLDEST: (u32, u32) = (2, 29);

/// Why git, or a repository, fails.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// git does not start.
    #[error("git does not start: {0}; install it: apt-get install git")]
    Start(#[source] io::Error),
    /// git is too old.
    #[error("git {0} is too old: 2.29 or newer is needed")]
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
    #[error("git said something unexpected: {0}")]
    Unexpected(String),
    /// There is nothing in the commit.
    #[error("the pushed commit has no files; add some, commit and push again")]
    EmptyTree,
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
    hooks: PathBuf,
    user_id: u32,
    max_push_bytes: u64,
}

impl Repositories {
    /// Opens `<data_dir>/repos`; checks that git is there and new enough.
    pub async fn open(config: &Config) -> Result<Self> {
        let dir = config.data_dir.join("repos");
        if !dir.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o711).create(&dir).map_err(failed("make", &dir))?;
        }
        let hooks = config.data_dir.join("hooks");
        let inner = Inner { dir, hooks, user_id: config.user_id, max_push_bytes: config.git.max_push_bytes };
        let repositories = Self(Arc::new(inner));
        let version = repositories.git(&repositories.0.dir, ["--version"]).await?;
        let numbers: Vec<u32> = version
            .trim()
            .trim_start_matches("git version ")
            .split(|c: char| !c.is_ascii_digit())
            .map_while(|n| n.parse().ok())
            .collect();
        match numbers[..] {
            [major, minor, ..] if (major, minor) >= OLDEST => Ok(repositories),
            _ => Err(GitError::TooOld(version.trim().to_owned())),
        }
    }

    /// The repository of an app, which may not be there.
    pub fn get(&self, app: &AppName) -> Repository {
        Repository { repositories: self.clone(), path: self.path(app) }
    }

    fn path(&self, app: &AppName) -> PathBuf {
        self.0.dir.join(format!("{app}.git"))
    }

    /// Makes the app's repository unless it is there, and asserts its configuration.
    pub async fn create(&self, app: &AppName) -> Result<()> {
        let path = self.path(app);
        if !path.exists() {
            let unfinished = self.0.dir.join(format!("{app}.new"));
            if unfinished.exists() {
                fs::remove_dir_all(&unfinished).map_err(failed("remove", &unfinished))?;
            }
            fs::DirBuilder::new().mode(0o700).create(&unfinished).map_err(failed("make", &unfinished))?;
            self.give_away(&unfinished)?;
            self.git(&unfinished, ["init", "--quiet", "--bare", "--initial-branch=main", "--template=", "."]).await?;
            fs::rename(&unfinished, &path).map_err(failed("make", &path))?;
        }
        let config = path.join("config");
        let temporary = path.join("config.new");
        fs::write(&temporary, self.configuration()).map_err(failed("write", &temporary))?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644)).map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &config).map_err(failed("write", &config))
    }

    /// Removes the app's repository, if it is there.
    pub async fn remove(&self, app: &AppName) -> Result<()> {
        for path in [self.path(app), self.0.dir.join(format!("{app}.new"))] {
            match tokio::fs::remove_dir_all(&path).await {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path)(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The design's settings: deploys run in `proc-receive`, objects are checked and on disk before they count, and
    /// what a failed push leaves is removed by [`Repository::gc`] alone. Checks of deletion and of force are ours.
    fn configuration(&self) -> String {
        format!(
            "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\tfsync = all\n\thooksPath = \"{hooks}\"\n\
             [receive]\n\tfsckObjects = true\n\tunpackLimit = 1\n\tautogc = false\n\tprocReceiveRefs = refs/heads\n\
             \tmaxInputSize = {size}\n\tdenyDeletes = false\n\tdenyNonFastForwards = false\n\tdenyCurrentBranch = ignore\n\
             \tdenyDeleteCurrent = ignore\n\tadvertisePushOptions = true\n\
             [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[uploadpack]\n\tallowFilter = true\n",
            hooks = self.0.hooks.display(),
            size = self.0.max_push_bytes,
        )
    }

    fn give_away(&self, path: &Path) -> Result<()> {
        if rustix::process::geteuid().is_root() {
            chown(path, Some(self.0.user_id), Some(self.0.user_id)).map_err(failed("give away", path))?;
        }
        Ok(())
    }

    /// A git command in this folder, not started.
    pub fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new("git");
        command
            .current_dir(folder)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if rustix::process::geteuid().is_root() {
            command.uid(self.0.user_id).gid(self.0.user_id);
        }
        command
    }

    /// Runs git to its end; what it printed.
    async fn git<S: AsRef<OsStr>>(&self, folder: &Path, words: impl IntoIterator<Item = S>) -> Result<String> {
        let mut command = self.command(folder);
        command.args(words);
        let output = command.output().await.map_err(GitError::Start)?;
        if !output.status.success() {
            return Err(command_failed(&command, &output.stderr));
        }
        String::from_utf8(output.stdout).map_err(|_| GitError::Unexpected("not UTF-8".to_owned()))
    }
}

fn command_failed(command: &Command, stderr: &[u8]) -> GitError {
    let word = command.as_std().get_args().next().map_or_else(String::new, |w| w.to_string_lossy().into_owned());
    let text = String::from_utf8_lossy(stderr);
    let message = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    GitError::Command { command: word, message: crate::model::Line::sanitize(message) }
}
