//! Flow control of what clients send.
//!
//! The SSH library gives a client its window back when data *arrives*, not when it is consumed, and its only other brake
//! is to stop the whole session: a command that echoes would then wait for itself. So data goes into a buffer of our
//! own ([`Inbox`]); while that is full, the window given back is two bytes (the least that the library can give), which
//! reduces the client to a trickle, and the trickle is slowed down in [`Gate`]. When the buffer drains, the next byte
//! of the trickle brings the full window back. The peer's window adjustments are read all the while.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The window that a client has, bytes.
pub(super) const WINDOW: u32 = 2 << 20;
/// The window while a buffer is full; the library gives one back when less than half of it is left.
const TRICKLE: u32 = 2;
/// A buffer that holds more is full, bytes.
const HIGH: usize = 1 << 20;
/// A full buffer that holds less takes more again, bytes.
const LOW: usize = HIGH / 2;
/// What a client that keeps to its window never reaches (two windows, and days of trickle), bytes.
const MOST: usize = HIGH + 2 * WINDOW as usize + (8 << 20);
const SHORTEST_DELAY: u64 = 5;
const LONGEST_DELAY: u64 = 200;

/// Whether one connection's client is held back.
#[derive(Default)]
pub(super) struct Flow {
    full: AtomicUsize,
    trickling: AtomicBool,
    delay: AtomicU64,
    reader: AtomicWaker,
}

impl Flow {
    /// The window to give a client back from now on.
    pub(super) fn window(&self) -> u32 {
        if self.full.load(Ordering::Acquire) > 0 { TRICKLE } else { WINDOW }
    }

    /// Notes the length of data that came; says whether it was real traffic.
    pub(super) fn arrived(&self, length: usize) -> bool {
        let trickling = self.full.load(Ordering::Acquire) > 0 && length <= TRICKLE as usize;
        self.trickling.store(trickling, Ordering::Release);
        !trickling
    }

    /// Notes that the client reads what we send: more such news should come without delay.
    pub(super) fn window_adjusted(&self) {
        self.delay.store(SHORTEST_DELAY, Ordering::Release);
    }

    fn throttled(&self) -> bool {
        self.trickling.load(Ordering::Acquire) && self.full.load(Ordering::Acquire) > 0
    }

    fn filled(&self) {
        self.full.fetch_add(1, Ordering::AcqRel);
    }

    fn drained(&self) {
        if self.full.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.delay.store(SHORTEST_DELAY, Ordering::Release);
            self.reader.wake();
        }
    }
}

/// The client sent more than its window.
#[derive(Debug)]
pub(super) struct Overflow;

/// What a channel's client sent and nobody has read yet.
pub(super) struct Inbox {
    flow: Arc<Flow>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    buffer: BytesMut,
    full: bool,
    ended: bool,
    unread: bool,
    reader: Option<Waker>,
}

/// The reading end.
pub(super) struct Stdin(Arc<Inbox>);

impl Inbox {
    pub(super) fn new(flow: Arc<Flow>) -> Arc<Self> {
        Arc::new(Self { flow, state: Mutex::default() })
    }

    /// The reading end; once it is dropped, data is thrown away.
    pub(super) fn reader(self: &Arc<Self>) -> Stdin {
        Stdin(Arc::clone(self))
    }

    pub(super) fn push(&self, data: &[u8]) -> Result<(), Overflow> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.unread || state.ended {
            return Ok(());
        }
        if state.buffer.len() + data.len() > MOST {
            return Err(Overflow);
        }
        state.buffer.extend_from_slice(data);
        if !state.full && state.buffer.len() > HIGH {
            state.full = true;
            self.flow.filled();
        }
        if let Some(waker) = state.reader.take() {
            waker.wake();
        }
        Ok(())
    }

    /// The client sends no more.
    pub(super) fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended = true;
        if let Some(waker) = state.reader.take() {
            waker.wake();
        }
    }

    /// Nobody reads any more.
    fn discard(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.unread = true;
        state.buffer = BytesMut::new();
        if std::mem::take(&mut state.full) {
            self.flow.drained();
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.discard();
    }
}

impl AsyncRead for Stdin {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inbox = &self.0;
        let mut state = inbox.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.buffer.is_empty() {
            if state.ended {
                return Poll::Ready(Ok(()));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let length = buf.remaining().min(state.buffer.len());
        buf.put_slice(&state.buffer[..length]);
        state.buffer.advance(length);
        if state.full && state.buffer.len() < LOW {
            state.full = false;
            inbox.flow.drained();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        self.0.discard();
    }
}

/// A connection that can be cut from outside, and whose trickle is slow.
pub(super) struct Gate {
    socket: TcpStream,
    flow: Arc<Flow>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    is_cut: CancellationToken,
    delay: Option<Pin<Box<Sleep>>>,
}

impl Gate {
    pub(super) fn new(socket: TcpStream, flow: Arc<Flow>, cut: CancellationToken) -> Self {
        Self { socket, flow, is_cut: cut.clone(), cut: Box::pin(cut.cancelled_owned()), delay: None }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.is_cut.is_cancelled() || self.cut.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl AsyncRead for Gate {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        this.flow.reader.register(cx.waker());
        if this.flow.throttled() {
            let delay = this.flow.delay.load(Ordering::Acquire).clamp(SHORTEST_DELAY, LONGEST_DELAY);
            let sleep = this.delay.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(delay))));
            ready!(sleep.as_mut().poll(cx));
            this.flow.delay.store(delay * 2, Ordering::Release);
        }
        let polled = Pin::new(&mut this.socket).poll_read(cx, buf);
        if polled.is_ready() {
            this.delay = None;
        }
        polled
    }
}

impl AsyncWrite for Gate {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(cx)?;
        Pin::new(&mut this.socket).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_full_buffer_holds_the_client_back_until_it_is_read() {
        let flow = Arc::new(Flow::default());
        let inbox = Inbox::new(Arc::clone(&flow));
        let mut stdin = inbox.reader();
        inbox.push(&vec![7; HIGH]).unwrap();
        assert_eq!(flow.window(), WINDOW);
        inbox.push(&[7]).unwrap();
        assert_eq!(flow.window(), TRICKLE);
        stdin.read_exact(&mut vec![0; HIGH / 2 + 2]).await.unwrap();
        assert_eq!(flow.window(), WINDOW);
        inbox.end();
        let mut rest = Vec::new();
        stdin.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest.len(), HIGH / 2 - 1);
    }

    #[tokio::test]
    async fn nobody_reading_means_nothing_kept_and_too_much_is_refused() {
        let flow = Arc::new(Flow::default());
        let inbox = Inbox::new(Arc::clone(&flow));
        let stdin = inbox.reader();
        inbox.push(&vec![7; MOST]).unwrap();
        assert!(inbox.push(&[7]).is_err());
        drop(stdin);
        assert_eq!(flow.window(), WINDOW);
        inbox.push(&vec![7; MOST]).unwrap();
        assert_eq!(inbox.state.lock().unwrap().buffer.len(), 0);
    }
}
