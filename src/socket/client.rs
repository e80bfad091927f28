//! The client of the local socket: sends a command's words to the server, and carries the standard streams.

use std::{io, os::fd::AsFd, path::Path, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixStream,
};
use tokio_util::codec::{FramedRead, FramedWrite};

use super::{
    SocketError,
    frames::{self, Codec, Frame},
    own_terminal::OwnTerminal,
};

/// How long the server has to take a hang-up message.
const HANGUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The exit status of a program whose output is closed: 128 + SIGPIPE, as in a shell.
const SIGPIPE_STATUS: u8 = 141;

/// Runs `words` on the server at `socket` with this process's own streams; returns the exit status.
///
/// A read of standard input may still be pending when this returns: end the process with `std::process::exit`, or the
/// runtime waits for it.
pub async fn run(socket: &Path, words: Vec<String>) -> Result<u8, SocketError> {
    let terminal = OwnTerminal::find();
    let interrupted = async {
        // If no handler can be installed, the signal ends this process, and the server sees that the connection is closed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let (stdin, stdout, stderr) = (own(io::stdin())?, own(io::stdout())?, own(io::stderr())?);
    run_with_streams(socket, words, terminal, stdin, stdout, stderr, interrupted).await
}

/// A stream of this process, to be used asynchronously.
pub fn own(stream: impl AsFd) -> io::Result<File> {
    Ok(File::from_std(stream.as_fd().try_clone_to_owned()?.into()))
}

/// As [`run`], with other streams. When `interrupted` ends, the server is asked to cancel the command, and its end is awaited.
pub async fn run_with_streams(
    socket: &Path,
    words: Vec<String>,
    terminal: Option<OwnTerminal>,
    mut stdin: impl AsyncRead + Unpin,
    mut stdout: impl AsyncWrite + Unpin,
    mut stderr: impl AsyncWrite + Unpin,
    interrupted: impl Future<Output = ()>,
) -> Result<u8, SocketError> {
    let path = || socket.to_owned();
    let stream = UnixStream::connect(socket).await.map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => SocketError::NotAllowed { path: path() },
        _ => SocketError::NoServer { path: path() },
    })?;
    let (read, write) = stream.into_split();
    let (mut incoming, mut outgoing) = (FramedRead::new(read, Codec), FramedWrite::new(write, Codec));
    frames::send(&mut outgoing, Frame::Request { words, terminal: terminal.as_ref().map(|_| OwnTerminal::request()) })
        .await?;

    let mut resizes = terminal.as_ref().and_then(|_| OwnTerminal::resizes());
    let send = async {
        let forward = async {
            loop {
                let mut data = BytesMut::with_capacity(32 * 1024);
                let read = tokio::select! {
                    read = stdin.read_buf(&mut data) => read,
                    Some(size) = OwnTerminal::resized(&mut resizes) => {
                        if frames::send(&mut outgoing, Frame::Resize(size)).await.is_err() {
                            break;
                        }
                        continue;
                    }
                };
                // An unreadable standard input counts as empty: many programs are started without one.
                if !matches!(read, Ok(1..)) {
                    break;
                }
                if frames::send(&mut outgoing, Frame::Stdin(data.freeze())).await.is_err() {
                    break;
                }
            }
            let _ = frames::send(&mut outgoing, Frame::StdinEnd).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = forward => {}
            () = interrupted => {}
        }
        // If the server takes no more input, the end of the connection tells it.
        if tokio::time::timeout(HANGUP_TIMEOUT, frames::send(&mut outgoing, Frame::Hangup)).await.is_err() {
            return Err(SocketError::Ended);
        }
        std::future::pending().await
    };
    let receive = async {
        loop {
            match frames::next(&mut incoming).await {
                Ok(Some(Frame::Stdout(data))) => pass(&mut stdout, data).await?,
                Ok(Some(Frame::Stderr(data))) => pass(&mut stderr, data).await?,
                Ok(Some(Frame::Raw(raw))) => {
                    if let Some(terminal) = &terminal {
                        terminal.set_raw(raw);
                    }
                }
                Ok(Some(Frame::Exit(status))) => return Ok(status),
                Ok(Some(_)) => return Err(SocketError::Protocol { path: path() }),
                Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(SocketError::Protocol { path: path() }),
                Ok(None) | Err(_) => return Err(SocketError::Ended),
            }
        }
    };
    let ended = tokio::select! {
        ended = receive => ended,
        ended = send => ended,
    };
    match ended {
        // The reader of our output has closed it: that is not an error to report.
        Err(SocketError::Broken(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(SIGPIPE_STATUS),
        ended => ended,
    }
}

async fn pass(to: &mut (impl AsyncWrite + Unpin), data: Bytes) -> Result<(), SocketError> {
    to.write_all(&data).await?;
    Ok(to.flush().await?)
}
