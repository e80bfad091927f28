//! The handler of pushes: decides what the update of a ref does.

use std::pin::Pin;

use tokio_util::sync::CancellationToken;

use crate::{
    git::Reader,
    model::{AppName, BranchName, CommitId},
    progress::Progress,
    store::{Actor, App, AppId},
};

/// The app whose repository git serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedApp {
    /// Identity.
    pub id: AppId,
    /// Name, and folder of the repository.
    pub name: AppName,
}

impl From<&App> for ServedApp {
    fn from(app: &App) -> Self {
        Self { id: app.id, name: app.name.clone() }
    }
}

/// The update of one branch that a push asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// The app.
    pub app: ServedApp,
    /// The user who pushes.
    pub pusher: Actor,
    /// Name of the branch.
    pub branch: BranchName,
    /// The branch's commit as the client saw it; `None` if the branch did not exist.
    pub old: Option<CommitId>,
    /// The branch's new commit, which the repository has; `None` to delete the branch.
    pub new: Option<CommitId>,
}

/// Why an update is rejected: one line, which git shows as the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection(pub String);

/// Decides what a push does, and sets the ref itself if it accepts the update.
pub trait PushHandler: Send + Sync + 'static {
    /// Handles one update; `reader` reads the app's repository. `cancel` is cancelled when the client disconnects; an
    /// update past its commit point still completes.
    fn update(
        &self,
        update: RefUpdate,
        reader: &Reader,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<(), Rejection>> + Send;

    /// Learns of a push that asked for no update of a branch: it had only other refs, git refused it before, or the
    /// client left. git's exit status does not tell which; it is 0 if git told the client itself.
    fn ended_without_branch(&self, _app: &ServedApp, _pusher: &Actor, _status: u32) {}
}

type BoxedUpdate<'a> = Pin<Box<dyn Future<Output = Result<(), Rejection>> + Send + 'a>>;

/// [`PushHandler`] as a trait object.
pub(super) trait DynPushHandler: Send + Sync {
    fn boxed_update<'a>(
        &'a self,
        update: RefUpdate,
        reader: &'a Reader,
        progress: &'a Progress,
        cancel: CancellationToken,
    ) -> BoxedUpdate<'a>;

    fn ended_without_branch(&self, app: &ServedApp, pusher: &Actor, status: u32);
}

impl<T: PushHandler> DynPushHandler for T {
    fn boxed_update<'a>(
        &'a self,
        update: RefUpdate,
        reader: &'a Reader,
        progress: &'a Progress,
        cancel: CancellationToken,
    ) -> BoxedUpdate<'a> {
        Box::pin(self.update(update, reader, progress, cancel))
    }

    fn ended_without_branch(&self, app: &ServedApp, pusher: &Actor, status: u32) {
        PushHandler::ended_without_branch(self, app, pusher, status);
    }
}
