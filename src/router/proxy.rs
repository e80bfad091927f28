//! One HTTP request: routed, checked, sent to an instance, answered.

use std::rc::Rc;

use hyper::{
    Method, Request, Response, StatusCode, Uri, Version,
    body::Incoming,
    header::{self, HeaderValue},
    http::uri::PathAndQuery,
};

use super::{
    activity::Activity,
    body::{AnsweredRequest, Lease, ResponseBody},
    client_limits::ClientSlot,
    client_stream::{RequestLine, target_of},
    dispatch::{Dispatched, Undispatched, dispatch},
    error_page::ErrorPage,
    headers,
    protocol::{Action, Unanswered},
    routes,
    thread_state::ThreadState,
    transport::Transport,
    tunnel,
    upload::Upload,
};
use crate::model::{InstanceId, ServiceKey};

/// What all requests of one client's connection share.
pub(super) struct Client {
    pub(super) worker: Rc<ThreadState>,
    pub(super) activity: Rc<Activity>,
    pub(super) line: RequestLine,
    transport: Transport,
    /// The client, as the forwarding headers describe it.
    peer: headers::Peer,
}

impl Client {
    pub(super) fn new(worker: Rc<ThreadState>, transport: Transport, slot: ClientSlot) -> Self {
        let peer = headers::Peer::new(&transport, &worker.shared.trusted);
        let line = RequestLine::default();
        Self { worker, activity: Activity::new(line.clone(), slot), line, transport, peer }
    }
}

/// Why a request was not answered by an instance: the page, and what the app's log gets.
struct Failure {
    error: ErrorPage,
    /// None if the request was for no app.
    service: Option<ServiceKey>,
    instance: Option<InstanceId>,
    /// None if the request got none yet.
    id: Option<HeaderValue>,
}

impl From<ErrorPage> for Failure {
    fn from(error: ErrorPage) -> Self {
        Self { error, service: None, instance: None, id: None }
    }
}

/// Answers a request: with an instance's response, or with an error page.
pub(super) async fn answer(client: &Client, request: Request<Incoming>) -> Response<ResponseBody> {
    let busy = client.activity.begin();
    let (parts, body) = request.into_parts();
    let upload = Upload::new(body, &client.activity, &client.line);
    let mut request = Request::from_parts(parts, ());
    let mut response = match forward(client, &mut request, upload.as_ref()).await {
        Ok(response) => response,
        Err(failure) => {
            let id = failure.id.clone().unwrap_or_else(headers::request_id);
            report(client, &failure, request.method().as_str(), request.uri().path(), &id);
            let mut response = failure.error.response(&id);
            // What is left of the body is not read as a request.
            if upload.is_some_and(|upload| !upload.is_complete()) {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    };
    response.body_mut().keep_busy(busy);
    response
}

/// The router's whole response to a request that hyper could not parse.
pub(super) fn refuse_unparsed(client: &Client) -> Vec<u8> {
    let refusal = client.line.refusal().unwrap_or_default();
    let line = client.line.unparsed();
    let error = match refusal.get(9..12) {
        Some(b"414") => ErrorPage::TargetTooLong,
        Some(b"431") => ErrorPage::HeadTooLarge,
        _ if has_unknown_version(&line) => ErrorPage::Version,
        _ => ErrorPage::BadRequest,
    };
    let (method, target) = (line.split(|byte| *byte == b' ').next().unwrap_or_default(), target_of(&line));
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let id = headers::request_id();
    let failure = Failure { error, service: only_service(client), instance: None, id: None };
    report(client, &failure, &method.escape_ascii().to_string(), &path.escape_ascii().to_string(), &id);
    error.message(&id, &refusal, method == b"HEAD")
}

/// The router's whole response to a head that did not come in time.
pub(super) fn refuse_late() -> Vec<u8> {
    ErrorPage::ClientTimedOut.message(&headers::request_id(), &[], false)
}

/// Whether a request line is that of another major version of HTTP.
fn has_unknown_version(line: &[u8]) -> bool {
    let version = line.trim_ascii_end().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if *major != b'1' && minor.is_ascii_digit())
}

/// The service of the listener's requests whose host is not known.
fn only_service(client: &Client) -> Option<ServiceKey> {
    let listener = client.worker.shared.listener(&client.transport.listener)?;
    match routes::find(&listener.routes, "", "/").map(|route| &route.action) {
        Some(Action::Forward(service)) => Some(service.clone()),
        Some(Action::Unknown) | None => None,
    }
}

/// Reports a request to the server, for the app's log.
fn report(client: &Client, failure: &Failure, method: &str, path: &str, id: &HeaderValue) {
    let Failure { error, service, instance, id: _ } = failure;
    let Some(service) = service else { return };
    client.worker.shared.failures.report(Unanswered {
        service: service.clone(),
        status: error.status().as_u16(),
        instance: instance.clone(),
        method: method.to_owned(),
        path: path.to_owned(),
        request_id: id.to_str().unwrap_or_default().to_owned(),
        suppressed: 0,
        interrupted: false,
        overload: matches!(error, ErrorPage::AppBusy),
    });
}

async fn forward(
    client: &Client,
    request: &mut Request<()>,
    upload: Option<&Rc<Upload>>,
) -> Result<Response<ResponseBody>, Failure> {
    let worker = &client.worker;
    let target = request.uri().path_and_query().map_or("", PathAndQuery::as_str);
    let is_altered = client.line.begin(target, upload.is_some());
    let refused = |error| Failure { error, service: only_service(client), instance: None, id: None };
    if request.method() == Method::CONNECT {
        return Err(refused(ErrorPage::NotAllowed));
    }
    // Requests are smuggled by two lengths or by two hosts (RFC 9112, 6.3 and 3.2). An instance gets the target that the
    // client has sent, or none.
    if is_altered || !headers::is_framed_well(request.headers()) {
        return Err(refused(ErrorPage::BadRequest));
    }
    set_host(client, request).map_err(refused)?;
    let Some(listener) = worker.shared.listener(&client.transport.listener) else {
        return Err(ErrorPage::NotFound.into());
    };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let found = routes::find(&listener.routes, host, request.uri().path());
    let service = match found.map(|route| &route.action) {
        Some(Action::Forward(service)) => service,
        Some(Action::Unknown) => return Err(ErrorPage::UnknownAction.into()),
        None => return Err(ErrorPage::NotFound.into()),
    };

    // Bytes after a request's body are not read as an upgraded stream, and HTTP/1.0 has no upgrades.
    let upgradable = request.version() == Version::HTTP_11 && upload.is_none();
    let upgrade = if upgradable { headers::upgrade(request.headers()) } else { None };
    let client_side = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut *request));
    prepare(client, request, upgrade.as_ref());
    let id = request.headers().get(headers::REQUEST_ID).cloned();
    let about = (request.method().clone(), request.uri().clone());
    let failed = |error, service: Option<&ServiceKey>, instance| Failure {
        error,
        service: service.cloned(),
        instance,
        id: id.clone(),
    };
    let Dispatched { mut response, claim, upstream } = match dispatch(worker, service, std::mem::take(request), upload)
        .await
    {
        Ok(dispatched) => dispatched,
        Err(Undispatched { error, instance }) => {
            (*request.method_mut(), *request.uri_mut()) = about;
            // A client that went away needs no entry.
            let is_gone = matches!(error, ErrorPage::BadRequest) && !upload.is_some_and(|upload| upload.is_invalid());
            let service = (!is_gone).then_some(service);
            return Err(failed(error, service, instance));
        }
    };

    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client_side) = client_side else {
            (*request.method_mut(), *request.uri_mut()) = about;
            return Err(failed(ErrorPage::BadGateway, Some(service), Some(claim.instance().clone())));
        };
        let instance_side = hyper::upgrade::on(&mut response);
        // Some instances leave it out, and some clients insist on it (RFC 9110, 7.8).
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        client.line.upgraded();
        let busy = client.activity.begin();
        worker.connections.spawn_local(tunnel::serve_upgraded(client_side, instance_side, claim, upstream, busy));
        return Ok(response.map(|_| ResponseBody::empty()));
    }
    if !headers::simplify_framing(response.headers_mut()) {
        (*request.method_mut(), *request.uri_mut()) = about;
        return Err(failed(ErrorPage::BadGateway, Some(service), Some(claim.instance().clone())));
    }
    upstream.lifetime.announce(headers::keep_alive(response.version(), response.headers()));
    headers::remove_hop_by_hop(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    let (method, uri) = about;
    let request = Box::new(AnsweredRequest { method, uri, id, status: response.status() });
    let lease = Lease { claim, upstream, worker: Rc::clone(worker), upload: upload.cloned(), request };
    Ok(response.map(|body| ResponseBody::instance(body, lease)))
}

/// Leaves exactly one `Host` header. The host of an absolute request target takes precedence (RFC 9112, 3.2.2).
fn set_host(client: &Client, request: &mut Request<()>) -> Result<(), ErrorPage> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(ErrorPage::BadRequest),
        (host, _) => host,
    };
    if let Some(authority) = request.uri().authority() {
        // A target with neither scheme nor path is that of CONNECT (RFC 9112, 3.2.3).
        if !matches!(request.uri().scheme_str(), Some("http" | "https")) {
            return Err(ErrorPage::BadRequest);
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| ErrorPage::BadRequest)?;
        let path = request.uri().path_and_query().cloned();
        if !headers::is_host(host.as_bytes()) {
            return Err(ErrorPage::BadRequest);
        }
        request.headers_mut().insert(header::HOST, host);
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        return Ok(());
    }
    match host {
        Some(host) if headers::is_host(host.as_bytes()) => Ok(()),
        None if request.version() == Version::HTTP_10 => {
            let host =
                HeaderValue::from_str(&client.transport.listener.to_string()).map_err(|_| ErrorPage::BadRequest)?;
            request.headers_mut().insert(header::HOST, host);
            Ok(())
        }
        Some(_) | None => Err(ErrorPage::BadRequest),
    }
}

/// Turns a client's request into the one that an instance gets.
fn prepare(client: &Client, request: &mut Request<()>, upgrade: Option<&HeaderValue>) {
    *request.version_mut() = Version::HTTP_11;
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let headers = request.headers_mut();
    let takes_trailers = headers::takes_trailers(headers);
    headers::remove_hop_by_hop(headers);
    // The router itself tells the client to continue, as soon as an instance takes the body.
    if headers.get(header::EXPECT).is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        headers.remove(header::EXPECT);
    }
    if chunked {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    } else if takes_trailers {
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    headers::set_forwarded(headers, &client.peer);
}
