//! One HTTP request: routed, claimed, sent on, answered.

use std::{net::IpAddr, rc::Rc, time::Duration};

use hyper::{
    Method, Request, Response, StatusCode, Uri, Version,
    body::{Body as _, Bytes, Incoming},
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;

use super::{
    balancer::Claim,
    body::{AnswerBody, Lease, RequestBody},
    headers,
    pool::{Connection, Pool},
    routes,
    worker::Worker,
};
use crate::model::InstanceId;

/// How long an instance has until it begins to answer.
const ANSWER: Duration = Duration::from_mins(1);

/// Instances that one request may be tried on.
const MOST_TRIES: usize = 3;

/// What is the same for all requests of one client's connection.
pub(super) struct Client {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: std::net::SocketAddr,
    pub(super) port: HeaderValue,
    pub(super) peer: IpAddr,
}

/// Why there is no answer of an instance.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    BadRequest,
    NotAllowed,
    NotFound,
    NoInstance,
    BadGateway,
    TimedOut,
}

impl Trouble {
    fn page(self, id: Option<&HeaderValue>) -> Response<AnswerBody> {
        let (status, text) = match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "The request is not understood."),
            Self::NotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "This method is not allowed here."),
            Self::NotFound => (StatusCode::NOT_FOUND, "No app answers at this address."),
            Self::NoInstance => (StatusCode::SERVICE_UNAVAILABLE, "The app has no instance that runs."),
            Self::BadGateway => (StatusCode::BAD_GATEWAY, "The app broke off before it answered."),
            Self::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "The app did not answer in time."),
        };
        let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
        let html = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{status}</title>\
             <h1>{status}</h1><p>{text}</p><p><small>{id}</small></p></html>\n"
        );
        let mut answer = Response::new(AnswerBody::Page(Some(Bytes::from(html))));
        *answer.status_mut() = status;
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        if matches!(self, Self::BadRequest) {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Ok(id) = HeaderValue::from_str(id)
            && !id.is_empty()
        {
            answer.headers_mut().insert(headers::REQUEST_ID, id);
        }
        answer
    }
}

/// Answers a request; trouble is an answer, too.
pub(super) async fn answer(client: &Client, request: Request<Incoming>) -> Response<AnswerBody> {
    match forward(client, request).await {
        Ok(answer) => answer,
        Err((trouble, id)) => trouble.page(id.as_ref()),
    }
}

async fn forward(
    client: &Client,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, (Trouble, Option<HeaderValue>)> {
    let worker = &client.worker;
    if request.method() == Method::CONNECT {
        return Err((Trouble::NotAllowed, None));
    }
    let both = request.headers().contains_key(header::TRANSFER_ENCODING)
        && request.headers().contains_key(header::CONTENT_LENGTH);
    // Two lengths, or two hosts, are how requests are smuggled (RFC 9112, 6.3 and 3.2).
    if both || request.headers().get_all(header::HOST).iter().nth(1).is_some() {
        return Err((Trouble::BadRequest, None));
    }
    let Some(listener) = worker.shared.listener(&client.listener) else { return Err((Trouble::NotFound, None)) };
    let host = request.uri().authority().map(hyper::http::uri::Authority::as_str);
    let host = host.or_else(|| request.headers().get(header::HOST).and_then(|host| host.to_str().ok()));
    let found = routes::find(&listener.routes, host.unwrap_or_default(), request.uri().path());
    let Some(route) = found else { return Err((Trouble::NotFound, None)) };

    let upgrade = headers::upgrade(request.headers());
    let client_side = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
    prepare(client, &mut request, upgrade.as_ref());
    let id = request.headers().get(headers::REQUEST_ID).cloned();
    let sent = send(worker, &route.service, request).await;
    let (mut answer, claim, connection) = sent.map_err(|trouble| (trouble, id.clone()))?;

    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client_side) = client_side else { return Err((Trouble::BadGateway, id)) };
        let instance_side = hyper::upgrade::on(&mut answer);
        worker.connections.spawn_local(tunnel(client_side, instance_side, claim, connection));
        return Ok(answer.map(|_| AnswerBody::Page(None)));
    }
    headers::remove_hop_by_hop(answer.headers_mut());
    *answer.version_mut() = Version::HTTP_11;
    let pool = Rc::clone(&worker.pool);
    Ok(answer.map(|body| AnswerBody::instance(body, Lease { claim, connection, pool })))
}

/// Makes of a client's request the one that an instance gets.
fn prepare(client: &Client, request: &mut Request<Incoming>, upgrade: Option<&HeaderValue>) {
    if let Some(authority) = request.uri().authority().cloned()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(header::HOST, host);
    }
    if !request.headers().contains_key(header::HOST) {
        let host = HeaderValue::from_str(&client.listener.to_string());
        request.headers_mut().insert(header::HOST, host.unwrap_or(HeaderValue::from_static("localhost")));
    }
    if request.uri().scheme().is_some() || request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    headers::remove_hop_by_hop(headers);
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
    let trusted = client.worker.shared.trusted.contains(&client.peer);
    headers::set_forwarded(headers, client.peer, &client.port, trusted);
}

/// Sends the request to one instance after the other: where nothing reached an instance, or where it may be asked twice.
async fn send(
    worker: &Worker,
    service: &str,
    request: Request<Incoming>,
) -> Result<(Response<Incoming>, Claim, Connection), Trouble> {
    let (parts, body) = request.into_parts();
    let bodiless = body.is_end_stream();
    let repeatable = bodiless && parts.method.is_idempotent();
    let mut request = Request::from_parts(parts, if bodiless { RequestBody::None } else { RequestBody::Client(body) });
    let mut tried: Vec<InstanceId> = Vec::new();
    let mut fresh_only = false;
    loop {
        let claim = match worker.shared.balancer.claim(service, &tried) {
            Some(claim) => claim,
            None if tried.is_empty() => return Err(Trouble::NoInstance),
            None => return Err(Trouble::BadGateway),
        };
        let pooled = if fresh_only { None } else { worker.pool.take(&claim) };
        let reused = pooled.is_some();
        let connection = match pooled {
            Some(connection) => Ok(connection),
            None => worker.pool.connect(&claim).await,
        };
        let Ok(mut connection) = connection else {
            tried.push(claim.instance().clone());
            if tried.len() >= MOST_TRIES {
                return Err(Trouble::BadGateway);
            }
            continue;
        };
        if connection.ready().await.is_err() {
            // Closed while it idled: nothing was sent, so nothing is lost but this connection.
            if !reused {
                tried.push(claim.instance().clone());
            }
            fresh_only = reused;
            if tried.len() >= MOST_TRIES {
                return Err(Trouble::BadGateway);
            }
            continue;
        }
        let again = (reused && repeatable).then(|| copy(&request));
        match tokio::time::timeout(ANSWER, connection.try_send_request(request)).await {
            Ok(Ok(answer)) => return Ok((answer, claim, connection)),
            Err(_) => return Err(Trouble::TimedOut),
            Ok(Err(mut error)) => match error.take_message().or(again) {
                Some(unsent) if reused => {
                    request = unsent;
                    fresh_only = true;
                }
                Some(_) | None => return Err(Trouble::BadGateway),
            },
        }
    }
}

/// The same request again; only of one without a body.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::None);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Carries bytes both ways after an upgrade; counts as in flight until both sides have ended.
async fn tunnel(
    client_side: hyper::upgrade::OnUpgrade,
    instance_side: hyper::upgrade::OnUpgrade,
    claim: Claim,
    connection: Connection,
) {
    if let (Ok(client_side), Ok(instance_side)) = tokio::join!(client_side, instance_side) {
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client_side), &mut TokioIo::new(instance_side)).await;
    }
    drop((claim, connection));
}

/// So that a worker's pool is swept now and then.
pub(super) async fn sweep(pool: Rc<Pool>, is_listed: impl Fn(&InstanceId) -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        pool.sweep(&is_listed);
    }
}
