//! The embedded registry: the pull part of the OCI distribution specification, over loopback, for the engine only.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, Method, Response, StatusCode, header},
    middleware::{self, Next},
    routing::get,
};
use base64::Engine as _;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    net::TcpListener,
};
use tokio_util::{io::ReaderStream, sync::CancellationToken};

use super::{manifest::MANIFEST_TYPE, store::ImageStore};
use crate::model::{Digest, Secret};

/// User name; the token is its password.
pub const USER: &str = "paas";

/// Serves an image store.
#[derive(Debug, Clone)]
pub struct Registry {
    images: ImageStore,
    /// SHA-256 of the accepted `Authorization` header. Comparing hashes takes the same time for every header.
    expected: Arc<[u8; 32]>,
}

impl Registry {
    /// A random token: 256 bits, as hex.
    pub fn random_token() -> Secret {
        use std::fmt::Write as _;
        let bytes: [u8; 32] = rand::random();
        Secret::new(bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    /// A registry for clients that have the token.
    pub fn new(images: ImageStore, token: &Secret) -> Self {
        let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{}", token.expose()));
        Self { images, expected: Arc::new(Sha256::digest(format!("Basic {credentials}")).into()) }
    }

    /// Serves requests until `shutdown` is cancelled.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let service = Router::new()
            .route("/v2/", get(|| async { StatusCode::OK }))
            .route("/v2/{*rest}", get(pull))
            .layer(middleware::from_fn_with_state(self.clone(), authorize))
            .with_state(self);
        let served = axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "the registry failed");
        }
    }
}

async fn authorize(State(registry): State<Registry>, request: axum::extract::Request, next: Next) -> Response<Body> {
    let given = request.headers().get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
    let given: [u8; 32] = Sha256::digest(given).into();
    if given != *registry.expected {
        let mut answer = error_response(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "the token is missing or wrong");
        let challenge = header::HeaderValue::from_static("Basic realm=\"paas\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return answer;
    }
    next.run(request).await
}

/// `GET` or `HEAD` of `<name>/manifests/<digest>` or `<name>/blobs/<digest>`; the name is ignored.
async fn pull(
    State(registry): State<Registry>,
    Path(rest): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let mut parts = rest.rsplitn(3, '/');
    let (reference, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (content_type, unknown) = match kind {
        "manifests" => (MANIFEST_TYPE, "MANIFEST_UNKNOWN"),
        "blobs" => ("application/octet-stream", "BLOB_UNKNOWN"),
        _ => return error_response(StatusCode::NOT_FOUND, "UNSUPPORTED", "only manifests and blobs are served"),
    };
    let Ok(digest) = reference.parse::<Digest>() else {
        return error_response(StatusCode::NOT_FOUND, unknown, "only references by sha256 digest are served");
    };
    let blobs = registry.images.blobs().clone();
    let wanted = digest.clone();
    let opened = tokio::task::spawn_blocking(move || blobs.open_blob(&wanted)).await;
    let (file, size) = match opened {
        Ok(Ok(Some(found))) => found,
        Ok(Ok(None)) => return error_response(StatusCode::NOT_FOUND, unknown, "there is no such blob"),
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot serve a blob");
            return error_response(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the blob cannot be read");
        }
        Err(_) => return error_response(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the blob cannot be read"),
    };
    let Ok(range) = requested_range(&headers, size) else {
        let mut answer =
            error_response(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", "the range is not in the blob");
        if let Ok(value) = format!("bytes */{size}").parse() {
            answer.headers_mut().insert(header::CONTENT_RANGE, value);
        }
        return answer;
    };
    let (start, length) = range.map_or((0, size), |(first, last)| (first, last - first + 1));
    let mut answer = Response::builder()
        .status(if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK })
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CONTENT_LENGTH, length)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, format!("\"{digest}\""))
        .header("Docker-Content-Digest", digest.as_str());
    if let Some((first, last)) = range {
        answer = answer.header(header::CONTENT_RANGE, format!("bytes {first}-{last}/{size}"));
    }
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let mut file = tokio::fs::File::from_std(file);
        if file.seek(std::io::SeekFrom::Start(start)).await.is_err() {
            return error_response(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the blob cannot be read");
        }
        Body::from_stream(ReaderStream::with_capacity(file.take(length), 256 * 1024))
    };
    answer.body(body).unwrap_or_default()
}

/// First and last byte of the requested range; `None` for the whole blob, an error if the range is not in the blob.
fn requested_range(headers: &HeaderMap, size: u64) -> Result<Option<(u64, u64)>, ()> {
    let Some(text) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else { return Ok(None) };
    // RFC 9110, 14.2: an invalid or unsupported range is ignored.
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else {
        return Ok(None);
    };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.min(size.saturating_sub(1))),
        (Ok(first), Err(_)) if last.is_empty() => (first, size.saturating_sub(1)),
        (Err(_), Ok(suffix)) if first.is_empty() => (size.saturating_sub(suffix), size.saturating_sub(1)),
        _ => return Ok(None),
    };
    if range.0 >= size { Err(()) } else { Ok(Some(range)) }
}

/// An error response (distribution specification, "Error Codes").
fn error_response(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let document = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
    let answer = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    answer.body(Body::from(document.to_string())).unwrap_or_default()
}

#[cfg(test)]
mod properties {
    use proptest::prelude::any;

    use super::*;
    use crate::properties::{check, text_near};

    #[test]
    fn ranges_are_within_the_blob() {
        check((text_near(&["bytes=0-99", "bytes=5-", "bytes=-7", "bytes=0-0,5-9"]), any::<u64>()), |(text, size)| {
            let Ok(value) = text.parse::<header::HeaderValue>() else { return };
            for size in [size, size % 100] {
                if let Ok(Some((first, last))) =
                    requested_range(&HeaderMap::from_iter([(header::RANGE, value.clone())]), size)
                {
                    assert!(first <= last && last < size, "{first} to {last} of {size}");
                }
            }
        });
    }
}
