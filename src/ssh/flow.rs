//! Flow control of the data that clients send.
//!
//! The SSH library restores a client's window when data *arrives*, not when it is consumed. Its only other means is to stop
//! the whole session, and then a command that echoes its input would wait for itself. So data goes into a buffer of our own
//! ([`Inbox`]). While the buffer is full, the restored window is two bytes (the smallest that the library allows), which
//! reduces the client to a trickle, and [`Gate`] slows the trickle down. When the buffer drains, the next byte of the
//! trickle restores the full window. The client's window adjustments are read all the time.

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

/// Window of a client, in bytes.
pub(super) const WINDOW: u32 = 2 << 20;
/// Window while a buffer is full, in bytes; the library restores a window when less than half of it is left.
const TRICKLE: u32 = 2;
/// Size above which a buffer is full, in bytes.
const HIGH_WATER: usize = 1 << 20;
/// Size below which a full buffer counts as drained, in bytes.
const LOW_WATER: usize = HIGH_WATER / 2;
/// Maximum size of the buffered data, in bytes. A client that respects its window never reaches it: it leaves room for two windows, and
/// for days of trickle.
const MAX_BUFFERED: usize = HIGH_WATER + 2 * WINDOW as usize + (8 << 20);
/// Minimum and maximum delay of the trickle, in milliseconds.
const MIN_DELAY: u64 = 5;
const MAX_DELAY: u64 = 200;

/// Whether a connection's client is held back.
#[derive(Default)]
pub(super) struct Flow {
    full: AtomicUsize,
    trickling: AtomicBool,
    delay: AtomicU64,
    reader: AtomicWaker,
}

impl Flow {
    /// The window to restore.
    pub(super) fn window(&self) -> u32 {
        if self.full.load(Ordering::Acquire) > 0 { TRICKLE } else { WINDOW }
    }

    /// Records that data arrived; returns whether it was more than a trickle.
    pub(super) fn arrived(&self, length: usize) -> bool {
        let trickling = self.full.load(Ordering::Acquire) > 0 && length <= TRICKLE as usize;
        self.trickling.store(trickling, Ordering::Release);
        !trickling
    }

    /// Records that the client reads the server's output: further window adjustments must not be delayed.
    pub(super) fn window_adjusted(&self) {
        self.delay.store(MIN_DELAY, Ordering::Release);
    }

    fn throttled(&self) -> bool {
        self.trickling.load(Ordering::Acquire) && self.full.load(Ordering::Acquire) > 0
    }

    fn filled(&self) {
        self.full.fetch_add(1, Ordering::AcqRel);
    }

    fn drained(&self) {
        if self.full.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.delay.store(MIN_DELAY, Ordering::Release);
            self.reader.wake();
        }
    }
}

/// The client sent more than its window.
#[derive(Debug)]
pub(super) struct Overflow;

/// The data that a channel's client has sent and that is not yet read.
pub(super) struct Inbox {
    flow: Arc<Flow>,
    state: Mutex<InboxState>,
}

#[derive(Default)]
struct InboxState {
    buffer: BytesMut,
    full: bool,
    /// The client sends no more.
    ended: bool,
    /// The reading end is dropped.
    discarded: bool,
    reader: Option<Waker>,
}

/// The reading end.
pub(super) struct Stdin(Arc<Inbox>);

impl Inbox {
    pub(super) fn new(flow: Arc<Flow>) -> Arc<Self> {
        Arc::new(Self { flow, state: Mutex::default() })
    }

    /// The reading end; once it is dropped, data is discarded.
    pub(super) fn reader(self: &Arc<Self>) -> Stdin {
        Stdin(Arc::clone(self))
    }

    pub(super) fn push(&self, data: &[u8]) -> Result<(), Overflow> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.discarded || state.ended {
            return Ok(());
        }
        if state.buffer.len() + data.len() > MAX_BUFFERED {
            return Err(Overflow);
        }
        state.buffer.extend_from_slice(data);
        if !state.full && state.buffer.len() > HIGH_WATER {
            state.full = true;
            self.flow.filled();
        }
        if let Some(waker) = state.reader.take() {
            waker.wake();
        }
        Ok(())
    }

    /// Ends the stream: the client sends no more.
    pub(super) fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended = true;
        if let Some(waker) = state.reader.take() {
            waker.wake();
        }
    }

    /// Discards the data, present and future.
    fn discard(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.discarded = true;
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
        if state.full && state.buffer.len() < LOW_WATER {
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

/// A connection that can be aborted by a token, and that slows a trickle down.
pub(super) struct Gate {
    socket: TcpStream,
    flow: Arc<Flow>,
    aborted: Pin<Box<WaitForCancellationFutureOwned>>,
    abort: CancellationToken,
    delay: Option<Pin<Box<Sleep>>>,
}

impl Gate {
    pub(super) fn new(socket: TcpStream, flow: Arc<Flow>, abort: CancellationToken) -> Self {
        Self { socket, flow, abort: abort.clone(), aborted: Box::pin(abort.cancelled_owned()), delay: None }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.abort.is_cancelled() || self.aborted.as_mut().poll(cx).is_ready() {
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
            let delay = this.flow.delay.load(Ordering::Acquire).clamp(MIN_DELAY, MAX_DELAY);
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
    async fn a_full_buffer_holds_the_client_back_until_it_drains() {
        let flow = Arc::new(Flow::default());
        let inbox = Inbox::new(Arc::clone(&flow));
        let mut stdin = inbox.reader();
        inbox.push(&vec![7; HIGH_WATER]).unwrap();
        assert_eq!(flow.window(), WINDOW);
        inbox.push(&[7]).unwrap();
        assert_eq!(flow.window(), TRICKLE);
        stdin.read_exact(&mut vec![0; HIGH_WATER / 2 + 2]).await.unwrap();
        assert_eq!(flow.window(), WINDOW);
        inbox.end();
        let mut rest = Vec::new();
        stdin.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest.len(), HIGH_WATER / 2 - 1);
    }

    #[tokio::test]
    async fn data_without_a_reader_is_discarded_and_too_much_is_refused() {
        let flow = Arc::new(Flow::default());
        let inbox = Inbox::new(Arc::clone(&flow));
        let stdin = inbox.reader();
        inbox.push(&vec![7; MAX_BUFFERED]).unwrap();
        assert!(inbox.push(&[7]).is_err());
        drop(stdin);
        assert_eq!(flow.window(), WINDOW);
        inbox.push(&vec![7; MAX_BUFFERED]).unwrap();
        assert_eq!(inbox.state.lock().unwrap().buffer.len(), 0);
    }
}
