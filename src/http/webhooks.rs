//! Events of forges: `POST /v1/webhooks/{id}`. No token is needed, since the signature authenticates the sender.

use axum::{
    body,
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};

use super::{api::Api, authentication::Peer, problem::Problem, response};
use crate::operations::{Failure, FailureKind, ReceivedWebhook, WebhookHeaders};

/// Maximum length of an event, in bytes.
const MAX_EVENT_BYTES: usize = 5 << 20;

/// Maximum length of a header that is read, in bytes.
const MAX_HEADER_LEN: usize = 500;

/// Answers an event.
pub(super) async fn receive(State(api): State<Api>, Path(id): Path<String>, request: Request) -> Response {
    match received(&api, &id, request).await {
        Ok(received) => {
            let status = match received {
                ReceivedWebhook::Accepted | ReceivedWebhook::Coalesced => StatusCode::ACCEPTED,
                ReceivedWebhook::Pong | ReceivedWebhook::Ignored { .. } => StatusCode::OK,
            };
            response::stored(status, serde_json::to_string(&received).unwrap_or_default())
        }
        Err(problem) => problem.into_response(),
    }
}

async fn received(api: &Api, id: &str, request: Request) -> Result<ReceivedWebhook, Problem> {
    // All who send to it count as one client.
    api.0.limits.request(&format!("webhook {id}"))?;
    // Before what anybody may send is read.
    if api.0.store.webhook(id.chars().take(64).collect()).await.map_err(Failure::from)?.is_none() {
        return Err(Failure::not_found("there is no such webhook").into());
    }
    let (head, body) = request.into_parts();
    let value = |name: &str| {
        let value = head.headers.get(name)?.to_str().ok()?;
        (value.len() <= MAX_HEADER_LEN).then(|| value.to_owned())
    };
    let address = head.extensions.get::<Peer>().map(Peer::to_string);
    let headers = WebhookHeaders { address, ..WebhookHeaders::read(value) };
    let body = body::to_bytes(body, MAX_EVENT_BYTES).await.map_err(|_| {
        let text = "the event is larger than 5 MiB, or was not received completely";
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, FailureKind::TooMany, text)
    })?;
    Ok(api.0.operations.receive_webhook(id, headers, body).await?)
}
