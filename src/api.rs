//! The local door: the same commands through a Unix socket that only the server's owner may use.

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
    sync::{Semaphore, mpsc},
};
use tokio_util::{
    codec::{FramedRead, FramedWrite},
    sync::CancellationToken,
    task::TaskTracker,
};

use crate::commands::{Caller, Streams};

pub mod client;
mod frames;

use frames::{Codec, Frame, Reader, Writer};

/// Connections at a time.
const MOST_CONNECTIONS: usize = 64;
/// What a client has to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Frames that may wait in each direction.
const QUEUE: usize = 8;

/// What runs behind the door.
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

/// Why the local door fails.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The socket cannot be made.
    #[error("cannot open the socket {path}: {source}")]
    Bind {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server answers there.
    #[error("another server already answers at {path}: stop it first")]
    Running {
        /// Its path.
        path: PathBuf,
    },
    /// Nobody answers.
    #[error("no server answers at {path}: start it with `paas server`")]
    NoServer {
        /// The socket's path.
        path: PathBuf,
    },
    /// The socket is another user's.
    #[error("only the server's own user and root may use {path}: use `sudo`, or ssh with a registered key")]
    NotAllowed {
        /// The socket's path.
        path: PathBuf,
    },
    /// The conversation broke.
    #[error("the connection to the server broke: {0}")]
    Broken(#[from] io::Error),
    /// The server went away before the command ended.
    #[error("the server went away before the command had ended: see its log, then look what the command did")]
    Ended,
    /// The answer is not understood.
    #[error("the server at {path} speaks another version: use the `paas` that belongs to it")]
    Protocol {
        /// The socket's path.
        path: PathBuf,
    },
}

/// Where the socket is.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("paas.sock")
}

/// Opens the socket, mode 0600; one that a dead server left is replaced.
pub async fn bind(path: &Path) -> Result<UnixListener, ApiError> {
    let failed = |source| ApiError::Bind { path: path.to_owned(), source };
    match tokio::fs::symlink_metadata(path).await {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(failed(io::Error::other("there is a file of that name that is no socket")));
        }
        Ok(_) => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(ApiError::Running { path: path.to_owned() });
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    // Made in a folder of our own, then moved: at no moment can others connect, and the old one goes in one step.
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

/// Answers until `shutdown`; what runs then goes on until it has ended or `abort` ends it.
pub async fn serve<R: Runner>(
    listener: UnixListener,
    runner: Arc<R>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    abort: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
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
        if !is_ours(&stream) {
            tracing::warn!("local connection of another user refused");
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!("too many local connections");
            continue;
        };
        let (runner, hangup) = (Arc::clone(&runner), abort.child_token());
        tracker.spawn(async move {
            if let Err(error) = converse(stream, &*runner, hangup).await {
                tracing::debug!(%error, "local connection ended");
            }
            drop(place);
        });
    }
}

fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn converse<R: Runner>(stream: UnixStream, runner: &R, hangup: CancellationToken) -> io::Result<()> {
    let (read, write) = stream.into_split();
    let (mut incoming, mut outgoing) = (FramedRead::new(read, Codec), FramedWrite::new(write, Codec));
    let request = tokio::time::timeout(REQUEST_TIME, frames::next(&mut incoming)).await;
    let Ok(Ok(Some(Frame::Request { words, tty }))) = request else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let caller = Caller { name: "local".to_owned(), key: None, admin: true };
    let (input, stdin) = mpsc::channel(QUEUE);
    let (output, mut written) = mpsc::channel(QUEUE);
    let streams = Streams {
        stdin: Box::new(Reader::new(stdin)),
        stdout: Box::new(Writer::new(output.clone(), Frame::Stdout)),
        stderr: Box::new(Writer::new(output, Frame::Stderr)),
        tty,
    };
    let done = CancellationToken::new();
    let work = async {
        let _done = done.clone().drop_guard();
        runner.run(&caller, words, streams, hangup.clone()).await
    };
    let receive = async {
        tokio::select! {
            () = done.cancelled() => {}
            () = frames::receive(&mut incoming, input, &hangup) => {}
        }
    };
    let send = async {
        let mut closed = false;
        loop {
            let frame = tokio::select! {
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
