//! The body of a request, on its way to an instance.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

/// How much of a request's body was sent.
#[derive(Default)]
pub(super) struct Upload {
    frames: Cell<u64>,
    state: Cell<UploadState>,
    /// Wakes the upstream that sends the body.
    waker: RefCell<Option<Waker>>,
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

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum UploadState {
    #[default]
    Sending,
    Complete,
    Broken,
    Abandoned,
}

impl Upload {
    /// The number of frames that were sent: it grows while the client sends.
    pub(super) fn frames(&self) -> u64 {
        self.frames.get()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state.get() == UploadState::Complete
    }

    /// Ends the body with an error, and with it the upstream that sends it.
    pub(super) fn abandon(&self) {
        self.state.set(UploadState::Abandoned);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether the client failed to send a whole, valid body.
    pub(super) fn is_broken(&self) -> bool {
        self.state.get() == UploadState::Broken
    }
}

/// The body of a request to an instance: the client's, or none.
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
