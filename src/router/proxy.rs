//! One HTTP request: routed, claimed, sent on, answered.

use std::{pin::pin, rc::Rc, time::Duration};

use hyper::{
    Method, Request, Response, StatusCode, Uri, Version,
    body::{Body as _, Bytes, Incoming},
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use super::{
    balancer::Claim,
    body::{Activity, AnswerBody, Lease, RequestBody, Upload},
    headers,
    pool::{Connection, Pool},
    protocol::Unanswered,
    routes,
    tunnel::BUFFER,
    worker::Worker,
};
use crate::model::InstanceId;

/// How long an instance has until it begins to answer.
const ANSWER: Duration = Duration::from_mins(1);

/// How long a connection has until it takes the next request.
const READY: Duration = Duration::from_secs(3);

/// Of a path, so many characters are told.
const LONGEST_PATH: usize = 200;

/// Instances that one request may be tried on.
const MOST_TRIES: usize = 3;

/// What is the same for all requests of one client's connection.
pub(super) struct Client {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: std::net::SocketAddr,
    pub(super) peer: headers::Peer,
    pub(super) activity: Rc<Activity>,
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
    fn words(self) -> (StatusCode, &'static str) {
        match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "The request is not understood."),
            Self::NotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "This method is not allowed here."),
            Self::NotFound => (StatusCode::NOT_FOUND, "No app answers at this address."),
            Self::NoInstance => (StatusCode::SERVICE_UNAVAILABLE, "The app has no instance that runs."),
            Self::BadGateway => (StatusCode::BAD_GATEWAY, "The app broke off before it answered."),
            Self::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "The app did not answer in time."),
        }
    }

    fn page(self, id: Option<&HeaderValue>) -> Response<AnswerBody> {
        let (status, text) = self.words();
        let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
        let html = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{status}</title>\
             <h1>{status}</h1><p>{text}</p><p><small>{id}</small></p></html>\n"
        );
        let mut answer = Response::new(AnswerBody::page(Some(Bytes::from(html))));
        *answer.status_mut() = status;
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        if matches!(self, Self::BadRequest | Self::NotAllowed) {
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
    let busy = client.activity.begin();
    let mut answer = match forward(client, request).await {
        Ok(answer) => answer,
        Err((trouble, id)) => trouble.page(id.as_ref()),
    };
    // Told to go elsewhere with the next request, a client does not send one to a connection that is being closed.
    if client.worker.draining.get() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer.body_mut().keep_busy(busy);
    answer
}

async fn forward(
    client: &Client,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, (Trouble, Option<HeaderValue>)> {
    let worker = &client.worker;
    if request.method() == Method::CONNECT {
        return Err((Trouble::NotAllowed, None));
    }
    // Two lengths, or two hosts, are how requests are smuggled (RFC 9112, 6.3 and 3.2).
    if !headers::is_framed_well(request.headers()) {
        return Err((Trouble::BadRequest, None));
    }
    set_host(client, &mut request).map_err(|trouble| (trouble, None))?;
    let Some(listener) = worker.shared.listener(&client.listener) else { return Err((Trouble::NotFound, None)) };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let found = routes::find(&listener.routes, host, request.uri().path());
    let Some(route) = found else { return Err((Trouble::NotFound, None)) };

    // What comes after a body is not looked for, and HTTP/1.0 knows no upgrade.
    let upgradable = request.version() == Version::HTTP_11 && request.body().is_end_stream();
    let upgrade = if upgradable { headers::upgrade(request.headers()) } else { None };
    let client_side = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
    prepare(client, &mut request, upgrade.as_ref());
    let id = request.headers().get(headers::REQUEST_ID).cloned();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let Sent { mut answer, claim, connection, upload } = match send(worker, &route.service, request).await {
        Ok(sent) => sent,
        Err(Unsent { trouble, instance }) => {
            // A client's own fault is no trouble of the app's.
            if !matches!(trouble, Trouble::BadRequest) {
                let request_id = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
                let one = Unanswered {
                    service: route.service.clone(),
                    status: trouble.words().0.as_u16(),
                    instance,
                    method: method.to_string(),
                    path: uri.path().chars().take(LONGEST_PATH).collect(),
                    request_id,
                    untold: 0,
                };
                worker.shared.unheard.tell(one);
            }
            return Err((trouble, id));
        }
    };

    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client_side) = client_side else { return Err((Trouble::BadGateway, id)) };
        let instance_side = hyper::upgrade::on(&mut answer);
        worker.connections.spawn_local(tunnel(client_side, instance_side, claim, connection));
        return Ok(answer.map(|_| AnswerBody::page(None)));
    }
    if answer.headers().contains_key(header::TRANSFER_ENCODING) {
        answer.headers_mut().remove(header::CONTENT_LENGTH);
    }
    headers::remove_hop_by_hop(answer.headers_mut());
    *answer.version_mut() = Version::HTTP_11;
    let pool = Rc::clone(&worker.pool);
    Ok(answer.map(|body| AnswerBody::instance(body, Lease { claim, connection, pool, upload })))
}

/// Leaves exactly one host, in the header: that of an absolute target counts for more (RFC 9112, 3.2.2).
fn set_host(client: &Client, request: &mut Request<Incoming>) -> Result<(), Trouble> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(Trouble::BadRequest),
        (host, _) => host,
    };
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Trouble::BadRequest)?;
        let path = request.uri().path_and_query().cloned();
        if !headers::is_host(host.as_bytes()) {
            return Err(Trouble::BadRequest);
        }
        request.headers_mut().insert(header::HOST, host);
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        return Ok(());
    }
    match host {
        Some(host) if headers::is_host(host.as_bytes()) => Ok(()),
        None if request.version() == Version::HTTP_10 => {
            let host = HeaderValue::from_str(&client.listener.to_string()).map_err(|_| Trouble::BadRequest)?;
            request.headers_mut().insert(header::HOST, host);
            Ok(())
        }
        Some(_) | None => Err(Trouble::BadRequest),
    }
}

/// Makes of a client's request the one that an instance gets.
fn prepare(client: &Client, request: &mut Request<Incoming>, upgrade: Option<&HeaderValue>) {
    *request.version_mut() = Version::HTTP_11;
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let headers = request.headers_mut();
    headers::remove_hop_by_hop(headers);
    // The client is told to go on as soon as an instance takes the body.
    headers.remove(header::EXPECT);
    if chunked {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
    headers::set_forwarded(headers, &client.peer);
}

/// An answer, and what is held for it.
struct Sent {
    answer: Response<Incoming>,
    claim: Claim,
    connection: Connection,
    upload: Option<Rc<Upload>>,
}

/// Why no instance answered, and which was asked last.
struct Unsent {
    trouble: Trouble,
    instance: Option<InstanceId>,
}

/// Sends the request to one instance after the other: where nothing reached an instance, or where it may be asked twice.
async fn send(worker: &Worker, service: &str, request: Request<Incoming>) -> Result<Sent, Unsent> {
    let (parts, body) = request.into_parts();
    let upload = if body.is_end_stream() { None } else { Some(Rc::new(Upload::default())) };
    let repeatable = upload.is_none() && parts.method.is_idempotent();
    let body = match &upload {
        None => RequestBody::None,
        Some(upload) => RequestBody::Client(body, Rc::clone(upload)),
    };
    let mut request = Request::from_parts(parts, body);
    let mut tried: Vec<InstanceId> = Vec::new();
    let mut fresh_only = false;
    while tried.len() < MOST_TRIES {
        let claim = match worker.shared.balancer.claim(service, &tried) {
            Some(claim) => claim,
            None if tried.is_empty() => return Err(Unsent { trouble: Trouble::NoInstance, instance: None }),
            None => break,
        };
        let pooled = if fresh_only { None } else { worker.pool.take(&claim) };
        let reused = pooled.is_some();
        let connection = match pooled {
            Some(connection) => Some(connection),
            None => worker.pool.connect(&claim).await.ok(),
        };
        if let Some(mut connection) = connection
            && is_ready(&mut connection).await
        {
            let unsent = |trouble| Err(Unsent { trouble, instance: Some(claim.instance().clone()) });
            let again = (reused && repeatable).then(|| copy(&request));
            match begin(&mut connection, request, upload.as_deref()).await {
                Ok(answer) => return Ok(Sent { answer, claim, connection, upload }),
                Err(Failure::TimedOut) => return unsent(Trouble::TimedOut),
                Err(Failure::Nonsense) => return unsent(Trouble::BadGateway),
                Err(Failure::Broken(_)) if upload.as_ref().is_some_and(|upload| upload.is_broken()) => {
                    return unsent(Trouble::BadRequest);
                }
                Err(Failure::Broken(whole)) => match whole.map(|whole| *whole).or(again) {
                    Some(whole) => request = whole,
                    None => return unsent(Trouble::BadGateway),
                },
            }
        }
        // A connection that was closed while it idled says nothing of its instance.
        if reused {
            fresh_only = true;
        } else {
            tried.push(claim.instance().clone());
        }
    }
    Err(Unsent { trouble: Trouble::BadGateway, instance: tried.pop() })
}

/// Whether the connection takes a request; one that was just put back does in a moment.
async fn is_ready(connection: &mut Connection) -> bool {
    connection.is_ready() || matches!(tokio::time::timeout(READY, connection.ready()).await, Ok(Ok(())))
}

enum Failure {
    TimedOut,
    /// What came is not HTTP.
    Nonsense,
    /// With the request, if nothing of it was sent.
    Broken(Option<Box<Request<RequestBody>>>),
}

/// Sends the request on a connection and waits for the head of the answer: for as long as the body moves, and then not
/// too long.
async fn begin(
    connection: &mut Connection,
    request: Request<RequestBody>,
    upload: Option<&Upload>,
) -> Result<Response<Incoming>, Failure> {
    let mut sending = pin!(connection.try_send_request(request));
    loop {
        let before = upload.map(Upload::frames);
        match tokio::time::timeout(ANSWER, sending.as_mut()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if error.error().is_parse() => return Err(Failure::Nonsense),
            Ok(Err(mut error)) => return Err(Failure::Broken(error.take_message().map(Box::new))),
            Err(_) if before == upload.map(Upload::frames) => return Err(Failure::TimedOut),
            Err(_) => {}
        }
    }
}

/// The same request again; only of one without a body.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::None);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
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
        let (mut client_side, mut instance_side) = (TokioIo::new(client_side), TokioIo::new(instance_side));
        let _ = copy_bidirectional_with_sizes(&mut client_side, &mut instance_side, BUFFER, BUFFER).await;
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
