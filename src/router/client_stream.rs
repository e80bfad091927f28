//! The stream of a client's connection, below hyper: it remembers the first line of the request that is being read, holds
//! back hyper's own responses to what it cannot parse, so that the router can answer with its page, and fails when the client
//! takes too long to send a head, or to send or take the next bytes of a body.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{socket::ClientSocket, stall::Stall, timeouts::Timeouts};

/// Maximum number of bytes of a request's first line that are remembered; a longer one is refused.
const MAX_LINE_BYTES: usize = 64 * 1024 + 256;

/// The first line of the next request on a connection.
#[derive(Clone, Default)]
pub(super) struct RequestLine(Arc<Shared>);

#[derive(Default)]
struct Shared {
    reading: Mutex<Reading>,
    /// Whether the phase is that of a body whose end has not come.
    expects_body: AtomicBool,
}

#[derive(Default)]
struct Reading {
    phase: Phase,
    exchange: Exchange,
    /// Whether there was a request.
    begun: bool,
    /// Whether the client took too long for a head.
    is_late: bool,
    line: Vec<u8>,
    /// hyper's response to a request that it cannot parse.
    refusal: Option<Vec<u8>>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No byte of the next request has come.
    #[default]
    Before,
    /// A part of its first line has come.
    Line,
    /// The whole line has come.
    Headers,
    /// A request's body is being read, or no further request will come.
    Body,
}

/// Whether a request is being answered: only between two exchanges does hyper write a response of its own.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Exchange {
    #[default]
    None,
    /// The request has begun, and its response has not ended.
    Answering,
    /// hyper has the whole response, but may not have written all of it.
    Answered,
    /// The connection is no longer hyper's.
    Upgraded,
}

impl RequestLine {
    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.0.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a part of the head of the next request has come.
    pub(super) fn is_in_head(&self) -> bool {
        matches!(self.lock().phase, Phase::Line | Phase::Headers)
    }

    /// Whether the client has sent a part of a head, and not the rest in time.
    pub(super) fn is_late(&self) -> bool {
        self.lock().is_late
    }

    /// The request has begun. Returns whether its target, as hyper has parsed it, is not the one that the client sent: a part
    /// after `#` is lost, and `?x` becomes `/?x`. Of a request that came together with the end of the one before, this is
    /// not known.
    pub(super) fn begin(&self, parsed: &str, has_body: bool) -> bool {
        let mut reading = self.lock();
        let is_altered = reading.phase == Phase::Headers && is_altered(target_of(&reading.line), parsed.as_bytes());
        reading.phase = if has_body { Phase::Body } else { Phase::Before };
        reading.exchange = Exchange::Answering;
        reading.begun = true;
        reading.line.clear();
        self.0.expects_body.store(has_body, Relaxed);
        is_altered
    }

    /// hyper has got the whole response to the request.
    pub(super) fn answered(&self) {
        let mut reading = self.lock();
        if reading.exchange == Exchange::Answering {
            reading.exchange = Exchange::Answered;
        }
    }

    /// The connection is upgraded: no further request will come.
    pub(super) fn upgraded(&self) {
        let mut reading = self.lock();
        reading.phase = Phase::Body;
        reading.exchange = Exchange::Upgraded;
        self.0.expects_body.store(false, Relaxed);
    }

    /// The body of the request has been read.
    pub(super) fn end_body(&self) {
        let mut reading = self.lock();
        if reading.phase == Phase::Body {
            reading.phase = Phase::Before;
        }
        self.0.expects_body.store(false, Relaxed);
    }

    /// The line of a request that was not parsed, as far as it was read. Empty if it came together with the end of the one
    /// before.
    pub(super) fn unparsed(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().line)
    }

    /// hyper's response that was held back.
    pub(super) fn refusal(&self) -> Option<Vec<u8>> {
        self.lock().refusal.take()
    }
}

/// The target of a request line: what is between the first and the last space (RFC 9112, 3).
pub(super) fn target_of(line: &[u8]) -> &[u8] {
    let rest = line.iter().position(|byte| *byte == b' ').map_or(&[][..], |space| &line[space + 1..]);
    rest.iter().rposition(|byte| *byte == b' ').map_or(rest, |space| &rest[..space])
}

fn is_altered(sent: &[u8], parsed: &[u8]) -> bool {
    match sent {
        b"" => false,
        _ if sent == parsed => false,
        [b'?', ..] => parsed.strip_prefix(b"/").is_some_and(|rest| sent.starts_with(rest)),
        [b'#', ..] => parsed == b"/",
        _ => sent.contains(&b'#') && (sent.starts_with(parsed) || sent.windows(3).any(|three| three == b"://")),
    }
}

impl Reading {
    /// Whether the client owes the router a head, or the rest of one.
    fn owes_head(&self) -> bool {
        self.exchange == Exchange::None && (!self.begun || matches!(self.phase, Phase::Line | Phase::Headers))
    }

    /// Returns whether the head of the next request begins with these bytes.
    fn read(&mut self, mut bytes: &[u8]) -> bool {
        if matches!(self.phase, Phase::Headers | Phase::Body) {
            return false;
        }
        let begins = self.phase == Phase::Before;
        if begins {
            // Empty lines before a request are skipped (RFC 9112, 2.2).
            let Some(begin) = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) else { return false };
            bytes = &bytes[begin..];
            self.phase = Phase::Line;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let line = &bytes[..end.unwrap_or(bytes.len())];
        self.line.extend_from_slice(&line[..line.len().min(MAX_LINE_BYTES.saturating_sub(self.line.len()))]);
        if end.is_some() {
            self.phase = Phase::Headers;
        }
        begins
    }
}

/// A client's stream.
pub(super) struct ClientStream<S> {
    stream: S,
    line: RequestLine,
    /// Whether the client may owe the router a head: it does not if what was read last looks like the end of one.
    may_owe_head: bool,
    head: Stall,
    body: Stall,
    send: Stall,
    /// What the client's machine had not acknowledged when a write began to wait.
    unacknowledged: Option<u32>,
}

impl<S> ClientStream<S> {
    pub(super) fn new(stream: S, line: RequestLine, timeouts: &Timeouts) -> Self {
        Self {
            stream,
            line,
            may_owe_head: true,
            head: Stall::new(timeouts.head),
            body: Stall::new(timeouts.body),
            send: Stall::new(timeouts.send),
            unacknowledged: None,
        }
    }

    /// Nothing comes from the client; ready when it has owed something for too long.
    fn poll_owed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.line.0.expects_body.load(Relaxed) {
            return self.body.poll_wait(cx);
        }
        if !self.may_owe_head {
            return Poll::Pending;
        }
        // The lock is taken when a wait begins and when it ends, not in between.
        if !self.head.is_waiting() {
            let reading = self.line.lock();
            if !reading.owes_head() {
                // A part of a head that came too early is owed when the response before it has ended.
                self.may_owe_head = matches!(reading.phase, Phase::Line | Phase::Headers);
                return Poll::Pending;
            }
        }
        ready!(self.head.poll_wait(cx));
        let mut reading = self.line.lock();
        if !reading.owes_head() {
            self.may_owe_head = false;
            return Poll::Pending;
        }
        reading.is_late = reading.phase != Phase::Before;
        Poll::Ready(())
    }

    /// Whether these bytes are hyper's response to a request that it cannot parse: one without content, between two
    /// exchanges. They are then held back.
    fn hold_back(&self, bytes: &[u8]) -> bool {
        // A cheap test first: this is called with all that is written.
        if bytes.get(9) != Some(&b'4') || bytes.len() > 256 {
            return false;
        }
        let is_refusal = [&b"HTTP/1.1 400 "[..], b"HTTP/1.1 414 ", b"HTTP/1.1 431 ", b"HTTP/1.0 4"]
            .iter()
            .any(|begin| bytes.starts_with(begin))
            && bytes.ends_with(b"\r\n\r\n")
            && bytes.windows(4).position(|four| four == b"\r\n\r\n") == Some(bytes.len() - 4)
            && bytes.split(|byte| *byte == b'\n').all(|line| {
                let names = [&b"HTTP/1."[..], b"connection: close", b"content-length: 0", b"date: ", b"\r"];
                line.is_empty() || names.iter().any(|name| line.starts_with(name))
            });
        let mut reading = self.line.lock();
        let held_back = is_refusal && reading.exchange == Exchange::None;
        if held_back {
            reading.refusal = Some(bytes.to_vec());
        }
        held_back
    }
}

impl<S: ClientSocket> ClientStream<S> {
    /// What a write comes to: an error if the client has taken nothing for too long.
    fn written(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if polled.is_ready() {
            self.send.end();
            return polled;
        }
        loop {
            if !self.send.is_waiting() {
                self.unacknowledged = self.stream.unacknowledged();
            }
            ready!(self.send.poll_wait(cx));
            // The kernel takes more only when the client has read a large part of what it has.
            let moved = self.unacknowledged.zip(self.stream.unacknowledged()).is_some_and(|(then, now)| now < then);
            if !moved {
                self.stream.discard_unsent();
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            let begins_head = this.line.lock().read(bytes);
            this.may_owe_head = !bytes.ends_with(b"\n\r\n");
            if begins_head || !this.may_owe_head {
                this.head.end();
            }
            this.body.end();
        }
        if polled.is_pending() {
            ready!(this.poll_owed(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<S: AsyncWrite + ClientSocket + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.hold_back(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.written(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let [bytes] = parts
            && this.hold_back(bytes)
        {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // hyper flushes when it has written all that it has.
        let mut reading = this.line.lock();
        if reading.exchange == Exchange::Answered {
            reading.exchange = Exchange::None;
        }
        drop(reading);
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The router answers first.
        if this.line.lock().refusal.is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_put_together_and_compared_with_the_parsed_target() {
        let line = RequestLine::default();
        let read = |bytes: &[u8]| line.lock().read(bytes);
        read(b"\r\nGE");
        read(b"T /a#b HTTP/1.1\r\nhost: a\r\n");
        read(b"x: y\r\n\r\n");
        assert!(line.begin("/a", true));
        read(b"GET /body HTTP/1.1\r\n\r\n");
        line.end_body();
        read(b"GET /\xc3\xa4|{}?a=%zz HTTP/1.1\r\n\r\n");
        assert!(!line.begin("/\u{e4}|{}?a=%zz", false));
        // Of these two nothing is known: they came with others.
        assert!(!line.begin("/x", false));
        read(b"#rest of a line HTTP/1.1\r\n\r\n");
        assert!(!line.begin("/y", false), "{:?}", line.unparsed());
        for (sent, parsed) in [("?x", "/?x"), ("#x", "/"), ("http://a/b#c", "/b")] {
            read(format!("GET {sent} HTTP/1.1\n\n").as_bytes());
            assert!(line.begin(parsed, false), "{sent}");
        }
        read(b"GET http://a/b HTTP/1.1\n\n");
        assert!(!line.begin("/b", false));
        assert_eq!(target_of(b"GET /a b HTTP/1.1"), b"/a b");
        assert_eq!(target_of(b"GET"), b"");
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{bytes_near, check, cuts, parts};

    #[test]
    fn the_line_is_the_same_however_it_arrives() {
        let samples = ["\r\nGET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", "GET http://a/b?c HTTP/1.1\n\n", "\n\n"];
        check((bytes_near(&samples), cuts()), |(bytes, cuts)| {
            let read = |parts: &[&[u8]]| {
                let line = RequestLine::default();
                for part in parts {
                    line.lock().read(part);
                }
                let whole = line.lock().phase == Phase::Headers;
                (line.unparsed(), whole)
            };
            let (line, whole) = read(&parts(&bytes, &cuts));
            assert_eq!((line.clone(), whole), read(&[&bytes]));
            let begun = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).map_or(&[][..], |at| &bytes[at..]);
            assert!(begun.starts_with(&line) && !line.contains(&b'\n') && line.len() <= MAX_LINE_BYTES);
            assert!(
                line.windows(target_of(&line).len().max(1)).any(|part| part == target_of(&line))
                    || target_of(&line).is_empty()
            );
        });
    }
}
