//! Responses: one JSON text, a stream of them, or a file.

use std::{convert::Infallible, fmt::Write as _, io, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt as _, stream, stream::BoxStream};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::accept::Accept;
use crate::{model::Line, operations::Failure};

/// Time after which a stream of events without an event sends a comment, so that proxies keep it open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A part of a stream.
pub(super) enum Part {
    /// A line of progress.
    Line(Line),
    /// An item of a result that goes on.
    Item(Value),
    /// The result.
    Result(Value),
    /// Why there is none.
    Failure(Failure),
}

/// A response of one JSON text.
pub(super) fn json(value: &impl Serialize) -> Response {
    let text = serde_json::to_string(value).unwrap_or_default();
    stored(StatusCode::OK, text)
}

/// A response whose body is there already.
pub(super) fn stored(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The entity tag of a representation (RFC 9110, section 8.8.3).
pub(super) fn etag(text: &str) -> String {
    let hash = Sha256::digest(text);
    let mut tag = "\"".to_owned();
    for byte in &hash[..16] {
        let _ = write!(tag, "{byte:02x}");
    }
    tag + "\""
}

/// The whole result of an operation that reads, with its entity tag and a link to the next page.
pub(super) fn whole(value: &Value, next: Option<&str>, uri: &Uri, headers: &HeaderMap) -> Response {
    let text = value.to_string();
    let tag = etag(&text);
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known
        .flat_map(|tags| tags.split(','))
        .map(|known| known.trim().trim_start_matches("W/"))
        .any(|known| known == tag || known == "*");
    let mut response = if is_known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        stored(StatusCode::OK, text)
    };
    if let Ok(tag) = tag.parse() {
        response.headers_mut().insert(header::ETAG, tag);
    }
    if let Some(link) = next.and_then(|cursor| next_link(uri, cursor).parse().ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// A link to the next page (RFC 8288).
fn next_link(uri: &Uri, cursor: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        if name != "cursor" {
            query.append_pair(&name, &value);
        }
    }
    query.append_pair("cursor", cursor);
    format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish())
}

/// A response that comes in parts.
pub(super) fn stream(parts: impl Stream<Item = Part> + Send + 'static, accept: Accept) -> Response {
    match accept {
        Accept::Events => {
            let events = parts.map(|part| Ok::<_, Infallible>(event(&part)));
            Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
        }
        Accept::NdJson | Accept::Json | Accept::Any => {
            let lines = parts.map(|part| Ok::<_, Infallible>(Bytes::from(line(&part) + "\n")));
            typed(Body::from_stream(lines), Accept::NDJSON)
        }
    }
}

pub(super) fn typed(body: Body, kind: &'static str) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn line(part: &Part) -> String {
    match part {
        Part::Line(line) => serde_json::to_string(line).unwrap_or_default(),
        Part::Item(value) | Part::Result(value) => value.to_string(),
        Part::Failure(failure) => json!({ "error": failure }).to_string(),
    }
}

fn event(part: &Part) -> Event {
    let (name, data) = match part {
        Part::Line(_) => ("progress", line(part)),
        Part::Item(_) => ("item", line(part)),
        Part::Result(_) => ("result", line(part)),
        Part::Failure(failure) => ("error", serde_json::to_string(failure).unwrap_or_default()),
    };
    Event::default().event(name).data(data)
}

/// The rows of a whole result, one by one.
pub(super) fn items_of(value: Value, accept: Accept) -> Response {
    let parts = match value {
        Value::Array(rows) => rows.into_iter().map(Part::Item).collect(),
        value => vec![Part::Result(value)],
    };
    stream(stream::iter(parts), accept)
}

/// Items as they come: a stream, or one JSON array.
pub(super) fn items(items: BoxStream<'static, Result<Value, Failure>>, accept: Accept) -> Response {
    if accept.is_stream() {
        let parts = items.map(|item| item.map_or_else(Part::Failure, Part::Item));
        return stream(parts, accept);
    }
    let begin = stream::once(std::future::ready(Ok(Bytes::from_static(b"["))));
    let rows = items.enumerate().map(|(index, item)| match item {
        Ok(value) => Ok(Bytes::from(format!("{}{value}", if index == 0 { "" } else { "," }))),
        // An array that is not ended is no JSON: the client cannot take a part for the whole.
        Err(failure) => Err(io::Error::other(failure.to_string())),
    });
    let end = stream::once(std::future::ready(Ok(Bytes::from_static(b"]"))));
    typed(Body::from_stream(begin.chain(rows).chain(end)), "application/json")
}
