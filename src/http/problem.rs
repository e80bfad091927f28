//! Problem documents (RFC 9457).

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::operations::{Failure, FailureKind, LastOutput};

/// Why a request failed, and with which status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) failure: Box<Failure>,
    /// Seconds after which the request may be repeated.
    pub(super) retry_after: Option<u64>,
}

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ProblemDocument {
    /// Always `about:blank`: `title` and `status` tell the problem, and `kind` more exactly.
    r#type: &'static str,
    /// Name of the status.
    title: &'static str,
    /// Status of the response.
    status: u16,
    /// What is wrong, and what to do.
    detail: String,
    /// Kind of the failure.
    kind: FailureKind,
    /// What to do.
    remedy: Option<String>,
    /// Last lines of the instance that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_output: Option<LastOutput>,
    /// Identity of the request, which the server's log has, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

/// The status of a response for a failure of this kind.
pub(super) fn status_of(kind: FailureKind) -> StatusCode {
    match kind {
        FailureKind::Invalid | FailureKind::Failed => StatusCode::UNPROCESSABLE_ENTITY,
        FailureKind::Denied => StatusCode::FORBIDDEN,
        FailureKind::NotFound => StatusCode::NOT_FOUND,
        FailureKind::Conflict => StatusCode::CONFLICT,
        FailureKind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        FailureKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        FailureKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self { status: status_of(failure.kind), failure: Box::new(failure), retry_after: None }
    }
}

impl Problem {
    /// With a status that the kind alone does not tell.
    pub(super) fn new(status: StatusCode, kind: FailureKind, message: &str) -> Self {
        Self { status, failure: Box::new(Failure::new(kind, message)), retry_after: None }
    }

    /// The document.
    pub(super) fn document(&self, request_id: Option<&str>) -> Value {
        let Failure { kind, remedy, last_output, .. } = &*self.failure;
        let document = ProblemDocument {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            // The cause of our own failures is for the log.
            detail: match kind {
                FailureKind::Internal => "the server failed; its log has the cause by the request's id".to_owned(),
                _ => self.failure.to_string(),
            },
            kind: *kind,
            remedy: remedy.clone(),
            last_output: last_output.clone(),
            request_id: request_id.map(str::to_owned),
        };
        serde_json::to_value(document).unwrap_or_default()
    }

    /// The response with the identity of its request.
    pub(super) fn response(&self, request_id: &str) -> Response {
        if self.failure.kind == FailureKind::Internal {
            tracing::error!(request_id, error = %self.failure, "an http request failed");
        }
        let mut response = Response::new(Body::from(self.document(Some(request_id)).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"paas\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl IntoResponse for Problem {
    /// A response that becomes [`Self::response`] once the identity of its request is known.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

/// Identity of a request, which the response and the log have.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

/// The failure of a task of ours that panicked or was aborted.
pub(super) fn lost() -> Failure {
    Failure::new(FailureKind::Internal, "a task of a request was lost")
}
