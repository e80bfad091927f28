//! The router's own responses: why a request got none from an instance.

use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};

use super::{body::ResponseBody, headers};

const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// Why a request got no response from an instance.
#[derive(Debug, Clone, Copy)]
pub(super) enum ErrorPage {
    BadRequest,
    TargetTooLong,
    HeadTooLarge,
    /// Another major version of HTTP.
    Version,
    /// The client did not send the rest of the request.
    ClientTimedOut,
    NotAllowed,
    NotFound,
    NoInstance,
    /// The app has its share of the requests in flight.
    AppBusy,
    /// The route has an action that only a newer router knows.
    UnknownAction,
    BadGateway,
    TimedOut,
}

fn html(status: StatusCode, text: &str, id: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{status}</title>\
         <h1>{status}</h1><p>{text}</p><p><small>{id}</small></p></html>\n"
    )
}

impl ErrorPage {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::ClientTimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::NotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NoInstance | Self::UnknownAction | Self::AppBusy => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::BadRequest => {
                "The request is not valid HTTP, or its address has a character that must be percent-encoded."
            }
            Self::TargetTooLong => "The address is longer than 65,534 bytes.",
            Self::HeadTooLarge => "The request's headers are larger than 256 KiB, or have more than 2,000 lines.",
            Self::Version => "This version of HTTP is not spoken here.",
            Self::ClientTimedOut => "The rest of the request did not come in time.",
            Self::NotAllowed => "This method is not allowed here.",
            Self::NotFound => "There is no app at this address.",
            Self::NoInstance => "The app has no running instance.",
            Self::AppBusy => "The app has too many requests in flight. Try again later.",
            Self::UnknownAction => {
                "The router is older than the server, and cannot answer at this address until it is upgraded."
            }
            Self::BadGateway => "The app closed the connection before responding, or sent an invalid HTTP response.",
            Self::TimedOut => "The app did not respond in time.",
        }
    }

    fn html(self, id: &str) -> String {
        html(self.status(), self.text(), id)
    }

    /// The page, with the request's `X-Request-ID`.
    pub(super) fn response(self, id: &HeaderValue) -> Response<ResponseBody> {
        let html = self.html(id.to_str().unwrap_or_default());
        let mut response = Response::new(ResponseBody::page(Bytes::from(html)));
        *response.status_mut() = self.status();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if matches!(self, Self::BadRequest | Self::NotAllowed | Self::ClientTimedOut) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.headers_mut().insert(headers::REQUEST_ID, id.clone());
        response
    }

    /// The whole message to a client whose connection is refused.
    pub(super) fn refusal(reason: &str) -> Vec<u8> {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let html = html(status, &format!("Refused: {reason}."), "");
        let length = html.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {CONTENT_TYPE}\r\nconnection: close\r\nretry-after: 1\r\n\
             content-length: {length}\r\n\r\n{html}"
        )
        .into_bytes()
    }

    /// The page as a whole message, in place of a response of hyper's that has only a head, and a date perhaps.
    pub(super) fn message(self, id: &HeaderValue, refusal: &[u8], is_head: bool) -> Vec<u8> {
        let (status, id) = (self.status(), id.to_str().unwrap_or_default());
        let html = self.html(id);
        let length = html.len();
        let date = str::from_utf8(refusal).unwrap_or_default().lines().find(|line| line.starts_with("date: "));
        let date = date.map(|date| format!("{date}\r\n")).unwrap_or_default();
        let html = if is_head { "" } else { &html };
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {CONTENT_TYPE}\r\nconnection: close\r\nx-request-id: {id}\r\n\
             content-length: {length}\r\n{date}\r\n{html}"
        )
        .into_bytes()
    }
}
