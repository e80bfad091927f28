//! The body of a response to a client: the router's own page, or an instance's body, which counts as in flight until it
//! ends.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use hyper::{
    Method, StatusCode, Uri,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::HeaderValue,
};

use super::{
    activity::Busy, balancer::Claim, pool::Upstream, protocol::Unanswered, thread_state::ThreadState, upload::Upload,
};

pub(super) struct ResponseBody {
    source: Source,
    /// The client's connection is busy until the body has ended.
    busy: Option<Busy>,
}

enum Source {
    Page(Option<Bytes>),
    Instance {
        body: Incoming,
        lease: Option<Lease>,
    },
    /// The instance's body broke off.
    Broken(Option<hyper::Error>),
}

/// What a response holds until its body has ended: the claim, and the upstream, which can then be used again.
pub(super) struct Lease {
    pub(super) claim: Claim,
    pub(super) upstream: Upstream,
    pub(super) worker: Rc<ThreadState>,
    pub(super) upload: Option<Rc<Upload>>,
    pub(super) request: Box<AnsweredRequest>,
}

/// What is reported of a request whose response breaks off.
pub(super) struct AnsweredRequest {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// The request's id.
    pub(super) id: Option<HeaderValue>,
    pub(super) status: StatusCode,
}

impl Lease {
    /// Ends the exchange: the upstream is returned to the pool before the claim is released. An upstream that still
    /// sends a request's body cannot serve another request, and is closed.
    fn end(self) {
        let Self { claim, upstream, worker, upload, .. } = self;
        match upload {
            Some(upload) if !upload.is_complete() => drop(worker.connections.spawn_local(upload.abandon())),
            Some(_) | None => worker.pool.put(&claim, upstream, worker.max_idle_upstreams()),
        }
    }

    /// The instance's body broke off: the upstream cannot be used again, and is closed.
    fn interrupt(self) {
        // It also breaks off when the client goes away while it sends the request's body.
        if self.upload.is_some_and(|upload| !upload.is_complete()) {
            return;
        }
        let AnsweredRequest { method, uri, id, status } = &*self.request;
        self.worker.shared.failures.report(Unanswered {
            service: self.claim.service().clone(),
            status: status.as_u16(),
            instance: Some(self.claim.instance().clone()),
            method: method.to_string(),
            path: uri.path().to_owned(),
            request_id: id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned(),
            suppressed: 0,
            interrupted: true,
            overload: false,
        });
    }
}

impl ResponseBody {
    pub(super) fn instance(body: Incoming, lease: Lease) -> Self {
        let lease = if body.is_end_stream() {
            lease.end();
            None
        } else {
            Some(lease)
        };
        Self { source: Source::Instance { body, lease }, busy: None }
    }

    pub(super) fn page(text: Bytes) -> Self {
        Self { source: Source::Page(Some(text)), busy: None }
    }

    pub(super) fn empty() -> Self {
        Self { source: Source::Page(None), busy: None }
    }

    pub(super) fn keep_busy(&mut self, busy: Busy) {
        self.busy = Some(busy);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let source = &mut self.get_mut().source;
        match source {
            Source::Page(page) => Poll::Ready(page.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Instance { body, lease } => {
                let polled = Pin::new(&mut *body).poll_frame(cx);
                let ended = match &polled {
                    Poll::Ready(None) => true,
                    Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || body.is_end_stream(),
                    Poll::Ready(Some(Err(_))) | Poll::Pending => false,
                };
                if ended && let Some(lease) = lease.take() {
                    lease.end();
                }
                let Poll::Ready(Some(Err(error))) = polled else { return polled };
                if let Some(lease) = lease.take() {
                    lease.interrupt();
                }
                *source = Source::Broken(Some(error));
                // hyper closes the client's connection at an error; what it has got before is sent first.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Source::Broken(error) => Poll::Ready(error.take().map(Err)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Page(page) => page.is_none(),
            Source::Instance { body, .. } => body.is_end_stream(),
            Source::Broken(error) => error.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Page(page) => SizeHint::with_exact(page.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Instance { body, .. } => body.size_hint(),
            Source::Broken(_) => SizeHint::default(),
        }
    }
}
