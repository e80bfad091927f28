//! `Idempotency-Key`: a request that is sent again with the same key is not done again, but gets the same response.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode},
    response::Response,
};
use sha2::{Digest as _, Sha256};

use super::{
    api::Api, authentication::caller_key, headers, input::Asked, problem::Problem, response, routes::Route,
    running::Ended,
};
use crate::{
    operations::{Caller, Failure, FailureKind, Method},
    store::{BegunRequest, NewRequest, StoredRequest},
};

/// Maximum length of a key, in bytes.
const MAX_KEY: usize = 255;

/// How a request that changes something begins.
pub(super) enum Begun {
    /// It is not stored: it is short, and has no key.
    Unstored,
    /// It is stored, and the first of its key.
    First {
        /// Identity of the stored request.
        id: String,
        /// Who may see it.
        caller_key: String,
    },
    /// The same was asked before.
    Repeated(Box<Response>),
}

pub(super) async fn begin(
    api: &Api,
    route: &Route,
    caller: &Caller,
    head: &HeaderMap,
    asked: &Asked,
) -> Result<Begun, Problem> {
    let bad = |text: &str| Problem::new(StatusCode::BAD_REQUEST, FailureKind::Invalid, text);
    let key = headers::text(head, "idempotency-key")?;
    if key.is_some() && route.endpoint.method != Method::Post {
        return Err(bad("Idempotency-Key has no effect on this method, which may be repeated anyway; leave it out"));
    }
    if key.is_some_and(|key| key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        return Err(bad("Idempotency-Key has from 1 to 255 visible characters of ASCII, without spaces"));
    }
    if key.is_none() && !route.endpoint.long {
        return Ok(Begun::Unstored);
    }
    let mut hash = Sha256::new();
    hash.update(route.name);
    hash.update([0]);
    hash.update(asked.input.fields.to_string());
    hash.update(asked.file_hash.unwrap_or_default());
    let (id, caller_key) = (format!("{:032x}", rand::random::<u128>()), caller_key(caller));
    let fingerprint = hash.finalize().to_vec();
    let new = NewRequest {
        id: id.clone(),
        caller: caller_key.clone(),
        operation: route.name.to_owned(),
        key: key.map(str::to_owned),
        fingerprint: fingerprint.clone(),
    };
    match api.0.store.begin_request(new).await.map_err(Failure::from)? {
        BegunRequest::First => Ok(Begun::First { id, caller_key }),
        BegunRequest::Repeated(earlier) if earlier.fingerprint != fingerprint => {
            let text = "this Idempotency-Key was sent with another request; use another key for each";
            Err(Problem::new(StatusCode::CONFLICT, FailureKind::Conflict, text))
        }
        BegunRequest::Repeated(earlier) => {
            repeated(api, route, &caller_key, earlier).map(Box::new).map(Begun::Repeated)
        }
    }
}

fn repeated(api: &Api, route: &Route, caller_key: &str, earlier: StoredRequest) -> Result<Response, Problem> {
    let mut again = match earlier.response {
        Some((status, text)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            response::stored(status, text)
        }
        None if route.endpoint.long => match api.0.background.find(caller_key, &earlier.id) {
            Some(running) => running.accepted(),
            None => return Err(lost_response()),
        },
        None => return Err(lost_response()),
    };
    again.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    Ok(again)
}

fn lost_response() -> Problem {
    let text = "the first request with this Idempotency-Key still runs; send it again later";
    let problem = Problem::new(StatusCode::CONFLICT, FailureKind::Conflict, text);
    Problem { retry_after: Some(1), ..problem }
}

/// Stores the response of a request.
pub(super) async fn end(api: &Api, id: String, ended: &Ended) {
    // What may succeed later may be sent again with the same key.
    let keep_key = !ended.status.is_server_error() && ended.status != StatusCode::TOO_MANY_REQUESTS;
    if let Err(error) = api.0.store.end_request(id, ended.status.as_u16(), ended.body.to_string(), keep_key).await {
        tracing::error!(%error, "the response to a request is not stored");
    }
}
