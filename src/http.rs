//! The HTTP API: each operation is a resource below `/v1`, with the same input, right, result and audit entry as through
//! any other door. JSON in, JSON or a stream out; failures are problem documents (RFC 9457).

mod accept;
mod api;
mod authentication;
mod background;
mod call;
mod files;
mod headers;
mod idempotency;
mod input;
mod json;
mod limits;
mod listener;
mod look;
mod openapi;
mod pages;
mod precondition;
mod problem;
mod response;
mod routes;
mod running;
mod spool;
mod started;
mod webhooks;
mod writers;

use axum::{
    Router,
    extract::{RawPathParams, Request, State, rejection::RawPathParamsRejection},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{MethodFilter, MethodRouter, any, get, post},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    model::Line,
    operations::{self, FailureKind},
};
use authentication::Peer;
use problem::{Problem, RequestId};

pub use api::Api;
pub use background::RequestSweep;
pub use listener::Listener;

/// Accepts connections until `shutdown`; requests that run then have their time to end.
pub async fn serve(listener: Listener, api: Api, tracker: TaskTracker, shutdown: CancellationToken) {
    listener::serve(listener, router(&api), api.0.max_connections, tracker, shutdown).await;
}

/// The service of all paths.
fn router(api: &Api) -> Router {
    let mut router = Router::new()
        .route("/v1/openapi.json", get(openapi::serve))
        .route("/v1/webhooks/{id}", post(webhooks::receive))
        .route("/v1/operations/{id}", get(background::show).delete(background::cancel));
    for (path, routes) in api.0.routes.by_path() {
        let mut methods = MethodRouter::new();
        for route in routes {
            let filter = filter(route.endpoint.method);
            let answer = move |State(api): State<Api>, parameters: Parameters, request: Request| async move {
                call::answer(&api, &route, parameters, request).await
            };
            methods = methods.on(filter, answer);
        }
        router = router.route(&format!("/v1{path}"), methods);
    }
    router
        .route("/", get(|| async { "This is the HTTP API of a paas server: see /v1/openapi.json.\n" }))
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, FailureKind::Invalid, "this path has no such method")
                .into_response()
        })
        .fallback(any(|| async {
            let text = "there is nothing at this path; GET /v1/openapi.json lists all";
            Problem::new(StatusCode::NOT_FOUND, FailureKind::NotFound, text).into_response()
        }))
        .layer(middleware::from_fn_with_state(api.clone(), identified))
        .with_state(api.clone())
}

/// The parameters of a path, which may be invalid.
type Parameters = Result<RawPathParams, RawPathParamsRejection>;

fn filter(method: operations::Method) -> MethodFilter {
    match method {
        operations::Method::Get => MethodFilter::GET,
        operations::Method::Post => MethodFilter::POST,
        operations::Method::Put => MethodFilter::PUT,
        operations::Method::Patch => MethodFilter::PATCH,
        operations::Method::Delete => MethodFilter::DELETE,
    }
}

/// Gives each request an identity, and logs it.
async fn identified(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let id = format!("{:032x}", rand::random::<u128>());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = std::time::Instant::now();
    request.extensions_mut().insert(RequestId(id.clone()));
    let peer = request.extensions().get::<Peer>().map(Peer::to_string).unwrap_or_default();
    let answered = api.0.abort.run_until_cancelled(next.run(request)).await;
    let mut response = answered.unwrap_or_else(|| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            FailureKind::Unavailable,
            "the server is shutting down; try again later",
        )
        .into_response()
    });
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = problem.response(&id);
    }
    if let Ok(value) = id.parse() {
        response.headers_mut().insert("x-request-id", value);
    }
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let (status, milliseconds) = (response.status().as_u16(), began.elapsed().as_millis());
    let path: String = Line::sanitize(&path).chars().take(200).collect();
    if method == Method::GET && status < 500 {
        tracing::debug!(request_id = id, %method, path, status, %milliseconds, %peer, "http request");
    } else {
        tracing::info!(request_id = id, %method, path, status, %milliseconds, %peer, "http request");
    }
    response
}
