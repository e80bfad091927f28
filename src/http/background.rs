//! Operations that take long: they go on when the request has been answered with 202, and have an address where their state
//! and lines are.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use super::{
    accept::Accept,
    api::Api,
    authentication::{self, Peer, caller_key},
    headers::preferred_wait,
    idempotency,
    problem::{Problem, lost},
    response::{self, Part},
    routes::Route,
    running::{Ended, OperationDocument, Running, outcome, url},
    started::Started,
    writers::Writer,
};
use crate::{
    operations::{Failure, FailureKind, Time},
    periodic::{Activated, Periodic},
    store::{Millis, Store, now},
};

/// How long a response waits for an operation that has not yet begun to work: it may be refused at once.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How long results are kept.
const KEEP: Duration = Duration::from_hours(24);

/// Lets an operation go on in the background; its end is stored.
pub(super) fn run(
    api: &Api,
    route: &Arc<Route>,
    id: String,
    caller_key: String,
    started: Started,
    request_id: String,
    writer: Writer,
) -> Result<Arc<Running>, Problem> {
    let Started { mut lines, result, output, hangup } = started;
    let running = Arc::new(Running::new(id, caller_key, route.name, hangup));
    if let Err(problem) = api.0.background.add(&running) {
        running.hangup.cancel();
        return Err(problem);
    }
    let (api, route, followed) = (api.clone(), Arc::clone(route), Arc::clone(&running));
    let tracker = api.0.tracker.clone();
    tracker.spawn(async move {
        let drain = async {
            let mut output = output;
            while let Some(output) = &mut output
                && output.recv().await.is_some()
            {}
        };
        let forward = async {
            while let Some(line) = lines.recv().await {
                followed.add(line);
            }
        };
        let (result, (), ()) = tokio::join!(result, forward, drain);
        drop(writer);
        let ended = Ended::new(&route, result.unwrap_or_else(|_| Err(lost())), &request_id);
        idempotency::end(&api, followed.id.clone(), &ended).await;
        followed.end(ended);
        api.0.background.remove(&followed.id);
    });
    Ok(running)
}

/// Answers the request that has started an operation: with a stream, its result, or 202.
pub(super) async fn respond(running: &Arc<Running>, accept: Accept, headers: &HeaderMap) -> Result<Response, Problem> {
    if accept.is_stream() {
        // A client that leaves ends what ends with it.
        let guard = running.hangup.clone().drop_guard();
        let parts = Arc::clone(running).parts().map(move |part| {
            let _ = &guard;
            part
        });
        return Ok(response::stream(parts, accept));
    }
    let wait = preferred_wait(headers);
    match wait {
        Some(seconds) => {
            let _ = tokio::time::timeout(Duration::from_secs(seconds), running.until_ended()).await;
        }
        None => {
            let _ = tokio::time::timeout(FIRST_WAIT, running.until_begun()).await;
        }
    }
    let mut response = match running.ended() {
        Some(ended) => ended.response(),
        None => running.accepted(),
    };
    if let Some(value) = wait.and_then(|wait| HeaderValue::from_str(&format!("wait={wait}")).ok()) {
        response.headers_mut().insert("preference-applied", value);
    }
    Ok(response)
}

/// The identity of an operation; one that is not UTF-8 is that of none.
type Id = Result<Path<String>, PathRejection>;

/// `GET /v1/operations/{id}`
pub(super) async fn show(State(api): State<Api>, id: Id, request: Request) -> Response {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    shown(&api, id, &request.into_parts().0).await.unwrap_or_else(IntoResponse::into_response)
}

async fn caller_of(api: &Api, head: &Parts) -> Result<String, Problem> {
    let peer = head.extensions.get::<Peer>().copied().ok_or_else(lost)?;
    let caller = authentication::caller(api, peer, &head.headers).await?;
    Ok(caller_key(&caller))
}

async fn shown(api: &Api, id: String, head: &Parts) -> Result<Response, Problem> {
    let caller_key = caller_of(api, head).await?;
    let accept = Accept::of(&head.headers)?;
    if let Some(running) = api.0.background.find(&caller_key, &id) {
        if accept.is_stream() {
            return Ok(response::stream(running.parts(), accept));
        }
        if let Some(seconds) = preferred_wait(&head.headers) {
            let _ = tokio::time::timeout(Duration::from_secs(seconds), running.until_ended()).await;
        }
        return Ok(response::json(&running.document(true)));
    }
    let stored = api.0.store.request(caller_key, id).await.map_err(Failure::from)?.ok_or_else(not_found)?;
    let body = |text: String| serde_json::from_str::<Value>(&text).unwrap_or_default();
    let ended = stored.response.map(|(status, text)| (StatusCode::from_u16(status).unwrap_or_default(), body(text)));
    let (state, result, error) = outcome(ended);
    let document = OperationDocument {
        url: url(&stored.id),
        id: stored.id,
        operation: stored.operation,
        state,
        began_at: Time(stored.began_at),
        ended_at: stored.ended_at.map(Time),
        lines: None,
        result,
        error,
    };
    if accept.is_stream() {
        let value = serde_json::to_value(&document).unwrap_or_default();
        return Ok(response::stream(stream::iter([Part::Result(value)]), accept));
    }
    Ok(response::json(&document))
}

fn not_found() -> Problem {
    let text = "there is no such operation of this token; results are kept for 24 hours";
    Problem::new(StatusCode::NOT_FOUND, FailureKind::NotFound, text)
}

/// `DELETE /v1/operations/{id}`
pub(super) async fn cancel(State(api): State<Api>, id: Id, request: Request) -> Response {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let head = request.into_parts().0;
    let cancelled = async {
        let caller_key = caller_of(&api, &head).await?;
        let running = api.0.background.find(&caller_key, &id).ok_or_else(|| {
            let text = "there is no such operation of this token that still runs";
            Problem::new(StatusCode::NOT_FOUND, FailureKind::NotFound, text)
        })?;
        running.hangup.cancel();
        Ok::<_, Problem>(running.accepted())
    };
    cancelled.await.unwrap_or_else(IntoResponse::into_response)
}

/// Removes the results of requests after a day.
#[derive(Debug)]
pub struct RequestSweep(pub Store);

impl Periodic for RequestSweep {
    fn name(&self) -> &'static str {
        "old-requests"
    }

    fn period(&self) -> Duration {
        Duration::from_hours(1)
    }

    fn at_start(&self) -> bool {
        true
    }

    async fn activate(&self) -> Result<Activated, String> {
        let before = now() - Millis::try_from(KEEP.as_millis()).unwrap_or_default();
        match self.0.remove_old_requests(before).await {
            Ok(0) => Ok(Activated::default()),
            Ok(removed) => Ok(Activated::did(format!("removed {removed} old results of HTTP requests"))),
            Err(error) => Err(error.to_string()),
        }
    }
}
