//! The handler of pushes: decides what the updates of refs do.

use std::{fmt, pin::Pin};

use tokio_util::sync::CancellationToken;

use crate::{
    git::Reader,
    model::{AppName, CommitId, RefName},
    progress::Progress,
    store::{Actor, App, AppId, UserId},
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

/// Who pushes, and how much of it.
#[derive(Debug, Clone)]
pub struct Pusher {
    /// Identity.
    pub actor: Actor,
    /// Pushes of this user that may run at a time.
    pub max_pushes: usize,
    /// Maximum size of the app's repository, in bytes.
    pub max_repository_bytes: u64,
}

/// Who fetches, and how much of it.
#[derive(Debug, Clone, Copy)]
pub struct Fetcher {
    /// Identity; without one, the admin at the machine itself.
    pub user: Option<UserId>,
    /// Fetches of this user that may run at a time.
    pub max_fetches: usize,
}

/// All that a push asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedPush {
    /// The app.
    pub app: ServedApp,
    /// The user who pushes.
    pub pusher: Actor,
    /// The refs, in git's order; no two have the same name.
    pub updates: Vec<RefUpdate>,
    /// Whether either all refs are to be updated or none.
    pub atomic: bool,
}

/// The update of one ref that a push asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// Name of the ref.
    pub name: RefName,
    /// What the ref pointed to as the client saw it; `None` if it did not exist.
    pub old: Option<CommitId>,
    /// What the ref is to point to, which the repository has; for a branch it is a commit. `None` to delete the ref.
    pub new: Option<CommitId>,
}

/// Why an update is rejected: one line, which git shows as the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection(pub String);

impl Rejection {
    /// Of a ref of an atomic push of which another ref was refused.
    pub fn atomic(refused: &impl fmt::Display) -> Self {
        Self(format!("not updated, because the push is atomic and {refused} was refused"))
    }

    /// By a server that failed to decide.
    pub(super) fn failed() -> Self {
        Self("the server failed; push again".to_owned())
    }
}

/// Decides what a push does, and sets the refs itself whose updates it accepts.
pub trait PushHandler: Send + Sync + 'static {
    /// Handles a push, and returns a decision for each of its updates, in their order; `reader` reads the app's
    /// repository. `cancel` is cancelled when the client disconnects; a push past its commit point still completes.
    fn push(
        &self,
        push: RequestedPush,
        reader: &Reader,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> impl Future<Output = Vec<Decided>> + Send;

    /// Learns of a push that [`Self::push`] was not asked about: git or the receiver refused it before, or the client
    /// disconnected.
    fn ended_without_update(&self, _app: &ServedApp, _pusher: &Actor) {}
}

/// Whether an update was accepted, and the ref set.
pub type Decided = Result<(), Rejection>;

type BoxedPush<'a> = Pin<Box<dyn Future<Output = Vec<Decided>> + Send + 'a>>;

/// [`PushHandler`] as a trait object.
pub(super) trait DynPushHandler: Send + Sync {
    fn boxed_push<'a>(
        &'a self,
        push: RequestedPush,
        reader: &'a Reader,
        progress: &'a Progress,
        cancel: CancellationToken,
    ) -> BoxedPush<'a>;

    fn ended_without_update(&self, app: &ServedApp, pusher: &Actor);
}

impl<T: PushHandler> DynPushHandler for T {
    fn boxed_push<'a>(
        &'a self,
        push: RequestedPush,
        reader: &'a Reader,
        progress: &'a Progress,
        cancel: CancellationToken,
    ) -> BoxedPush<'a> {
        Box::pin(self.push(push, reader, progress, cancel))
    }

    fn ended_without_update(&self, app: &ServedApp, pusher: &Actor) {
        PushHandler::ended_without_update(self, app, pusher);
    }
}
