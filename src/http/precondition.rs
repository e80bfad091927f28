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
    let tags = tags(wanted).ok_or_else(|| {
        let text = "If-Match is an ETag in quotation marks, as a GET of the same path sends it, or *";
        Problem::new(StatusCode::PRECONDITION_FAILED, FailureKind::Invalid, text)
    })?;
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
    let matches = tags.iter().any(|tag| *tag == "*" || *tag == current);
    if !matches {
        let text = "it was changed meanwhile; read it again, and send its new ETag";
        return Err(Problem::new(StatusCode::PRECONDITION_FAILED, FailureKind::Conflict, text));
    }
    Ok(Some(writer))
}

/// The entity tags of a header, with their quotation marks, or a star; a comma may be a part of a tag.
fn tags(text: &str) -> Option<Vec<&str>> {
    let (mut found, mut rest) = (Vec::new(), text.trim());
    loop {
        let length = if rest.starts_with('*') { 1 } else { rest.strip_prefix('"')?.find('"')? + 2 };
        found.push(&rest[..length]);
        rest = rest[length..].trim_start();
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None => return rest.is_empty().then_some(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_as_the_specification_writes_them() {
        assert_eq!(tags("\"a\", \"b,c\" ,*"), Some(vec!["\"a\"", "\"b,c\"", "*"]));
        for text in ["", "a", "\"a", "\"a\" \"b\"", "\"a\",", "W/\"a\"", "*x"] {
            assert_eq!(tags(text), None, "{text}");
        }
    }
}
