//! From a request to the input of an operation: fields come from the path, the query and the body.

use axum::{
    body::Body,
    extract::RawPathParams,
    http::{HeaderMap, StatusCode, header},
};
use serde_json::{Map, Value};

use super::{
    api::Api,
    json,
    pages::Page,
    problem::Problem,
    routes::Route,
    spool::{self, Received},
};
use crate::{
    model::Line,
    operations::{self, Endpoint, FailureKind, Input, Pages},
};

/// What a request asks.
pub(super) struct Asked {
    pub(super) input: Input,
    pub(super) page: Page,
    /// SHA-256 of the file that came with it.
    pub(super) file_hash: Option<[u8; 32]>,
}

fn bad(message: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, FailureKind::Invalid, message)
}

/// The error about a name that a route does not know.
fn unknown(route: &Route, name: &str, what: &str) -> Problem {
    let in_path: Vec<_> = Endpoint::fields_of(route.path).collect();
    let names = route.kinds.keys().map(String::as_str).filter(|name| !in_path.contains(name));
    let names: Vec<_> = names.collect();
    let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    bad(&format!("there is no {what} {}; {} has: {has}", Line::excerpt(name), route.name))
}

fn insert(
    fields: &mut Map<String, Value>,
    route: &Route,
    name: &str,
    text: String,
    place: &str,
) -> Result<(), Problem> {
    let Some(kind) = route.kinds.get(name) else {
        return Err(unknown(route, name, "parameter"));
    };
    let value = kind.value(text);
    match (fields.get_mut(name), value) {
        (None, value) => drop(fields.insert(name.to_owned(), value)),
        (Some(Value::Array(all)), Value::Array(more)) if place == "query" => all.extend(more),
        _ => return Err(bad(&format!("{name} is given twice; give it once"))),
    }
    Ok(())
}

/// The fields in the path.
pub(super) fn path_fields(route: &Route, parameters: &RawPathParams) -> Result<Map<String, Value>, Problem> {
    let mut fields = Map::new();
    for (name, text) in parameters {
        insert(&mut fields, route, name, text.to_owned(), "path")?;
    }
    Ok(fields)
}

/// Reads what a request asks.
pub(super) async fn read(
    api: &Api,
    route: &Route,
    parameters: &RawPathParams,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Asked, Problem> {
    let mut fields = path_fields(route, parameters)?;
    let mut page = Page::default();
    for (name, text) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let text = text.into_owned();
        match (&*name, route.endpoint.pages) {
            ("limit", Pages::By(_) | Pages::Before(_)) => {
                let limit = text.parse().ok().filter(|limit| (1..=1000).contains(limit));
                page.limit = Some(limit.ok_or_else(|| bad("limit is a number from 1 to 1000"))?);
            }
            ("cursor", Pages::By(_) | Pages::Before(_)) => page.cursor = Some(text),
            _ if route.endpoint.body == operations::Body::Fields => {
                let text =
                    format!("{} belongs into the body, an object; this path takes no query", Line::excerpt(&name));
                return Err(bad(&text));
            }
            _ => insert(&mut fields, route, &name, text, "query")?,
        }
    }
    let json_type = content_type(headers);
    let mut received = None;
    match route.endpoint.body {
        operations::Body::None => {
            if !spool::json_text(body).await?.is_empty() {
                return Err(bad("this request takes no body; leave it out"));
            }
        }
        operations::Body::Fields => merge(&mut fields, route, object(json_type, body).await?)?,
        operations::Body::Field(field) => {
            let value = value(json_type, body).await?.ok_or_else(|| bad("a body is needed: a JSON text"))?;
            if fields.insert(field.to_owned(), value).is_some() {
                return Err(bad(&format!("{field} is the body; leave it out of the query")));
            }
        }
        operations::Body::FileOrFields if is_json(json_type) => {
            merge(&mut fields, route, object(json_type, body).await?)?;
        }
        operations::Body::File | operations::Body::FileOrFields => received = Some(api.0.spool.receive(body).await?),
    }
    let (file, file_hash) = received.map(|Received { file, sha256 }| (file, sha256)).unzip();
    Ok(Asked { input: Input { fields: Value::Object(fields), file }, page, file_hash })
}

fn merge(fields: &mut Map<String, Value>, route: &Route, body: Map<String, Value>) -> Result<(), Problem> {
    for (name, value) in body {
        if !route.kinds.contains_key(&name) {
            return Err(unknown(route, &name, "field"));
        }
        if fields.contains_key(&name) {
            return Err(bad(&format!("{} is in the path; leave it out of the body", Line::excerpt(&name))));
        }
        fields.insert(name, value);
    }
    Ok(())
}

/// The media type of a body, without its parameters.
fn content_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or("invalid");
    Some(value.split(';').next().unwrap_or_default().trim())
}

fn is_json(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|name| name.eq_ignore_ascii_case("application/json"))
}

/// A body that is a JSON text; `None` if it is empty.
async fn value(content_type: Option<&str>, body: Body) -> Result<Option<Value>, Problem> {
    let text = spool::json_text(body).await?;
    if text.is_empty() {
        return Ok(None);
    }
    if !is_json(content_type) {
        let text = "the body must be JSON; send Content-Type: application/json (curl: --json)";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, FailureKind::Invalid, text));
    }
    let invalid = |error: serde_json::Error| bad(&format!("the body is not valid JSON: {error}").replace("; ", ", "));
    json::parse(&text).map(Some).map_err(invalid)
}

async fn object(content_type: Option<&str>, body: Body) -> Result<Map<String, Value>, Problem> {
    match value(content_type, body).await? {
        None => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(bad("the body must be a JSON object")),
    }
}
