//! The body of an answer: a short page of ours, or an instance's, which counts as in flight until its end. And the body
//! of a request, on its way to an instance.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::{
    balancer::Claim,
    pool::{Connection, Pool},
};

pub(super) struct AnswerBody {
    source: Source,
    /// Its connection is busy until it has ended.
    busy: Option<Busy>,
}

enum Source {
    Page(Option<Bytes>),
    Instance { body: Incoming, lease: Option<Lease> },
}

/// What a client's connection does. Looked at now and then, which is cheaper than a timer for each request.
pub(super) struct Activity {
    requests: Cell<usize>,
    /// When the last answer had ended, or the connection began.
    since: Cell<Instant>,
}

impl Activity {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { requests: Cell::new(0), since: Cell::new(Instant::now()) })
    }

    /// How long it has had no request.
    pub(super) fn idle(&self) -> Option<Duration> {
        (self.requests.get() == 0).then(|| self.since.get().elapsed())
    }

    pub(super) fn begin(self: &Rc<Self>) -> Busy {
        self.requests.set(self.requests.get() + 1);
        Busy(Rc::clone(self))
    }
}

/// A request, until its answer has ended.
pub(super) struct Busy(Rc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
        self.0.since.set(Instant::now());
    }
}

/// What an answer holds until its body has ended: the claim, and the connection that can then be used again.
pub(super) struct Lease {
    pub(super) claim: Claim,
    pub(super) connection: Connection,
    pub(super) pool: Rc<Pool>,
    pub(super) upload: Option<Rc<Upload>>,
}

impl Lease {
    /// The exchange is over: the connection goes back before the claim does. One that still carries a request's body
    /// is of no use to another request.
    fn end(self) {
        let Self { claim, connection, pool, upload } = self;
        match upload {
            Some(upload) if !upload.is_complete() => upload.abandon(),
            Some(_) | None => pool.put(&claim, connection),
        }
    }
}

impl AnswerBody {
    pub(super) fn instance(body: Incoming, lease: Lease) -> Self {
        let lease = if body.is_end_stream() {
            lease.end();
            None
        } else {
            Some(lease)
        };
        Self { source: Source::Instance { body, lease }, busy: None }
    }

    pub(super) fn page(text: Option<Bytes>) -> Self {
        Self { source: Source::Page(text), busy: None }
    }

    pub(super) fn keep_busy(&mut self, busy: Busy) {
        self.busy = Some(busy);
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().source {
            Source::Page(page) => Poll::Ready(page.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Instance { body, lease } => {
                let polled = Pin::new(&mut *body).poll_frame(cx);
                let ended = match &polled {
                    Poll::Ready(None) => true,
                    Poll::Ready(Some(Ok(_))) => body.is_end_stream(),
                    // The connection is of no use any more; dropping the lease closes it.
                    Poll::Ready(Some(Err(_))) => {
                        drop(lease.take());
                        false
                    }
                    Poll::Pending => false,
                };
                if ended && let Some(lease) = lease.take() {
                    lease.end();
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Page(page) => page.is_none(),
            Source::Instance { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Page(page) => SizeHint::with_exact(page.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Instance { body, .. } => body.size_hint(),
        }
    }
}

/// How far the body of a request has come.
#[derive(Default)]
pub(super) struct Upload {
    frames: Cell<u64>,
    state: Cell<UploadState>,
    /// Of the connection that sends it.
    waker: RefCell<Option<Waker>>,
}

/// Why a request's body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// The client broke off, or sent what is not a body.
    #[error("the client's body broke")]
    Client(#[source] hyper::Error),
    /// The instance has answered without waiting for it.
    #[error("the answer came before the body's end")]
    Answered,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum UploadState {
    #[default]
    Moving,
    Complete,
    Broken,
    Abandoned,
}

impl Upload {
    /// Grows while the body moves.
    pub(super) fn frames(&self) -> u64 {
        self.frames.get()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state.get() == UploadState::Complete
    }

    /// Ends it, and with it the connection to the instance.
    fn abandon(&self) {
        self.state.set(UploadState::Abandoned);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether what the client sent ended badly.
    pub(super) fn is_broken(&self) -> bool {
        self.state.get() == UploadState::Broken
    }
}

/// The body of a request on its way to an instance: the client's, or none.
pub(super) enum RequestBody {
    None,
    Client(Incoming, Rc<Upload>),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Client(body, upload) => {
                if upload.state.get() == UploadState::Abandoned {
                    return Poll::Ready(Some(Err(UploadError::Answered)));
                }
                let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
                    *upload.waker.borrow_mut() = Some(cx.waker().clone());
                    return Poll::Pending;
                };
                upload.frames.set(upload.frames.get() + 1);
                match &frame {
                    Some(Err(_)) => upload.state.set(UploadState::Broken),
                    Some(Ok(frame)) if !body.is_end_stream() && !frame.is_trailers() => {}
                    Some(Ok(_)) | None => upload.state.set(UploadState::Complete),
                }
                Poll::Ready(frame.map(|frame| frame.map_err(UploadError::Client)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Client(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Client(body, _) => body.size_hint(),
        }
    }
}
