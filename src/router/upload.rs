//! The body of a request, on its way to an instance.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::timeout;

use super::{activity::Activity, client_stream::RequestLine, headers};

/// How long the rest of a body is read that no instance takes: in total, and until the next bytes come.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const LINGER_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A request's body, and how much of it was sent.
pub(super) struct Upload {
    /// None when nobody takes it any more.
    body: RefCell<Option<Incoming>>,
    frames: Cell<u64>,
    state: Cell<UploadState>,
    /// Wakes the upstream that sends the body.
    waker: RefCell<Option<Waker>>,
    activity: Rc<Activity>,
    line: RequestLine,
}

/// Why a request's body ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// The client closed the connection, or sent an invalid body.
    #[error("the client's request body is incomplete or invalid")]
    Client(#[source] hyper::Error),
    /// The instance responded without reading the whole body.
    #[error("the instance responded before the request body ended")]
    Answered,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum UploadState {
    Sending,
    Complete,
    /// The client went away.
    Broken,
    /// The client sent nothing for too long.
    Late,
    /// The client sent what is no body.
    Invalid,
    Abandoned,
}

impl Upload {
    /// The body of a request on a client's connection, unless it is empty.
    pub(super) fn new(body: Incoming, activity: &Rc<Activity>, line: &RequestLine) -> Option<Rc<Self>> {
        (!body.is_end_stream()).then(|| {
            Rc::new(Self {
                body: RefCell::new(Some(body)),
                frames: Cell::new(0),
                state: Cell::new(UploadState::Sending),
                waker: RefCell::new(None),
                activity: Rc::clone(activity),
                line: line.clone(),
            })
        })
    }

    /// The number of frames that were sent: it grows while the client sends.
    pub(super) fn frames(&self) -> u64 {
        self.frames.get()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state.get() == UploadState::Complete
    }

    /// Whether the client failed to send a whole, valid body.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.state.get(), UploadState::Broken | UploadState::Late | UploadState::Invalid)
    }

    /// Whether the client sent nothing for too long.
    pub(super) fn is_late(&self) -> bool {
        self.state.get() == UploadState::Late
    }

    /// Whether the client sent what is no body.
    pub(super) fn is_invalid(&self) -> bool {
        self.state.get() == UploadState::Invalid
    }

    /// Ends the body with an error, and with it the upstream that sends it. The future reads the rest of it for a while: many
    /// clients do not look at the response before they have sent everything.
    pub(super) fn abandon(&self) -> impl Future<Output = ()> + use<> {
        self.state.set(UploadState::Abandoned);
        let body = self.body.take();
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        let (activity, line) = (Rc::clone(&self.activity), self.line.clone());
        activity.set_unread(true);
        async move {
            let Some(body) = body else { return };
            if timeout(LINGER_TIMEOUT, read_all(body)).await == Ok(true) {
                line.end_body();
                activity.set_unread(false);
            }
        }
    }
}

/// Reads a body to its end, and drops it; false if it does not end.
async fn read_all(mut body: Incoming) -> bool {
    loop {
        match timeout(LINGER_IDLE_TIMEOUT, body.frame()).await {
            Ok(Some(Ok(_))) => {}
            Ok(None) => return true,
            Ok(Some(Err(_))) | Err(_) => return false,
        }
    }
}

/// How a body failed: by what it contains, or by its end.
fn state_of(error: &hyper::Error) -> UploadState {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause.map(io::Error::kind) {
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => UploadState::Invalid,
        Some(io::ErrorKind::TimedOut) => UploadState::Late,
        Some(_) | None => UploadState::Broken,
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.state.get() == UploadState::Sending || self.is_broken() {
            self.activity.set_unread(true);
        }
    }
}

/// The body of a request to an instance: the client's, or none.
pub(super) enum RequestBody {
    None,
    Client(Rc<Upload>),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Client(upload) => {
                let mut body = upload.body.borrow_mut();
                let Some(body) = &mut *body else { return Poll::Ready(Some(Err(UploadError::Answered))) };
                let Poll::Ready(mut frame) = Pin::new(&mut *body).poll_frame(cx) else {
                    *upload.waker.borrow_mut() = Some(cx.waker().clone());
                    return Poll::Pending;
                };
                upload.frames.set(upload.frames.get() + 1);
                if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()?.trailers_mut()) {
                    headers::clean_trailers(trailers);
                }
                match &frame {
                    Some(Err(error)) => upload.state.set(state_of(error)),
                    Some(Ok(frame)) if !body.is_end_stream() && !frame.is_trailers() => {}
                    Some(Ok(_)) | None => {
                        upload.state.set(UploadState::Complete);
                        upload.line.end_body();
                    }
                }
                Poll::Ready(frame.map(|frame| frame.map_err(UploadError::Client)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Client(upload) => upload.body.borrow().as_ref().is_some_and(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Client(upload) => upload.body.borrow().as_ref().map(Body::size_hint).unwrap_or_default(),
        }
    }
}
