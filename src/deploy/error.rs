//! Why a deploy, or another operation on an app, fails.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crate::{
    build::BuildError,
    engine::EngineError,
    git::GitError,
    images::ImageError,
    instances::{InstancesError, RolloutError},
    model::{
        AppName, BranchName, DockerfilePath, InvalidAppJson, InvalidProjectToml, ProcfileError, RefName, Secret,
        TaskName,
    },
    receive::Rejection,
    store::StoreError,
    tasks::TaskError,
    workload::VolumeError,
};

/// Why a push or another operation on an app failed. Each prints as one line for the caller.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The Dockerfile that the app names is not in the commit.
    #[error(
        "{app} has no file {path}, which builds:set names as its Dockerfile: add it, or change that (builds:set {app} dockerfile \
         PATH; if builds:set names a dir, the path begins there)"
    )]
    NoDockerfile {
        /// App.
        app: AppName,
        /// Path of the Dockerfile.
        path: DockerfilePath,
    },
    /// What has the name of the Dockerfile is not one.
    #[error("{path} {instead}: make it a file, or name the Dockerfile (builds:set {app} dockerfile PATH)")]
    DockerfileIsNoFile {
        /// App.
        app: AppName,
        /// Path of the Dockerfile.
        path: DockerfilePath,
        /// What it is.
        instead: &'static str,
    },
    /// The failure was already reported in the build's output; only `failure::report` makes this.
    #[error(transparent)]
    AlreadyReported(Box<DeployError>),
    /// Another push updated the ref first.
    #[error("stale push: {name} is now {actual}: fetch and merge that if it is not yours, then push again")]
    Stale {
        /// The pushed ref.
        name: RefName,
        /// Current state of the ref: at which commit, or deleted.
        actual: String,
    },
    /// The ref cannot be created beside another one.
    #[error(
        "{name} cannot be stored beside {other}, because git keeps a ref as a file; delete one of them, or choose another name"
    )]
    RefConflict {
        /// The pushed ref.
        name: RefName,
        /// The ref that exists, or is pushed, too.
        other: String,
    },
    /// The ref cannot be created beside another one, which the same push deletes.
    #[error(
        "{name} cannot be stored in the push that deletes {other}, because git keeps a ref as a file; push {}{name} again",
        if *.is_atomic { format!("the deletion of {other} first, then push ") } else { String::new() }
    )]
    RefDeletedWithIt {
        /// The pushed ref.
        name: RefName,
        /// The ref that is deleted.
        other: String,
        /// Whether it is not deleted either.
        is_atomic: bool,
    },
    /// Another ref of the same atomic push was refused.
    #[error("{}", Rejection::atomic(.0).0)]
    RefusedWithAnother(RefName),
    /// A ref that is not deployed was not set; several may have the same reason.
    #[error("{0}")]
    NotStored(#[source] Arc<DeployError>),
    /// The deploy branch must not be deleted.
    #[error("{0} is the deploy branch and cannot be deleted; choose another with git:set, or destroy the app")]
    CannotDeleteDeployBranch(BranchName),
    /// The `Procfile` is invalid.
    #[error(transparent)]
    Procfile(#[from] ProcfileError),
    /// The `app.json` is invalid.
    #[error(transparent)]
    Manifest(#[from] InvalidAppJson),
    /// The `project.toml` is invalid.
    #[error(transparent)]
    Project(#[from] InvalidProjectToml),
    /// A manifest is not text.
    #[error("{0} is neither UTF-8 nor UTF-16 text: save it as UTF-8")]
    NotText(String),
    /// The build failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The image declares no process type.
    #[error("the image declares no process to run; add a Procfile with a line such as `web: ./start`")]
    NoProcess,
    /// The volumes of an app cannot be removed.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The release did not become healthy.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// A port is not available.
    #[error("port {port} cannot be opened: {reason}; choose another, or free it")]
    Port {
        /// Port of the router.
        port: u16,
        /// Reason, as the operating system gives it.
        reason: String,
    },
    /// The app has no release that fits the operation.
    #[error("{0}")]
    NoRelease(String),
    /// The stack does not exist.
    #[error("there is no stack {0}; stacks:list lists them, stacks:create makes one")]
    NoStack(String),
    /// The configured default stack does not exist.
    #[error(
        "stack.default in paas.toml names the stack {name}, which does not exist: set it back to {embedded}, start the \
         server, make the stack with stacks:create, then set it again"
    )]
    NoDefaultStack {
        /// Name of the missing stack.
        name: String,
        /// Name of the embedded stack, which always exists.
        embedded: String,
    },
    /// A stack of this name already exists.
    #[error("the stack {0} already exists; stacks:update {0} updates it")]
    StackExists(String),
    /// An app cannot be rebased.
    #[error("{app} cannot be rebased: {reason}")]
    CannotRebase {
        /// Name of the app.
        app: AppName,
        /// Reason, and what to do.
        reason: String,
    },
    /// The app is marked as being destroyed, but could not be removed yet.
    #[error("{0}; the app is destroyed as soon as that is fixed, nothing more needs to be done")]
    Destroying(#[source] Box<DeployError>),
    /// The client disconnected before the commit point.
    #[error("cancelled: the client disconnected before the release was live; nothing changed")]
    Cancelled,
    /// Another caller cancelled the build before the commit point.
    #[error("the build was cancelled by {by} (builds:cancel)")]
    CancelledBy {
        /// Name of the user.
        by: String,
    },
    /// There is no build to cancel.
    #[error("no build of {0} is running; builds:list {0} shows those that have ended")]
    NotBuilding(AppName),
    /// A build cannot be cancelled any more.
    #[error("the build of {0} ended before it could be cancelled; builds:list {0} shows how")]
    BuildEnded(AppName),
    /// The database refused the change, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The image store failed.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// A task of the release phase failed before the release became current.
    #[error("{task}: {reason}; nothing was released, and run:logs {app} {task} shows the output")]
    ReleasePhase {
        /// Name of the task.
        task: TaskName,
        /// Owning app.
        app: AppName,
        /// Why it failed.
        reason: String,
    },
    /// A task cannot be run.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The reconciler failed.
    #[error(transparent)]
    Instances(#[from] InstancesError),
    /// A file of the server cannot be read or written.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// Attempted operation, as a verb.
        act: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
}

/// Length from which a value is replaced in a message, in bytes: a shorter one tells little, and occurs by chance.
const MIN_VALUE_LEN: usize = 6;

/// The same for a line of a value: the shorter ones of settings occur by chance.
const MIN_LINE_LEN: usize = 12;

/// Whether a line of a value tells something that is not in every such file: it is long, and not only markup.
fn is_telling(line: &str) -> bool {
    let texts = line.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    let letters = texts.flat_map(str::chars).filter(|c| c.is_alphanumeric()).count();
    line.len() >= MIN_LINE_LEN && letters >= MIN_VALUE_LEN
}

impl DeployError {
    /// The same with the names of variables in place of their values: the message of a failed build is shown to members who
    /// may not see config vars and bindings, and kept in the audit log.
    pub(super) fn without_values(self, secrets: &BTreeMap<String, Secret>) -> Self {
        let Self::Build(BuildError::Failed { phase, message }) = self else { return self };
        let occurs = |text: &&str| text.len() >= MIN_VALUE_LEN && message.contains(text);
        let parts = |(name, value)| {
            let (name, value): (&String, &Secret) = (name, value);
            // A tool shows a line of a key or of a settings file at most.
            let lines = value.expose().lines().map(str::trim).filter(|line| is_telling(line));
            std::iter::once(value.expose())
                .chain(lines)
                .filter(occurs)
                .map(move |text| (name, text))
                .collect::<Vec<_>>()
        };
        let mut hidden: Vec<_> = secrets.iter().flat_map(parts).collect();
        hidden.sort_by_key(|(_, text)| std::cmp::Reverse(text.len()));
        let replace = |message: String, (name, text): (&String, &str)| message.replace(text, &format!("${name}"));
        Self::Build(BuildError::Failed { phase, message: hidden.into_iter().fold(message, replace) })
    }

    /// The same with the app's name in the commands of a failed build: what runs in its container does not know it.
    pub(super) fn with_app(self, app: &AppName) -> Self {
        let Self::Build(BuildError::Failed { phase, message }) = self else { return self };
        let message = message.replace("config:set --build", &format!("config:set {app} --build"));
        let of_app = |message: String, command: &str| message.replace(command, &command.replace("APP", app.as_str()));
        let message = ["config:set APP", "builds:set APP"].into_iter().fold(message, of_app);
        Self::Build(BuildError::Failed { phase, message })
    }

    /// Whether it only tells that the operation was cancelled.
    pub(super) fn is_cancellation(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Build(BuildError::Cancelled) | Self::Rollout(RolloutError::Cancelled))
    }

    /// Whether another caller cancelled the build.
    pub(super) fn is_cancelled_by_caller(&self) -> bool {
        match self {
            Self::AlreadyReported(error) => error.is_cancelled_by_caller(),
            _ => matches!(self, Self::CancelledBy { .. }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::protocol::Phase;

    #[test]
    fn a_failed_build_tells_the_names_of_variables_and_not_their_values() {
        let env = [("LEVEL", "2"), ("TOKEN", "s3cret"), ("URL", "https://s3cret@db")];
        let env = env.map(|(name, value)| (name.to_owned(), Secret::new(value))).into();
        let message = "Get https://s3cret@db/x?q=s3cret: level 2".to_owned();
        let error = DeployError::from(BuildError::Failed { phase: Phase::Build, message }).without_values(&env);
        assert_eq!(error.to_string(), "Get $URL/x?q=$TOKEN: level 2");

        let message = "builds:set APP dir a, config:set --build A=1".to_owned();
        let error =
            DeployError::from(BuildError::Failed { phase: Phase::Build, message }).with_app(&"shop".parse().unwrap());
        assert_eq!(error.to_string(), "builds:set shop dir a, config:set shop --build A=1");
        assert!(
            is_telling("<password>hunter2</password>")
                && !is_telling("<repositories>")
                && !is_telling("  </repository>")
        );

        let key = Secret::new("-----BEGIN KEY-----\nMIIEvQIBADANBg\n  kqhkiG9w0BAQEF\nAASC\n");
        let message = "bad line MIIEvQIBADANBg, and kqhkiG9w0BAQEF".to_owned();
        let error = DeployError::from(BuildError::Failed { phase: Phase::Build, message });
        let error = error.without_values(&BTreeMap::from([("KEY".to_owned(), key)]));
        assert_eq!(error.to_string(), "bad line $KEY, and $KEY");
    }
}
