//! One HTTP request: routed, checked, sent to an instance, answered.

use std::rc::Rc;

use hyper::{
    Method, Request, Response, StatusCode, Uri, Version,
    body::{Body as _, Incoming},
    header::{self, HeaderValue},
};

use super::{
    activity::Activity,
    body::{Lease, ResponseBody},
    dispatch::{Dispatched, Undispatched, dispatch},
    error_page::ErrorPage,
    headers,
    protocol::{Action, Unanswered},
    routes,
    thread_state::ThreadState,
    transport::Transport,
    tunnel,
};

/// Maximum number of characters of a path that are reported to the server.
const MAX_REPORTED_PATH: usize = 200;

/// What all requests of one client's connection share.
pub(super) struct Client {
    pub(super) worker: Rc<ThreadState>,
    pub(super) activity: Rc<Activity>,
    transport: Transport,
    /// The client, as the forwarding headers describe it.
    peer: headers::Peer,
}

impl Client {
    pub(super) fn new(worker: Rc<ThreadState>, transport: Transport) -> Self {
        let peer = headers::Peer::new(&transport, &worker.shared.trusted);
        Self { worker, activity: Activity::new(), transport, peer }
    }
}

/// Answers a request: with an instance's response, or with an error page.
pub(super) async fn answer(client: &Client, request: Request<Incoming>) -> Response<ResponseBody> {
    let busy = client.activity.begin();
    let mut response = match forward(client, request).await {
        Ok(response) => response,
        Err((error, id)) => error.response(id.as_ref()),
    };
    response.body_mut().keep_busy(busy);
    response
}

async fn forward(
    client: &Client,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, (ErrorPage, Option<HeaderValue>)> {
    let worker = &client.worker;
    if request.method() == Method::CONNECT {
        return Err((ErrorPage::NotAllowed, None));
    }
    // Requests are smuggled by two lengths or by two hosts (RFC 9112, 6.3 and 3.2).
    if !headers::is_framed_well(request.headers()) {
        return Err((ErrorPage::BadRequest, None));
    }
    set_host(client, &mut request).map_err(|error| (error, None))?;
    let Some(listener) = worker.shared.listener(&client.transport.listener) else {
        return Err((ErrorPage::NotFound, None));
    };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let found = routes::find(&listener.routes, host, request.uri().path());
    let service = match found.map(|route| &route.action) {
        Some(Action::Forward(service)) => service,
        Some(Action::Unknown) => return Err((ErrorPage::UnknownAction, None)),
        None => return Err((ErrorPage::NotFound, None)),
    };

    // Bytes after a request's body are not read as an upgraded stream, and HTTP/1.0 has no upgrades.
    let upgradable = request.version() == Version::HTTP_11 && request.body().is_end_stream();
    let upgrade = if upgradable { headers::upgrade(request.headers()) } else { None };
    let client_side = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
    prepare(client, &mut request, upgrade.as_ref());
    let id = request.headers().get(headers::REQUEST_ID).cloned();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let Dispatched { mut response, claim, upstream, upload } = match dispatch(worker, service, request).await {
        Ok(dispatched) => dispatched,
        Err(Undispatched { error, instance }) => {
            // An invalid request is the client's fault, not the app's.
            if !matches!(error, ErrorPage::BadRequest) {
                let request_id = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
                worker.shared.failures.report(Unanswered {
                    service: service.clone(),
                    status: error.status().as_u16(),
                    instance,
                    method: method.to_string(),
                    path: uri.path().chars().take(MAX_REPORTED_PATH).collect(),
                    request_id,
                    suppressed: 0,
                });
            }
            return Err((error, id));
        }
    };

    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client_side) = client_side else { return Err((ErrorPage::BadGateway, id)) };
        let instance_side = hyper::upgrade::on(&mut response);
        worker.connections.spawn_local(tunnel::serve_upgraded(client_side, instance_side, claim, upstream));
        return Ok(response.map(|_| ResponseBody::empty()));
    }
    if response.headers().contains_key(header::TRANSFER_ENCODING) {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    headers::remove_hop_by_hop(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    let pool = Rc::clone(&worker.pool);
    Ok(response.map(|body| ResponseBody::instance(body, Lease { claim, upstream, pool, upload })))
}

/// Leaves exactly one `Host` header. The host of an absolute request target takes precedence (RFC 9112, 3.2.2).
fn set_host(client: &Client, request: &mut Request<Incoming>) -> Result<(), ErrorPage> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(ErrorPage::BadRequest),
        (host, _) => host,
    };
    if let Some(authority) = request.uri().authority() {
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
fn prepare(client: &Client, request: &mut Request<Incoming>, upgrade: Option<&HeaderValue>) {
    *request.version_mut() = Version::HTTP_11;
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let headers = request.headers_mut();
    headers::remove_hop_by_hop(headers);
    // The router itself tells the client to continue, as soon as an instance takes the body.
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
