//! Headers of requests.

use axum::http::{HeaderMap, StatusCode};

use super::problem::Problem;
use crate::operations::FailureKind;

/// The value of a header that a client sends once.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let invalid = || {
        let text = format!("the header {name} is invalid; send it once, in visible ASCII");
        Problem::new(StatusCode::BAD_REQUEST, FailureKind::Invalid, &text)
    };
    if values.next().is_some() {
        return Err(invalid());
    }
    value.to_str().map(Some).map_err(|_| invalid())
}

/// Seconds for which the client prefers to wait for a result (RFC 7240, section 4.3).
pub(super) fn preferred_wait(headers: &HeaderMap) -> Option<u64> {
    const MAX: u64 = 300;
    let values = headers.get_all("prefer");
    let preferences = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split([',', ';']));
    let mut waits = preferences.filter_map(|preference| preference.trim().strip_prefix("wait="));
    waits.next().and_then(|seconds| seconds.trim_matches('"').parse().ok()).map(|seconds: u64| seconds.min(MAX))
}
