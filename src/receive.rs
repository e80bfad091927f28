//! Receiving: git's server programs as children, and the `proc-receive` hook, whose pkt-lines the server answers.
//! A [`PushHandler`] decides what a push does; this module only transports it.

mod child;
mod error;
mod git_turns;
mod handler;
pub mod hook;
mod hook_server;
mod imports;
mod pack_limit;
mod pkt_line;
mod proc_receive;
mod push;
mod setup;
mod shallow;

pub use child::Streams;
pub use error::ReceiveError;
pub use handler::{Decided, Fetcher, PushHandler, Pusher, RefUpdate, Rejection, RequestedPush, ServedApp};
pub use imports::{Import, ImportError, Imports};

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{config::Config, git::Repositories};
use git_turns::{GitTurns, GitUse};
use handler::DynPushHandler;
use hook_server::HookServer;
use pack_limit::PackLimit;
use push::{ExpectedPushes, Push};

/// Time that a push waits for its handlers after git has ended. A handler past its commit point goes on after that.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs git's server programs; cheap to clone.
#[derive(Clone)]
pub struct Receiver(Arc<ReceiverShared>);

struct ReceiverShared {
    repositories: Repositories,
    handler: Arc<dyn DynPushHandler>,
    expected: Arc<ExpectedPushes>,
    hook_socket: PathBuf,
    hook_program: PathBuf,
    max_push_bytes: u64,
    push_turns: Arc<GitTurns>,
    fetch_turns: GitTurns,
    tracker: TaskTracker,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver")
    }
}

impl Receiver {
    /// Listens for hooks until `shutdown`; the hook is this program itself (`hook::run`). Running pushes go on after
    /// that, on `tracker`.
    pub fn start(
        config: &Config,
        repositories: Repositories,
        handler: impl PushHandler,
        imports: &Imports,
        tracker: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, ReceiveError> {
        let program = repositories.program().to_owned();
        Self::start_with(program, config, repositories, handler, imports, tracker, shutdown)
    }

    /// The same with another program as the hook, which git's user can run.
    pub fn start_with(
        hook_program: PathBuf,
        config: &Config,
        repositories: Repositories,
        handler: impl PushHandler,
        imports: &Imports,
        tracker: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, ReceiveError> {
        let hook_socket = config.data_dir.join("hook.sock");
        let git_user = repositories.user_id();
        let listener = setup::listen(&hook_socket, git_user)?;
        let expected = Arc::<ExpectedPushes>::default();
        let handler: Arc<dyn DynPushHandler> = Arc::new(handler);
        let hooks = HookServer::new(Arc::clone(&handler), Arc::clone(&expected), git_user, tracker.clone());
        tracker.spawn(Arc::new(hooks).serve(listener, shutdown));
        Ok(Self(Arc::new(ReceiverShared {
            repositories,
            handler,
            expected,
            hook_socket,
            hook_program,
            max_push_bytes: config.git.max_push_bytes,
            push_turns: imports.turns(),
            fetch_turns: GitTurns::new(GitUse::Fetch, &config.git),
            tracker: tracker.clone(),
        })))
    }

    /// Serves a `git push`. Returns the exit status for the client. When `hangup` is cancelled or the future is
    /// dropped, git's children are ended and the handlers are cancelled; an update past its commit point completes.
    pub async fn receive_pack(
        &self,
        app: ServedApp,
        pusher: Pusher,
        git_protocol: Option<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> u32 {
        let this = self.clone();
        self.run_task(hangup, |disconnected| async move {
            this.push(app, pusher, git_protocol, streams, disconnected).await
        })
        .await
    }

    /// Serves a `git fetch` or `git clone`. Returns the exit status for the client.
    pub async fn upload_pack(
        &self,
        app: ServedApp,
        fetcher: Fetcher,
        git_protocol: Option<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> u32 {
        let this = self.clone();
        self.run_task(hangup, |disconnected| async move {
            this.fetch(app, fetcher, git_protocol, streams, disconnected).await
        })
        .await
    }

    /// Runs work to its end in a task of its own; if the caller goes away, its token is cancelled.
    async fn run_task<F>(&self, hangup: CancellationToken, work: impl FnOnce(CancellationToken) -> F) -> u32
    where
        F: Future<Output = u32> + Send + 'static,
    {
        let disconnected = hangup.child_token();
        let _cancel_when_dropped = disconnected.clone().drop_guard();
        self.0.tracker.spawn(work(disconnected)).await.unwrap_or(child::FAILED)
    }

    async fn fetch(
        &self,
        app: ServedApp,
        fetcher: Fetcher,
        git_protocol: Option<String>,
        mut streams: Streams,
        disconnected: CancellationToken,
    ) -> u32 {
        let this = &self.0;
        let turn = tokio::select! {
            turn = this.fetch_turns.turn(fetcher.user, fetcher.max_fetches, &mut streams.stderr) => turn,
            () = disconnected.cancelled() => return child::FAILED,
        };
        let _turn = match turn {
            Ok(turn) => turn,
            Err(error) => {
                child::report(&mut streams.stderr, &error.to_string()).await;
                return child::FAILED;
            }
        };
        let group = this.repositories.group().await;
        let mut command = this.repositories.get(&app.name).command();
        command.args(["upload-pack", "--strict", "."]);
        child::serve(command, &group, git_protocol, &mut streams, None, &disconnected).await.status
    }

    async fn push(
        &self,
        app: ServedApp,
        pusher: Pusher,
        git_protocol: Option<String>,
        mut streams: Streams,
        disconnected: CancellationToken,
    ) -> u32 {
        let this = &self.0;
        let Pusher { actor: pusher, max_pushes, max_repository_bytes } = pusher;
        let repository = this.repositories.get(&app.name).limited_to(max_repository_bytes);
        let turn = tokio::select! {
            turn = this.push_turns.turn(pusher.user, max_pushes, &mut streams.stderr) => turn,
            () = disconnected.cancelled() => return child::FAILED,
        };
        let turn = match turn {
            Ok(turn) => turn,
            Err(error) => {
                child::report(&mut streams.stderr, &error.to_string()).await;
                this.handler.ended_without_update(&app, &pusher);
                return child::FAILED;
            }
        };
        let kept = tokio::select! {
            kept = repository.protect_objects() => kept,
            () = disconnected.cancelled() => return child::FAILED,
        };
        let limit = PackLimit::of(&repository, this.max_push_bytes);
        let (limit, group) = tokio::join!(limit, this.repositories.group());
        let push = Arc::new(Push {
            repository: repository.clone(),
            reader: repository.reader_in(&group),
            app,
            pusher,
            cancel: disconnected.child_token(),
            rejected: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            unpacked: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        });
        // It starts, and joins the control group, while the client makes its pack.
        push.reader.start().await;
        let nonce = this.expected.expect(&push);
        let mut command = repository.command();
        command.env("PAAS_HOOK_PROGRAM", &this.hook_program).env("PAAS_HOOK_SOCKET", &this.hook_socket);
        command.env("PAAS_HOOK_NONCE", &nonce);
        command.arg("-c").arg(format!("receive.maxInputSize={}", limit.bytes())).args(["receive-pack", "."]);
        let ended = child::serve(command, &group, git_protocol, &mut streams, Some(&push.reader), &disconnected).await;
        this.expected.forget(&nonce);
        if ended.received > limit.bytes() && !push.unpacked.load(Ordering::Acquire) {
            child::report(&mut streams.stderr, &limit.to_string()).await;
        }

        // git has ended, so the verdict has no recipient: updates before their commit point are cancelled.
        push.cancel.cancel();
        push.tasks.close();
        let is_clean = ended.status == 0 && !disconnected.is_cancelled();
        let (tasks, ended_push) = (push.tasks.clone(), Arc::clone(&push));
        this.tracker.spawn(async move {
            push.tasks.wait().await;
            drop((kept, turn));
            if push.deleted.load(Ordering::Acquire) {
                repository.refs_were_deleted();
            }
            let may_have_garbage = !is_clean || push.rejected.load(Ordering::Acquire);
            let tidied = if may_have_garbage { repository.gc().await } else { repository.gc_if_needed().await };
            if let Err(error) = tidied {
                tracing::warn!(repository = %repository.path().display(), %error, "cannot clean up after a push");
            }
        });
        let _ = tokio::time::timeout(HANDLER_TIMEOUT, tasks.wait()).await;
        // A client that has nothing to push sends no more than that.
        if ended.received > pkt_line::FLUSH.len() as u64 && !ended_push.asked.load(Ordering::Acquire) {
            this.handler.ended_without_update(&ended_push.app, &ended_push.pusher);
        }
        ended.status
    }
}
