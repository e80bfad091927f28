//! Receiving: git's own server programs as children, and the `proc-receive` hook, whose pkt-lines the server answers.
//! What a push does is decided by a [`PushHandler`]; this module only carries it.

mod child;
pub mod hook;
mod pkt_line;
mod proc_receive;

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixListener,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Config,
    git::{GitError, Repositories},
    model::{AppName, BranchName, CommitId},
    progress::Progress,
    store::KeyId,
};

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
    /// Where it should be; `None` to delete it.
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
    /// What the client sends.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// What it gets.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// What it gets beside that.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
}

/// A push whose hook has not come yet, by the hook's nonce.
#[derive(Clone)]
struct Expected {
    app: AppName,
    pusher: Pusher,
    cancel: CancellationToken,
    /// Counts the hook's session, so that the push does not end before it.
    sessions: TaskTracker,
}

/// Serves git's two programs; cheap to clone.
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

struct Inner {
    repositories: Repositories,
    handler: Box<dyn Handler>,
    expected: Mutex<HashMap<String, Expected>>,
    socket: PathBuf,
    program: PathBuf,
    largest: u64,
    tracker: TaskTracker,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver")
    }
}

impl Receiver {
    /// Installs the hook and listens for it.
    pub fn start(
        config: &Config,
        repositories: Repositories,
        handler: impl PushHandler,
        tracker: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, ReceiveError> {
        let hooks = config.data_dir.join("hooks");
        let program = install_hook(&hooks)?;
        let socket = config.data_dir.join("hook.sock");
        let listener = listen(&socket, config.user_id)?;
        let inner = Inner {
            repositories,
            handler: Box::new(handler),
            expected: Mutex::default(),
            socket,
            program,
            largest: config.git.max_push_bytes,
            tracker: tracker.clone(),
        };
        let receiver = Self(Arc::new(inner));
        tracker.spawn(receiver.clone().accept(listener, shutdown));
        Ok(receiver)
    }

    async fn accept(self, listener: UnixListener, shutdown: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => drop(self.0.tracker.spawn(proc_receive::session(self.clone(), stream))),
                Err(error) => tracing::warn!(%error, "cannot accept a hook"),
            }
        }
    }

    /// Serves a `git push`; the exit status for the client.
    pub async fn receive_pack(
        &self,
        app: AppName,
        pusher: Pusher,
        git_protocol: Option<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> u32 {
        let nonce = nonce();
        let (cancel, sessions) = (hangup.child_token(), TaskTracker::new());
        let expected = Expected { app: app.clone(), pusher, cancel: cancel.clone(), sessions: sessions.clone() };
        self.lock().insert(nonce.clone(), expected);
        let mut command = self.0.repositories.get(&app).command();
        command.env("PAAS_HOOK_PROGRAM", &self.0.program).env("PAAS_HOOK_SOCKET", &self.0.socket);
        command.env("PAAS_HOOK_NONCE", &nonce).args(["receive-pack", "."]);
        let status = child::serve(command, git_protocol, streams, &hangup, Some(self.0.largest)).await;
        self.lock().remove(&nonce);
        // The child is gone, so nobody waits for the verdict: what is not past its commit point is given up.
        cancel.cancel();
        sessions.close();
        sessions.wait().await;
        status
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
        child::serve(command, git_protocol, streams, &hangup, None).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Expected>> {
        self.0.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 128 random bits, as hex.
fn nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Puts the hook, and the program that it runs, where git's user can run them and not change them.
fn install_hook(folder: &Path) -> Result<PathBuf, ReceiveError> {
    let failed = |act: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| ReceiveError::File { act, path, source }
    };
    fs::create_dir_all(folder).map_err(failed("make", folder))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(failed("open", folder))?;
    let place = |name: &str, write: &dyn Fn(&Path) -> std::io::Result<()>| {
        let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
        write(&new)
            .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(failed("write", &path))?;
        Ok(path)
    };
    place("proc-receive", &|path| fs::write(path, include_str!("../hooks/proc-receive")))?;
    place("paas", &|path| fs::copy("/proc/self/exe", path).map(drop))
}

fn listen(socket: &Path, user: u32) -> Result<UnixListener, ReceiveError> {
    let failed = |source| ReceiveError::File { act: "listen on", path: socket.to_owned(), source };
    match fs::remove_file(socket) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(failed)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    if rustix::process::geteuid().is_root() {
        chown(socket, Some(user), Some(user)).map_err(failed)?;
    }
    Ok(listener)
}
