//! `If-Match` (RFC 9110, section 13.1.1): a change is made only if the resource is as the client has seen it.

use axum::{
    extract::RawPathParams,
    http::{HeaderMap, StatusCode},
};
use serde_json::Value;

use super::{
    api::Api,
    headers,
    input::{self, Asked},
    look::{Looked, look},
    pages::Page,
    problem::Problem,
    response,
    routes::Route,
    writers::Writer,
};
use crate::operations::{Caller, FailureKind, Input};

/// Checks the precondition of a change. Returns what keeps others from changing the same, until it is dropped.
pub(super) async fn check(
    api: &Api,
    route: &Route,
    parameters: &RawPathParams,
    caller: &Caller,
    head: &HeaderMap,
) -> Result<Writer, Problem> {
    let Some(wanted) = headers::text(head, "if-match")? else { return Ok(None) };
    let Some(reader) = api.0.routes.reader_of(route.path) else {
        let text = "If-Match has no effect here, because this path has no GET; leave it out";
        return Err(Problem::new(StatusCode::BAD_REQUEST, FailureKind::Invalid, text));
    };
    let fields = input::path_fields(reader, parameters)?;
    let resource = format!("{} {}", reader.name, Value::Object(fields.clone()));
    let writer = api.0.writers.lock(resource).ok_or_else(|| {
        let text = "another change of it with If-Match is under way; read it again later";
        Problem::new(StatusCode::CONFLICT, FailureKind::Conflict, text)
    })?;
    let asked =
        Asked { input: Input { fields: Value::Object(fields), file: None }, page: Page::default(), file_hash: None };
    let Looked::Whole(value, _) = look(api, reader, caller, asked).await? else { return Ok(Some(writer)) };
    let current = response::etag(&value.to_string());
    let matches = wanted.split(',').map(str::trim).any(|tag| tag == "*" || tag == current);
    if !matches {
        let text = "it was changed meanwhile; read it again, and send its new ETag";
        return Err(Problem::new(StatusCode::PRECONDITION_FAILED, FailureKind::Conflict, text));
    }
    Ok(Some(writer))
}
