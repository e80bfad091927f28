//! A process to whose standard streams a caller is connected: a task, or a command in an instance.

use std::{convert::Infallible, future::pending, pin::Pin};

use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

use super::streams::{TaskStreams, follow_size};
use crate::{
    engine::{Attached, EngineError, Printed},
    model::TerminalSize,
};

/// The caller does not read what is printed any more.
pub(super) struct Disconnected;

/// Copies between the caller and the process until the process has closed its output and `exit` is done; returns what
/// `exit` returns.
pub(super) async fn attended<T, R>(
    attached: Attached,
    streams: TaskStreams,
    resize: impl Fn(TerminalSize) -> R,
    exit: impl Future<Output = T>,
) -> Result<T, Disconnected>
where
    R: Future<Output = Result<(), EngineError>>,
{
    let TaskStreams { stdin, output, terminal, .. } = streams;
    let Attached { stdin: to, output: printed } = attached;
    // The end of the input is not the end of the process.
    let serve_input = async {
        let is_terminal = terminal.is_some();
        tokio::join!(feed(stdin, to, is_terminal), follow_size(terminal, resize));
        pending::<Infallible>().await
    };
    let ends = async {
        forward(printed, output).await?;
        Ok(exit.await)
    };
    tokio::select! {
        ended = ends => ended,
        never = serve_input => match never {},
    }
}

/// What a terminal sends when Ctrl-D is typed.
const END_OF_TRANSMISSION: &[u8] = b"\x04";

/// Copies input, and ends it when it ends. That of a terminal is never closed: the engine would close its output, too.
async fn feed(mut from: impl AsyncRead + Unpin, mut to: Pin<Box<dyn AsyncWrite + Send>>, terminal: bool) {
    // Fails when the process does not read any more.
    let _ = tokio::io::copy(&mut from, &mut to).await;
    if terminal {
        let _ = to.write_all(END_OF_TRANSMISSION).await;
        let _ = to.flush().await;
        pending::<Infallible>().await;
    }
    let _ = to.shutdown().await;
}

/// Hands on what is printed until the output is closed.
async fn forward(
    mut printed: impl futures_util::Stream<Item = Result<Printed, EngineError>> + Unpin,
    output: mpsc::Sender<Printed>,
) -> Result<(), Disconnected> {
    while let Some(piece) = printed.next().await {
        match piece {
            Ok(piece) => output.send(piece).await.map_err(|_| Disconnected)?,
            Err(error) => {
                tracing::debug!(%error, "the output of a process ended early");
                break;
            }
        }
    }
    Ok(())
}
