//! The OpenAPI document (OpenAPI Specification 3.1), made from the registry. What is served is the committed one; a unit test
//! compares them.

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};

/// `GET /v1/openapi.json`
pub(super) async fn serve() -> Response {
    let mut response = Response::new(Body::from(include_str!("../../docs/openapi.json")));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod document;
