//! The local socket: commands through a Unix socket that only the server's own user and root may use.

use std::{
    future::Future,
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, watch},
};
use tokio_util::{
    codec::{FramedRead, FramedWrite},
    sync::CancellationToken,
    task::TaskTracker,
};

use crate::{
    commands::{ClientTerminal, Streams},
    model::TerminalSize,
    operations::Caller,
    tasks::Terminal,
};

pub mod client;
mod frames;
mod own_terminal;

use frames::{Codec, Frame, Reader, RequestTerminal, Writer};

/// Maximum number of connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// How long a client has to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of frames that wait in each direction.
const MAX_QUEUED_FRAMES: usize = 8;

/// Runs the commands that clients send.
pub trait Runner: Send + Sync + 'static {
    /// Runs a command; returns the exit status.
    fn run(
        &self,
        caller: &Caller,
        words: Vec<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> impl Future<Output = u8> + Send;
}

/// Why the local socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The socket cannot be created.
    #[error("cannot open the socket {path}: {source}")]
    Bind {
        /// The socket's path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another server listens on the socket.
    #[error("another server already listens on {path}; stop it first")]
    Running {
        /// The socket's path.
        path: PathBuf,
    },
    /// No server listens on the socket.
    #[error("no server listens on {path}; start it with `paas server`, or name one elsewhere with `paas remote add`")]
    NoServer {
        /// The socket's path.
        path: PathBuf,
    },
    /// The socket belongs to another user.
    #[error("only the server's own user and root may use {path}; use `sudo`, or ssh with a registered key")]
    NotAllowed {
        /// The socket's path.
        path: PathBuf,
    },
    /// The connection failed.
    #[error("the connection to the server failed: {0}")]
    Broken(#[from] io::Error),
    /// The server closed the connection before the command ended.
    #[error("the server closed the connection before the command ended; see its log, then check what the command did")]
    Ended,
    /// The server sent a message that this version does not know.
    #[error("the server at {path} has another version; use the `paas` that belongs to it")]
    Protocol {
        /// The socket's path.
        path: PathBuf,
    },
}

/// The path of the socket.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("paas.sock")
}

/// Opens the socket with mode 0600; one that a dead server left is replaced.
pub async fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Bind { path: path.to_owned(), source };
    match tokio::fs::symlink_metadata(path).await {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(failed(io::Error::other("a file that is not a socket has this name")));
        }
        Ok(_) => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(SocketError::Running { path: path.to_owned() });
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    // The socket is created in a private folder and then moved: other users can connect at no time, and the old one is
    // replaced atomically.
    let parent = path.parent().unwrap_or(Path::new(".")).to_owned();
    let folder = tokio::task::spawn_blocking(move || tempfile::Builder::new().prefix(".sock").tempdir_in(parent))
        .await
        .map_err(|e| failed(io::Error::other(e)))?
        .map_err(failed)?;
    let new = folder.path().join("s");
    let listener = UnixListener::bind(&new).map_err(failed)?;
    tokio::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).await.map_err(failed)?;
    tokio::fs::rename(&new, path).await.map_err(failed)?;
    Ok(listener)
}

/// Accepts connections until `shutdown`; commands that are running then go on until they end, or until `abort`.
pub async fn serve<R: Runner>(
    listener: UnixListener,
    runner: Arc<R>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    abort: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a local connection");
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(Duration::from_millis(100)) => continue,
                }
            }
        };
        if !is_allowed(&stream) {
            tracing::warn!("refused the local connection of another user");
            continue;
        }
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!("too many local connections");
            continue;
        };
        let (runner, hangup) = (Arc::clone(&runner), abort.child_token());
        tracker.spawn(async move {
            if let Err(error) = serve_connection(stream, &*runner, hangup).await {
                tracing::debug!(%error, "local connection ended");
            }
            drop(slot);
        });
    }
}

fn is_allowed(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn serve_connection<R: Runner>(stream: UnixStream, runner: &R, hangup: CancellationToken) -> io::Result<()> {
    let (read, write) = stream.into_split();
    let (mut incoming, mut outgoing) = (FramedRead::new(read, Codec), FramedWrite::new(write, Codec));
    let request = tokio::time::timeout(REQUEST_TIMEOUT, frames::next(&mut incoming)).await;
    let Ok(Ok(Some(Frame::Request { words, terminal }))) = request else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let caller = Caller::local();
    let terminal = terminal.map(|RequestTerminal { name, columns, rows }| {
        let (size, sizes) = watch::channel(TerminalSize { columns, rows });
        (ClientTerminal { terminal: Terminal { name, size: sizes }, raw: watch::Sender::new(false) }, size)
    });
    let (input, stdin) = mpsc::channel(MAX_QUEUED_FRAMES);
    let (output, mut written) = mpsc::channel(MAX_QUEUED_FRAMES);
    let streams = Streams {
        stdin: Box::new(Reader::new(stdin)),
        stdout: Box::new(Writer::new(output.clone(), Frame::Stdout)),
        stderr: Box::new(Writer::new(output, Frame::Stderr)),
        terminal: terminal.as_ref().map(|(client, _)| client.clone()),
    };
    // Subscribed before the command begins: it may switch at once.
    let mut raw = terminal.as_ref().map(|(client, _)| client.raw.subscribe());
    let done = CancellationToken::new();
    let work = async {
        let _done = done.clone().drop_guard();
        runner.run(&caller, words, streams, hangup.clone()).await
    };
    let receive = async {
        tokio::select! {
            () = done.cancelled() => {}
            () = frames::receive(&mut incoming, input, terminal.as_ref().map(|(_, size)| size), &hangup) => {}
        }
    };
    let send = async {
        let mut closed = false;
        loop {
            let frame = tokio::select! {
                // First: what follows belongs to the program that has the terminal.
                biased;
                Some(raw) = switched(&mut raw) => Some(Frame::Raw(raw)),
                () = done.cancelled(), if !closed => {
                    written.close();
                    closed = true;
                    continue;
                }
                frame = written.recv() => frame,
            };
            let Some(frame) = frame else { return Ok(()) };
            if let Err(error) = frames::send(&mut outgoing, frame).await {
                hangup.cancel();
                return Err(error);
            }
        }
    };
    let (status, (), outcome) = tokio::join!(work, receive, send);
    outcome?;
    frames::send(&mut outgoing, Frame::Exit(status)).await
}

/// Waits until the client's terminal is to be switched to raw mode, or back. Never returns without a terminal.
async fn switched(raw: &mut Option<watch::Receiver<bool>>) -> Option<bool> {
    match raw {
        Some(raw) => match raw.changed().await {
            Ok(()) => Some(*raw.borrow_and_update()),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
