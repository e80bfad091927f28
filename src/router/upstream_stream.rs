//! The socket of an upstream. An instance may answer a request before it has read its body, and close the connection: writing
//! fails then, but what it has sent can still be read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

pub(super) struct UpstreamStream {
    socket: TcpStream,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Open,
    /// The instance takes no more bytes. They are dropped, until what it has sent is read.
    Deaf,
    /// All that the instance has sent is read.
    Ended,
}

impl UpstreamStream {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, state: State::Open }
    }

    /// What a write comes to: one that fails because the instance has closed the connection is a write of all bytes, as long
    /// as there may be something to read.
    fn written(&mut self, polled: Poll<io::Result<usize>>, count: usize) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Err(error)) if self.state == State::Open && is_close(&error) => {
                self.state = State::Deaf;
                Poll::Ready(Ok(count))
            }
            polled => polled,
        }
    }
}

fn is_close(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.socket).poll_read(cx, buf);
        if this.state == State::Deaf
            && let Poll::Ready(read) = &polled
            && (read.is_err() || buf.filled().len() == before)
        {
            this.state = State::Ended;
        }
        polled
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.state == State::Deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.written(polled, bytes.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = parts.iter().map(|part| part.len()).sum();
        if this.state == State::Deaf {
            return Poll::Ready(Ok(count));
        }
        let polled = Pin::new(&mut this.socket).poll_write_vectored(cx, parts);
        this.written(polled, count)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
