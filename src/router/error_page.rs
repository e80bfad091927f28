//! The router's own responses: why a request got none from an instance.

use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};

use super::{body::ResponseBody, headers};

/// Why a request got no response from an instance.
#[derive(Debug, Clone, Copy)]
pub(super) enum ErrorPage {
    BadRequest,
    NotAllowed,
    NotFound,
    NoInstance,
    /// The route has an action that only a newer router knows.
    UnknownAction,
    BadGateway,
    TimedOut,
}

impl ErrorPage {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NoInstance | Self::UnknownAction => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::BadRequest => "The request is not valid HTTP.",
            Self::NotAllowed => "This method is not allowed here.",
            Self::NotFound => "There is no app at this address.",
            Self::NoInstance => "The app has no running instance.",
            Self::UnknownAction => {
                "The router is older than the server, and cannot answer at this address until it is upgraded."
            }
            Self::BadGateway => "The app closed the connection before responding, or sent an invalid HTTP response.",
            Self::TimedOut => "The app did not respond in time.",
        }
    }

    /// The page, with the request's `X-Request-ID`.
    pub(super) fn response(self, request_id: Option<&HeaderValue>) -> Response<ResponseBody> {
        let (status, text) = (self.status(), self.text());
        let id = request_id.and_then(|id| id.to_str().ok()).unwrap_or_default();
        let html = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{status}</title>\
             <h1>{status}</h1><p>{text}</p><p><small>{id}</small></p></html>\n"
        );
        let mut response = Response::new(ResponseBody::page(Bytes::from(html)));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        if matches!(self, Self::BadRequest | Self::NotAllowed) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Ok(id) = HeaderValue::from_str(id)
            && !id.is_empty()
        {
            response.headers_mut().insert(headers::REQUEST_ID, id);
        }
        response
    }
}
