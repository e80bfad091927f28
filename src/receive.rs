//! Receiving: git's own server programs as children, and the `proc-receive` hook, whose pkt-lines the server answers.
//! What a push does is decided by a [`PushHandler`]; this module only carries it.

mod child;
pub mod hook;
mod pkt_line;
mod proc_receive;
mod setup;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixListener,
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Config,
    git::{GitError, Repositories, Repository},
    model::{AppName, BranchName, CommitId},
    progress::Progress,
    store::KeyId,
};

/// How long the end of a push waits for its handler once git is gone. What is past its commit point goes on after that.
const LINGER: Duration = Duration::from_secs(30);

/// Hooks that have not said yet whose they are.
const MOST_UNKNOWN_HOOKS: usize = 64;

/// Why receiving cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The hook or its socket.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// git.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Who pushes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pusher {
    /// The name of the key.
    pub name: String,
    /// The key itself.
    pub key: Option<KeyId>,
}

/// What a push wants of one branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// Of which app.
    pub app: AppName,
    /// Who wants it.
    pub pusher: Pusher,
    /// Which branch.
    pub branch: BranchName,
    /// Where the client saw it; `None` if it did not.
    pub old: Option<CommitId>,
    /// Where it should be, which is a commit that the repository has; `None` to delete it.
    pub new: Option<CommitId>,
}

/// Why an update is refused: one line, which git shows as the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection(pub String);

/// Decides what a push does, and sets the ref itself when it is accepted.
pub trait PushHandler: Send + Sync + 'static {
    /// Handles one update. `cancel` fires when the client is gone; what is past its commit point then completes.
    fn update(
        &self,
        update: RefUpdate,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<(), Rejection>> + Send;
}

type Boxed<'a> = Pin<Box<dyn Future<Output = Result<(), Rejection>> + Send + 'a>>;

/// [`PushHandler`], fit for a field.
trait Handler: Send + Sync {
    fn boxed<'a>(&'a self, update: RefUpdate, progress: &'a Progress, cancel: CancellationToken) -> Boxed<'a>;
}

impl<T: PushHandler> Handler for T {
    fn boxed<'a>(&'a self, update: RefUpdate, progress: &'a Progress, cancel: CancellationToken) -> Boxed<'a> {
        Box::pin(self.update(update, progress, cancel))
    }
}

/// What a client's channel is made of.
pub struct Streams {
    /// What the client sends; its end is no hang-up.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// What it gets.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// What it gets beside that.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
}

/// One push, from git's start until its last handler has ended; until then nothing that it brought is collected.
#[derive(Debug)]
struct Push {
    repository: Repository,
    app: AppName,
    pusher: Pusher,
    cancel: CancellationToken,
    /// Something was refused: there may be objects that nothing needs.
    refused: AtomicBool,
    /// git had the whole pack and ran the hook.
    unpacked: AtomicBool,
    /// Its hook's session and its handlers.
    tasks: TaskTracker,
}

/// Serves git's two programs; cheap to clone.
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

struct Inner {
    repositories: Repositories,
    handler: Arc<dyn Handler>,
    /// Pushes whose hook has not come yet, by the hook's nonce.
    expected: Mutex<HashMap<String, Arc<Push>>>,
    socket: PathBuf,
    program: PathBuf,
    largest: u64,
    tracker: TaskTracker,
    unknown_hooks: Arc<Semaphore>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver")
    }
}

impl Receiver {
    /// Listens for hooks, which this program's own file serves as (`hook::run`), until `shutdown`. Pushes under way
    /// go on after that, on `tracker`.
    pub fn start(
        config: &Config,
        repositories: Repositories,
        handler: impl PushHandler,
        tracker: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, ReceiveError> {
        Self::start_with(Path::new(setup::THIS_PROGRAM), config, repositories, handler, tracker, shutdown)
    }

    /// The same with another program as the hook.
    pub fn start_with(
        program: &Path,
        config: &Config,
        repositories: Repositories,
        handler: impl PushHandler,
        tracker: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, ReceiveError> {
        let program = setup::place_program(program, repositories.home())?;
        let socket = config.data_dir.join("hook.sock");
        let listener = setup::listen(&socket, repositories.user_id())?;
        let receiver = Self(Arc::new(Inner {
            repositories,
            handler: Arc::new(handler),
            expected: Mutex::default(),
            socket,
            program,
            largest: config.git.max_push_bytes,
            tracker: tracker.clone(),
            unknown_hooks: Arc::new(Semaphore::new(MOST_UNKNOWN_HOOKS)),
        }));
        tracker.spawn(receiver.clone().accept(listener, shutdown));
        Ok(receiver)
    }

    async fn accept(self, listener: UnixListener, shutdown: CancellationToken) {
        let accepting = async {
            loop {
                let Ok(permit) = Arc::clone(&self.0.unknown_hooks).acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => drop(self.0.tracker.spawn(proc_receive::session(self.clone(), stream, permit))),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a hook");
                        // Out of descriptors, most likely: they come back as connections end.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Serves a `git push`; the exit status for the client. When `hangup` fires, or the future is dropped, git's
    /// children are ended and the handlers are told; what is past its commit point completes.
    pub async fn receive_pack(
        &self,
        app: AppName,
        pusher: Pusher,
        git_protocol: Option<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> u32 {
        let this = self.clone();
        self.owned(hangup, |gone| async move { this.push(app, pusher, git_protocol, streams, gone).await }).await
    }

    /// Serves a `git fetch` or `git clone`; the exit status for the client.
    pub async fn upload_pack(
        &self,
        app: AppName,
        git_protocol: Option<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> u32 {
        let mut command = self.0.repositories.get(&app).command();
        command.args(["upload-pack", "--strict", "."]);
        let mut streams = streams;
        self.owned(hangup, |gone| async move { child::serve(command, git_protocol, &mut streams, &gone).await.status })
            .await
    }

    /// Runs it to its end as a task of its own, which is only told when the caller goes away.
    async fn owned<F>(&self, hangup: CancellationToken, work: impl FnOnce(CancellationToken) -> F) -> u32
    where
        F: Future<Output = u32> + Send + 'static,
    {
        let gone = hangup.child_token();
        let _told = gone.clone().drop_guard();
        self.0.tracker.spawn(work(gone)).await.unwrap_or(child::FAILED)
    }

    async fn push(
        &self,
        app: AppName,
        pusher: Pusher,
        git_protocol: Option<String>,
        mut streams: Streams,
        gone: CancellationToken,
    ) -> u32 {
        let repository = self.0.repositories.get(&app);
        let kept = tokio::select! {
            kept = repository.protect_objects() => kept,
            () = gone.cancelled() => return child::FAILED,
        };
        let push = Arc::new(Push {
            repository: repository.clone(),
            app,
            pusher,
            cancel: gone.child_token(),
            refused: AtomicBool::new(false),
            unpacked: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        });
        let nonce = format!("{:032x}", rand::random::<u128>());
        self.lock().insert(nonce.clone(), Arc::clone(&push));
        let mut command = repository.command();
        command.env("PAAS_HOOK_PROGRAM", &self.0.program).env("PAAS_HOOK_SOCKET", &self.0.socket);
        command.env("PAAS_HOOK_NONCE", &nonce).args(["receive-pack", "."]);
        let ended = child::serve(command, git_protocol, &mut streams, &gone).await;
        self.lock().remove(&nonce);
        if ended.fed > self.0.largest && !push.unpacked.load(Ordering::Acquire) {
            child::say(&mut streams.stderr, &too_large(self.0.largest)).await;
        }

        // git is gone, so nobody waits for the verdict: what is not past its commit point is given up.
        push.cancel.cancel();
        push.tasks.close();
        let clean = ended.status == 0 && !gone.is_cancelled();
        let tasks = push.tasks.clone();
        self.0.tracker.spawn(async move {
            push.tasks.wait().await;
            drop(kept);
            let untidy = !clean || push.refused.load(Ordering::Acquire);
            let tidied = if untidy { repository.gc().await } else { repository.gc_if_needed().await };
            if let Err(error) = tidied {
                tracing::warn!(repository = %repository.path().display(), %error, "cannot tidy up after a push");
            }
        });
        let _ = tokio::time::timeout(LINGER, tasks.wait()).await;
        ended.status
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Push>>> {
        self.0.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_large(limit: u64) -> String {
    let limit = match limit {
        _ if limit >= 1 << 30 => format!("{}.{} GiB", limit >> 30, ((limit % (1 << 30)) * 10) >> 30),
        _ if limit >= 1 << 20 => format!("{}.{} MiB", limit >> 20, ((limit % (1 << 20)) * 10) >> 20),
        _ => format!("{limit} bytes"),
    };
    format!(
        "The pack is larger than {limit} (git.max_push_bytes): push less history at a time, or take large files out"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_said_in_a_unit_that_fits() {
        assert!(too_large(2 << 30).starts_with("The pack is larger than 2.0 GiB (git.max_push_bytes)"));
        assert!(too_large(3 << 19).contains("1.5 MiB"));
        assert!(too_large(1000).contains("1000 bytes"));
    }
}
