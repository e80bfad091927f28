//! The road of a push, in order: source, build, release, instances, ref. Only this module knows the order; the stages
//! do not name each other. What else makes a release (config vars, rollback) or ends an app stands beside it.

mod apps;
mod build_log;
mod checkout;
mod collect;
mod image;
mod locks;
mod manifests;
mod recover;
mod releases;
mod stacks;
mod wishes;

pub use releases::ConfigChange;
pub use stacks::{Rebased, Standing};
pub use wishes::Place;

use std::{path::PathBuf, sync::Arc};

use tokio::sync::{Mutex, RwLock};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use collect::Choosing;
use image::{Made, Reuse};

use crate::{
    build::{BuildError, Builder},
    config::Config,
    engine::{Engine, EngineError},
    git::{GitError, Repositories, Repository},
    images::{ImageError, ImageStore},
    instances::{Instances, InstancesError, RolloutError},
    model::{AppJson, AppName, BranchName, CommitId, Digest, InvalidAppJson, InvalidProjectToml, ProcfileError},
    pause,
    progress::Progress,
    receive::{PushHandler, RefUpdate, Rejection},
    release,
    store::{
        App, AppId, BuildId, NewRelease, PortMapping, PortScheme, ProcessSpec, PushedRelease, ReleaseKind, Store,
        StoreError,
    },
};

/// Why a push, or another change of a release, came to nothing. Each prints as one line for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// What went wrong was told where the build was; only the function that tells it makes this.
    #[error(transparent)]
    Told(Box<DeployError>),
    /// Somebody else's push went first.
    #[error("stale: {branch} is at {actual} by now: fetch and merge that if it is not yours, then push again")]
    Stale {
        /// Where.
        branch: BranchName,
        /// What the branch is at, shortened.
        actual: String,
    },
    /// The deploy branch is not to be deleted.
    #[error("{0} is the deploy branch and cannot be deleted; choose another with git:set, or destroy the app")]
    DeployBranch(BranchName),
    /// The `Procfile` is wrong.
    #[error(transparent)]
    Procfile(#[from] ProcfileError),
    /// The `app.json` is wrong.
    #[error(transparent)]
    Manifest(#[from] InvalidAppJson),
    /// The `project.toml` is wrong.
    #[error(transparent)]
    Project(#[from] InvalidProjectToml),
    /// A manifest is not text.
    #[error("{0} is not UTF-8 text")]
    NotText(String),
    /// The build failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The image declares no process.
    #[error("the image declares no process to run; add a Procfile with a line such as `web: ./start`")]
    NoProcess,
    /// The release did not become healthy.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// A port is not to be had.
    #[error("port {port} cannot be opened: {reason}; choose another, or free it")]
    Port {
        /// Which.
        port: u16,
        /// Why, in the operating system's words.
        reason: String,
    },
    /// There is nothing to roll back to, or to change.
    #[error("{0}")]
    NoRelease(String),
    /// There is no such stack.
    #[error("there is no stack {0}; stacks:list lists them, stacks:create makes one")]
    NoStack(String),
    /// The default stack is not there.
    #[error(
        "stack.default in paas.toml names the stack {name}, which is not there: set it back to {embedded}, start the server, \
         make the stack with stacks:create, then set it again"
    )]
    NoDefaultStack {
        /// Which.
        name: String,
        /// The one that is always there.
        embedded: String,
    },
    /// A stack of this name is there.
    #[error("there is a stack {0} already; stacks:update {0} updates it")]
    StackExists(String),
    /// An app cannot be put on another run image.
    #[error("{app} cannot be rebased: {reason}")]
    CannotRebase {
        /// Which.
        app: AppName,
        /// Why, and what to do.
        reason: String,
    },
    /// It is declared to go, and does not go yet.
    #[error("{0}; it is destroyed as soon as that is mended, nothing more needs to be done")]
    Destroying(#[source] Box<DeployError>),
    /// The client went away before the commit point.
    #[error("cancelled: the client went away before the release was live; nothing changed")]
    Cancelled,
    /// The database said no, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The image store failed.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The reconciler failed.
    #[error(transparent)]
    Instances(#[from] InstancesError),
    /// A file of ours failed.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Deploys; cheap to clone.
#[derive(Clone)]
pub struct Deployer(Arc<Inner>);

struct Inner {
    config: Arc<Config>,
    store: Store,
    engine: Engine,
    repositories: Repositories,
    images: ImageStore,
    builder: Builder,
    instances: Instances,
    pushes: locks::AppLocks,
    releases: locks::AppLocks,
    /// Read while an image is chosen that no release names yet, so that none is swept from under it.
    choosing: Arc<RwLock<()>>,
    /// Held while port mappings are looked at and changed.
    ports: Mutex<()>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl std::fmt::Debug for Deployer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deployer")
    }
}

impl PushHandler for Deployer {
    async fn update(&self, update: RefUpdate, progress: &Progress, cancel: CancellationToken) -> Result<(), Rejection> {
        let result = self.update_ref(&update, progress, &cancel.child_token()).await;
        result.map_err(|error| {
            tracing::info!(app = %update.app, branch = %update.branch, %error, "push refused");
            Rejection(error.to_string())
        })
    }
}

impl Deployer {
    /// Puts the stages together. What goes on in the background is on `tracker` until `shutdown`.
    #[expect(clippy::too_many_arguments, reason = "each is another stage")]
    pub fn new(
        config: Arc<Config>,
        store: Store,
        engine: Engine,
        repositories: Repositories,
        images: ImageStore,
        builder: Builder,
        instances: Instances,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            config,
            store,
            engine,
            repositories,
            images,
            builder,
            instances,
            pushes: locks::AppLocks::default(),
            releases: locks::AppLocks::default(),
            choosing: Arc::default(),
            ports: Mutex::default(),
            tracker,
            shutdown,
        }))
    }

    /// The whole push of one branch. Under the app's push lock, the ref must still be what the client saw.
    async fn update_ref(
        &self,
        update: &RefUpdate,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        let this = &self.0;
        let app = this.store.app_named(update.app.clone()).await?.id;
        let _lock = this.pushes.lock(app, progress, PUSHING, cancel).await?;
        // As it is now: whoever went before may have changed it, or destroyed it.
        let app = this.store.app(app).await?.filter(|app| !app.destroying);
        let app = app.ok_or(DeployError::Rollout(RolloutError::Gone))?;

        let repository = this.repositories.get(&app.name);
        let actual = repository.ref_value(&update.branch).await?;
        if actual != update.old {
            let actual = actual.map_or_else(|| "gone".to_owned(), |commit| commit.short().to_owned());
            return Err(DeployError::Stale { branch: update.branch.clone(), actual });
        }
        let Some(new) = &update.new else {
            if app.deploy_branch.as_ref() == Some(&update.branch) {
                return Err(DeployError::DeployBranch(update.branch.clone()));
            }
            return Ok(repository.delete_ref(&update.branch, update.old.as_ref()).await?);
        };
        // The first branch that is deployed becomes the one that is.
        let deploy_branch = app.deploy_branch.as_ref().unwrap_or(&update.branch);
        if update.branch == *deploy_branch {
            let work = self.deploy_and_set_ref(&app, &repository, new, update, progress, cancel);
            return this.pushes.unless_destroyed(app.id, cancel, work).await;
        }
        let text = format!("{} is stored, not deployed: {deploy_branch} is the deploy branch", update.branch);
        progress.header(text).await;
        progress.detail(format!("git:set {} deploy-branch {} changes it", app.name, update.branch)).await;
        Ok(repository.update_ref(&update.branch, new, update.old.as_ref()).await?)
    }

    async fn deploy_and_set_ref(
        &self,
        app: &App,
        repository: &Repository,
        new: &CommitId,
        update: &RefUpdate,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        // No branch names the commit before the commit point, but it must not be collected if the server dies after it.
        repository.pin_commit(new).await?;
        let deployed = self.deploy(app, new, update, progress, cancel).await;
        // What the store says counts, not what was heard of it.
        let newest = self.0.store.newest_push(app.id).await?;
        let live = newest.filter(|newest| !newest.ref_set && newest.commit == *new && newest.branch == update.branch);
        let Some(release) = live else {
            // A server that ends may still hear of the commit: then its next start lets go.
            if !self.0.shutdown.is_cancelled() {
                repository.unpin_commit().await?;
            }
            return deployed;
        };
        if let Err(error) = deployed {
            tracing::warn!(app = %app.name, %error, "the release is live all the same");
        }
        pause::at("before-ref").await;
        self.set_ref(app, repository, &release, update.old.as_ref()).await
    }

    /// The branch follows the release that is live.
    async fn set_ref(
        &self,
        app: &App,
        repository: &Repository,
        release: &PushedRelease,
        old: Option<&CommitId>,
    ) -> Result<(), DeployError> {
        repository.update_ref(&release.branch, &release.commit, old).await?;
        if app.deploy_branch.is_none() {
            self.0.store.set_deploy_branch(app.id, release.branch.clone(), true).await?;
            repository.set_head(&release.branch).await?;
        }
        self.0.store.note_ref_set(app.id, release.number).await?;
        Ok(repository.unpin_commit().await?)
    }

    /// From a commit to a release that serves.
    async fn deploy(
        &self,
        app: &App,
        commit: &CommitId,
        update: &RefUpdate,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        let _chosen = Choosing::begin(self, app).await;
        let made = self.make_image(app, commit, &update.pusher.name, Reuse::Yes, progress, cancel).await?;
        let source = ReleaseSource {
            kind: ReleaseKind::Push,
            branch: Some(update.branch.clone()),
            commit: commit.clone(),
            by: update.pusher.name.clone(),
        };
        self.release_image(app, made, source, cancel).await
    }

    /// Makes a release of an image, brings it up, and tells how that ends where the build was told.
    async fn release_image(
        &self,
        app: &App,
        made: Made,
        source: ReleaseSource,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        let log = made.log;
        let result = self.release(app, made.image, made.build, &made.manifest, source, log.progress(), cancel).await;
        let result = match result {
            Ok(()) => Ok(()),
            Err(error) => Err(explain(error, app.current.is_some(), log.progress()).await),
        };
        log.close().await;
        result
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different thing that a release is made of")]
    async fn release(
        &self,
        app: &App,
        image: Digest,
        build: BuildId,
        manifest: &AppJson,
        source: ReleaseSource,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        let this = &self.0;
        let _lock = this.releases.lock(app.id, progress, RELEASING, cancel).await?;
        let declared = this.images.processes(&image)?;
        if declared.is_empty() {
            return Err(DeployError::NoProcess);
        }
        for name in release::unknown_types(&declared, manifest) {
            progress.trouble(format!("app.json names the process type {name}, which the image does not have")).await;
        }
        let names = declared.iter().map(|p| p.process_type.as_str()).collect::<Vec<_>>().join(", ");
        progress.step(format!("Process types: {names}")).await;
        let processes = release::processes(declared, this.images.runtime_settings(&image)?, manifest);
        self.tell_ending(app, &processes, progress).await?;
        let ReleaseSource { kind, branch, commit, by } = source;
        let summary = this.repositories.get(&app.name).commit_summary(&commit).await?;
        let new = NewRelease {
            kind,
            image,
            branch,
            description: format!("{} {summary}", commit.short()),
            commit: Some(commit),
            build: Some(build),
            config: this.store.config_vars(app.id).await?,
            processes,
            created_by: by,
        };
        self.bring_up(app, new, progress, cancel).await?;
        self.announce(app, progress).await
    }

    /// Says which of what runs by now a release of these processes ends.
    async fn tell_ending(&self, app: &App, next: &[ProcessSpec], progress: &Progress) -> Result<(), DeployError> {
        let Some(current) = self.current_release(app).await? else { return Ok(()) };
        for (name, quantity) in release::formation(&current.processes, &app.formation) {
            if quantity > 0 && next.iter().all(|spec| spec.process.process_type != name) {
                let text = format!("{name} is no process type any more: what runs of it ends with this release");
                progress.trouble(text).await;
            }
        }
        Ok(())
    }

    /// Where the app answers now.
    async fn announce(&self, app: &App, progress: &Progress) -> Result<(), DeployError> {
        let now = self.0.store.app(app.id).await?;
        if now.is_some_and(|app| app.stopped) {
            return Ok(());
        }
        progress.header("Application deployed:").await;
        let release = self.current_release(app).await?;
        if release.is_some_and(|release| release.processes.iter().all(|p| !p.process.process_type.is_web())) {
            progress.detail("it has no web process, so nothing answers at an address").await;
            if self.0.instances.report(app.id).await?.is_empty() {
                let text = format!("no instance is declared, either: ps:scale {} TYPE=1 starts one", app.name);
                progress.trouble(text).await;
            }
            return Ok(());
        }
        for mapping in self.0.store.port_mappings(app.id).await? {
            progress.detail(self.url(&mapping)).await;
        }
        Ok(())
    }

    /// The address at which a mapped port answers.
    pub fn url(&self, mapping: &PortMapping) -> String {
        let scheme = match mapping.scheme {
            PortScheme::Http => "http",
            PortScheme::Tcp => "tcp",
        };
        format!("{scheme}://{}:{}", self.0.config.hostname, mapping.host_port)
    }

    /// The text of a build's output, in the grammar of pushes.
    pub fn build_log(&self, app: AppId, number: u64) -> PathBuf {
        self.build_logs(app).join(format!("{number}.log"))
    }

    fn build_logs(&self, app: AppId) -> PathBuf {
        self.0.config.data_dir.join("builds").join(app.0.to_string())
    }
}

/// Why there is a release of a commit.
struct ReleaseSource {
    kind: ReleaseKind,
    branch: Option<BranchName>,
    commit: CommitId,
    by: String,
}

const PUSHING: &str = "Another push to this app is under way; waiting for it to end";

const RELEASING: &str = "Another release of this app is being brought up; waiting for it to end";

/// Tells the pusher why nothing changed, with what the failed instance said last, unless that was told; gives it back
/// as told.
async fn explain(error: DeployError, is_live: bool, progress: &Progress) -> DeployError {
    if matches!(error, DeployError::Told(_)) {
        return error;
    }
    if let DeployError::Rollout(RolloutError::Unhealthy { instance, log, .. }) = &error
        && !log.is_empty()
    {
        progress.header(format!("Last output of {instance}:")).await;
        for line in log {
            progress.detail(crate::model::Line::sanitize(line)).await;
        }
    }
    progress.trouble(error.to_string()).await;
    if !matches!(error, DeployError::Rollout(RolloutError::Instances(_)) | DeployError::Store(_)) {
        let still = if is_live { "Nothing changed: what was live before still is" } else { "Nothing is deployed yet" };
        progress.trouble(still).await;
    }
    DeployError::Told(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Line;

    #[tokio::test]
    async fn an_error_is_told_once() {
        let (progress, mut lines) = Progress::channel();
        let (instance, log) = ("web.1".to_owned(), vec!["oops".to_owned()]);
        let unhealthy = RolloutError::Unhealthy { instance, reason: "it ended".to_owned(), hint: None, log };
        let broken = StoreError::NotFound("it is gone".to_owned());
        let unhealthy = explain(unhealthy.into(), true, &progress).await;
        let broken = explain(broken.into(), true, &progress).await;
        let told = [explain(unhealthy, true, &progress).await, explain(broken, true, &progress).await];
        assert_eq!(told.each_ref().map(ToString::to_string), ["web.1 did not become healthy: it ended", "it is gone"]);
        assert!(told.iter().all(|error| matches!(error, DeployError::Told(_))));
        drop(progress);
        let mut said = Vec::new();
        while let Some(line) = lines.recv().await {
            said.push(line);
        }
        let trouble = |text: &str| Line::Trouble(text.to_owned());
        let expected = [
            Line::Header("Last output of web.1:".to_owned()),
            Line::Detail("oops".to_owned()),
            trouble("web.1 did not become healthy: it ended"),
            trouble("Nothing changed: what was live before still is"),
            trouble("it is gone"),
        ];
        assert_eq!(said, expected);
    }
}
