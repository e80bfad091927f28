//! The body of an answer: a short page of ours, or an instance's, which counts as in flight until its end. And the body
//! of a request, on its way to an instance.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::{
    balancer::Claim,
    pool::{Connection, Pool},
};

pub(super) enum AnswerBody {
    Page(Option<Bytes>),
    Instance { body: Incoming, lease: Option<Lease> },
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
        if upload.is_none_or(|upload| upload.is_complete()) {
            pool.put(&claim, connection);
        }
    }
}

impl AnswerBody {
    pub(super) fn instance(body: Incoming, lease: Lease) -> Self {
        if body.is_end_stream() {
            lease.end();
            return Self::Instance { body, lease: None };
        }
        Self::Instance { body, lease: Some(lease) }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Page(page) => Poll::Ready(page.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Instance { body, lease } => {
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
        match self {
            Self::Page(page) => page.is_none(),
            Self::Instance { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Page(page) => SizeHint::with_exact(page.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Instance { body, .. } => body.size_hint(),
        }
    }
}

/// How far the body of a request has come.
#[derive(Default)]
pub(super) struct Upload {
    frames: Cell<u64>,
    state: Cell<UploadState>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum UploadState {
    #[default]
    Moving,
    Complete,
    Broken,
}

impl Upload {
    /// Grows while the body moves.
    pub(super) fn frames(&self) -> u64 {
        self.frames.get()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state.get() == UploadState::Complete
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
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Client(body, upload) => {
                let polled = Pin::new(&mut *body).poll_frame(cx);
                if let Poll::Ready(frame) = &polled {
                    upload.frames.set(upload.frames.get() + 1);
                    match frame {
                        Some(Err(_)) => upload.state.set(UploadState::Broken),
                        Some(Ok(_)) if !body.is_end_stream() => {}
                        Some(Ok(_)) | None => upload.state.set(UploadState::Complete),
                    }
                }
                polled
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
