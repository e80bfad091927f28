//! Sends a request to instances of its service, one after the other, until one responds.

use std::{pin::pin, rc::Rc, time::Duration};

use hyper::{Request, Response, body::Incoming, client::conn::TrySendError};

use super::{
    balancer::{Claim, Unclaimed},
    error_page::ErrorPage,
    pool::{Pool, Upstream},
    refusals::RefusalKind,
    thread_state::ThreadState,
    upload::{RequestBody, Upload},
};
use crate::model::{InstanceId, ServiceKey};

/// How long an instance has to begin its response.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(1);

/// How long an upstream has to become ready for the next request.
const READY_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an instance that keeps idle upstreams of a worker may take to respond on a new one before these are closed. A server that serves one
/// connection after the other does not look at the new one before that.
const CROWDED_TIMEOUT: Duration = Duration::from_millis(250);

/// Maximum number of instances that one request is tried on.
const MAX_TRIES: usize = 3;

/// An instance's response, and what is held while its body is read.
pub(super) struct Dispatched {
    pub(super) response: Response<Incoming>,
    pub(super) claim: Claim,
    pub(super) upstream: Upstream,
}

/// Why no instance responded, and which was tried last.
pub(super) struct Undispatched {
    pub(super) error: ErrorPage,
    pub(super) instance: Option<InstanceId>,
}

/// Sends the request; it is tried on another instance only if nothing of it reached one, or if it may be sent twice.
pub(super) async fn dispatch(
    worker: &ThreadState,
    service: &ServiceKey,
    request: Request<()>,
    upload: Option<&Rc<Upload>>,
) -> Result<Dispatched, Undispatched> {
    let repeatable = upload.is_none() && request.method().is_idempotent();
    let mut request =
        request.map(|()| upload.map_or(RequestBody::None, |upload| RequestBody::Client(Rc::clone(upload))));
    let mut tried: Vec<InstanceId> = Vec::new();
    let mut fresh_only = false;
    while tried.len() < MAX_TRIES {
        let claim = match worker.shared.balancer.claim(service, &tried) {
            Ok(claim) => claim,
            Err(Unclaimed::NoInstance) if tried.is_empty() => {
                return Err(Undispatched { error: ErrorPage::NoInstance, instance: None });
            }
            Err(Unclaimed::NoInstance) => break,
            Err(Unclaimed::Share(share)) => {
                worker.shared.refusals.log(RefusalKind::InFlight, &share.of(service));
                return Err(Undispatched { error: ErrorPage::AppBusy, instance: None });
            }
        };
        let pooled = if fresh_only { None } else { worker.pool.take(&claim, repeatable) };
        let reused = pooled.is_some();
        let upstream = match pooled {
            Some(upstream) => Some(upstream),
            None => worker.pool.connect(&claim).await.ok(),
        };
        if let Some(mut upstream) = upstream
            && is_ready(&mut upstream).await
        {
            let failed = |error| Err(Undispatched { error, instance: Some(claim.instance().clone()) });
            let copy = (reused && repeatable).then(|| copy(&request));
            let crowded = (!reused && !repeatable && worker.pool.has_idle(&claim)).then_some((&*worker.pool, &claim));
            match send(&mut upstream, request, upload.map(Rc::as_ref), crowded).await {
                Ok(response) => {
                    if reused {
                        upstream.lifetime.answered();
                    }
                    return Ok(Dispatched { response, claim, upstream });
                }
                Err(SendError::TimedOut) => return failed(ErrorPage::TimedOut),
                Err(SendError::NotHttp) => return failed(ErrorPage::BadGateway),
                Err(SendError::Broken(_)) if upload.is_some_and(|upload| upload.is_late()) => {
                    return failed(ErrorPage::ClientTimedOut);
                }
                Err(SendError::Broken(_)) if upload.is_some_and(|upload| upload.is_broken()) => {
                    return failed(ErrorPage::BadRequest);
                }
                Err(SendError::Broken(unsent)) => match unsent.map(|unsent| *unsent).or(copy) {
                    Some(again) => request = again,
                    None => return failed(ErrorPage::BadGateway),
                },
            }
        }
        // That an idle upstream was closed does not mean that its instance is down.
        if reused {
            fresh_only = true;
        } else {
            tried.push(claim.instance().clone());
        }
    }
    Err(Undispatched { error: ErrorPage::BadGateway, instance: tried.pop() })
}

/// Whether the upstream takes a request; one that was returned to the pool just now becomes ready in a moment.
async fn is_ready(upstream: &mut Upstream) -> bool {
    let sender = &mut upstream.sender;
    sender.is_ready() || matches!(tokio::time::timeout(READY_TIMEOUT, sender.ready()).await, Ok(Ok(())))
}

enum SendError {
    TimedOut,
    /// The response is not valid HTTP.
    NotHttp,
    /// The connection broke; with the request, if nothing of it was sent.
    Broken(Option<Box<Request<RequestBody>>>),
}

impl From<TrySendError<Request<RequestBody>>> for SendError {
    fn from(mut error: TrySendError<Request<RequestBody>>) -> Self {
        if error.error().is_parse() { Self::NotHttp } else { Self::Broken(error.take_message().map(Box::new)) }
    }
}

/// Sends the request on an upstream and waits for the head of the response. The timeout begins again while the request's
/// body is being sent. If that takes long, the idle upstreams of `crowded` are closed.
async fn send(
    upstream: &mut Upstream,
    request: Request<RequestBody>,
    upload: Option<&Upload>,
    crowded: Option<(&Pool, &Claim)>,
) -> Result<Response<Incoming>, SendError> {
    let mut sending = pin!(upstream.sender.try_send_request(request));
    if let Some((pool, claim)) = crowded {
        match tokio::time::timeout(CROWDED_TIMEOUT, sending.as_mut()).await {
            Ok(sent) => return Ok(sent?),
            Err(_) => pool.close_idle(claim),
        }
    }
    loop {
        let before = upload.map(Upload::frames);
        match tokio::time::timeout(RESPONSE_TIMEOUT, sending.as_mut()).await {
            Ok(sent) => return Ok(sent?),
            Err(_) if before == upload.map(Upload::frames) => return Err(SendError::TimedOut),
            Err(_) => {}
        }
    }
}

/// Copies a request that has no body.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::None);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
