//! The local command line: sends its words to the server, and passes the streams on.

use std::{
    io::{self, IsTerminal as _},
    os::fd::AsFd,
    path::Path,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixStream,
};
use tokio_util::codec::{FramedRead, FramedWrite};

use super::{
    ApiError,
    frames::{self, Codec, Frame},
};

/// How long the server has to take a hang-up.
const HANGUP: Duration = Duration::from_secs(2);

/// The exit status of a program whose reader went away, as a shell shows SIGPIPE.
const NOBODY_READS: u8 = 141;

/// Runs `words` on the server at `socket` with this process's own streams; returns the exit status.
///
/// A read of standard input may still be pending when this returns: leave with `std::process::exit`, or the runtime
/// waits for it.
pub async fn run(socket: &Path, words: Vec<String>) -> Result<u8, ApiError> {
    let tty = io::stdout().is_terminal();
    let interrupted = async {
        // Without a handler there is no second way to hang up: the signal ends this process, which the server notices.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let (stdin, stdout, stderr) = (own(io::stdin())?, own(io::stdout())?, own(io::stderr())?);
    converse(socket, words, tty, stdin, stdout, stderr, interrupted).await
}

fn own(stream: impl AsFd) -> io::Result<File> {
    Ok(File::from_std(stream.as_fd().try_clone_to_owned()?.into()))
}

/// The same with any streams; `interrupted` asks the server to give the command up, and then its end is awaited.
pub async fn converse(
    socket: &Path,
    words: Vec<String>,
    tty: bool,
    mut stdin: impl AsyncRead + Unpin,
    mut stdout: impl AsyncWrite + Unpin,
    mut stderr: impl AsyncWrite + Unpin,
    interrupted: impl Future<Output = ()>,
) -> Result<u8, ApiError> {
    let path = || socket.to_owned();
    let stream = UnixStream::connect(socket).await.map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => ApiError::NotAllowed { path: path() },
        _ => ApiError::NoServer { path: path() },
    })?;
    let (read, write) = stream.into_split();
    let (mut incoming, mut outgoing) = (FramedRead::new(read, Codec), FramedWrite::new(write, Codec));
    frames::send(&mut outgoing, Frame::Request { words, tty }).await?;

    let send = async {
        let forward = async {
            loop {
                let mut data = BytesMut::with_capacity(32 * 1024);
                // An unreadable standard input is an empty one: many programs are started without any.
                if !matches!(stdin.read_buf(&mut data).await, Ok(1..)) {
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
        // A server that takes no more input is told by the end of the connection.
        if tokio::time::timeout(HANGUP, frames::send(&mut outgoing, Frame::Hangup)).await.is_err() {
            return Err(ApiError::Ended);
        }
        std::future::pending().await
    };
    let receive = async {
        loop {
            match frames::next(&mut incoming).await {
                Ok(Some(Frame::Stdout(data))) => pass(&mut stdout, data).await?,
                Ok(Some(Frame::Stderr(data))) => pass(&mut stderr, data).await?,
                Ok(Some(Frame::Exit(status))) => return Ok(status),
                Ok(Some(_)) => return Err(ApiError::Protocol { path: path() }),
                Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(ApiError::Protocol { path: path() }),
                Ok(None) | Err(_) => return Err(ApiError::Ended),
            }
        }
    };
    let ended = tokio::select! {
        ended = receive => ended,
        ended = send => ended,
    };
    match ended {
        // Whoever read our output has enough: that is no trouble to talk about.
        Err(ApiError::Broken(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(NOBODY_READS),
        ended => ended,
    }
}

async fn pass(to: &mut (impl AsyncWrite + Unpin), data: Bytes) -> Result<(), ApiError> {
    to.write_all(&data).await?;
    Ok(to.flush().await?)
}
