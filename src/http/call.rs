//! One request: from its head and body to an operation, and from the result to a response.

use std::sync::Arc;

use axum::{
    extract::{RawPathParams, Request, rejection::RawPathParamsRejection},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};

use super::{
    accept::Accept,
    api::Api,
    authentication::{self, Peer},
    background, files,
    idempotency::{self, Begun},
    input::{self, Asked},
    look::{Looked, look},
    precondition,
    problem::{Problem, RequestId, lost},
    response,
    routes::Route,
    started::{finish, start},
};
use crate::operations::{Caller, FailureKind, Method};

/// Answers a request to a route.
pub(super) async fn answer(
    api: &Api,
    route: &Arc<Route>,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response {
    let answered = async {
        let invalid = |_| Problem::new(StatusCode::BAD_REQUEST, FailureKind::Invalid, "the path is not UTF-8");
        respond(api, route, &parameters.map_err(invalid)?, request).await
    };
    let answered = answered.await;
    answered.unwrap_or_else(IntoResponse::into_response)
}

async fn respond(
    api: &Api,
    route: &Arc<Route>,
    parameters: &RawPathParams,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let peer = head.extensions.get::<Peer>().copied().ok_or_else(lost)?;
    let caller = authentication::caller(api, peer, &head.headers).await?;
    let accept = Accept::of(&head.headers)?;
    let asked = input::read(api, route, parameters, head.uri.query(), &head.headers, body).await?;
    if route.endpoint.method == Method::Get {
        return read(api, route, caller, accept, asked, &head).await;
    }
    route.runner.check(&asked.input.fields)?;
    let writer = precondition::check(api, route, parameters, &caller, &head.headers).await?;
    let request_id = head.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let begun = idempotency::begin(api, route, &caller, &head.headers, &asked).await?;
    match begun {
        Begun::Repeated(response) => Ok(*response),
        Begun::Unstored => {
            let ended = finish(route, start(api, route, caller, asked.input), &request_id).await;
            Ok(ended.response())
        }
        Begun::First { id, caller_key } if route.endpoint.long => {
            let started = start(api, route, caller, asked.input);
            let running = background::run(api, route, id, caller_key, started, request_id, writer)?;
            background::respond(&running, accept, &head.headers).await
        }
        Begun::First { id, .. } => {
            let started = start(api, route, caller, asked.input);
            let guard = started.hangup.clone().drop_guard();
            let (api, route) = (api.clone(), Arc::clone(route));
            let tracker = api.0.tracker.clone();
            let stored = tracker.spawn(async move {
                let ended = finish(&route, started, &request_id).await;
                idempotency::end(&api, id, &ended).await;
                ended
            });
            let ended = stored.await.map_err(|_| lost())?;
            drop(guard.disarm());
            Ok(ended.response())
        }
    }
}

/// Answers a request that reads.
async fn read(
    api: &Api,
    route: &Arc<Route>,
    caller: Caller,
    accept: Accept,
    asked: Asked,
    head: &Parts,
) -> Result<Response, Problem> {
    if route.endpoint.sends_file {
        return files::download(start(api, route, caller, asked.input)).await;
    }
    let answer = look(api, route, &caller, asked).await?;
    match answer {
        Looked::Whole(value, next) => {
            if accept.is_stream() {
                return Ok(response::items_of(value, accept));
            }
            Ok(response::whole(&value, next.as_deref(), &head.uri, &head.headers))
        }
        Looked::Items(items, is_endless) => {
            if is_endless && accept == Accept::Json {
                let text = "this result goes on; accept application/x-ndjson or text/event-stream";
                return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, FailureKind::Invalid, text));
            }
            Ok(response::items(items, if is_endless && accept == Accept::Any { Accept::NdJson } else { accept }))
        }
    }
}
