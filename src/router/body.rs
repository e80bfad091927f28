//! The body of an answer: a short page of ours, or an instance's, which counts as in flight until its end.

use std::{
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
}

impl Lease {
    /// The exchange is over: the connection goes back before the claim does.
    fn end(self) {
        let Self { claim, connection, pool } = self;
        pool.put(&claim, connection);
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
                match &polled {
                    Poll::Ready(None) => {
                        if let Some(lease) = lease.take() {
                            lease.end();
                        }
                    }
                    // The connection is of no use any more; dropping the lease closes it.
                    Poll::Ready(Some(Err(_))) => drop(lease.take()),
                    Poll::Ready(Some(Ok(_))) if body.is_end_stream() => {
                        if let Some(lease) = lease.take() {
                            lease.end();
                        }
                    }
                    Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
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

/// The body of a request on its way to an instance: the client's, or none.
pub(super) enum RequestBody {
    None,
    Client(Incoming),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Client(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Client(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Client(body) => body.size_hint(),
        }
    }
}
