//! In which form a client wants a result (RFC 9110, section 12.5.1).

use axum::http::{HeaderMap, StatusCode, header};

use super::problem::Problem;
use crate::operations::FailureKind;

/// The form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accept {
    /// Any: the usual one.
    Any,
    /// One JSON text.
    Json,
    /// JSON texts, one a line, as they come.
    NdJson,
    /// Server-sent events, as they come.
    Events,
}

impl Accept {
    /// Type of a stream of JSON texts.
    pub(super) const NDJSON: &str = "application/x-ndjson";
    /// Type of a stream of server-sent events.
    pub(super) const EVENTS: &str = "text/event-stream";

    /// The first form of the header that there is.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut any = true;
        for value in headers.get_all(header::ACCEPT) {
            for range in value.to_str().unwrap_or_default().split(',') {
                any = false;
                match range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
                    Self::EVENTS => return Ok(Self::Events),
                    Self::NDJSON | "application/ndjson" => return Ok(Self::NdJson),
                    "application/json" | "application/problem+json" => return Ok(Self::Json),
                    "*/*" | "application/*" | "application/x-tar" => return Ok(Self::Any),
                    _ => {}
                }
            }
        }
        if any {
            return Ok(Self::Any);
        }
        let text = "results are application/json, application/x-ndjson or text/event-stream; accept one of them";
        Err(Problem::new(StatusCode::NOT_ACCEPTABLE, FailureKind::Invalid, text))
    }

    /// Whether the result comes in parts.
    pub(super) fn is_stream(self) -> bool {
        matches!(self, Self::NdJson | Self::Events)
    }
}
