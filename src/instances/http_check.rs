//! One attempt of an HTTP check: a request on a connection of its own.

use std::{fmt, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request,
    header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    check_tls,
    unhealthy::{HttpFault, SentRequest, Unhealthy},
};
use crate::model::{HttpProbe, Line, Scheme};

/// Length of a body up to which it is searched for text, in bytes.
const MAX_SEARCHED_LEN: usize = 1024 * 1024;
/// Length of the beginning of a body that a reason shows, in characters.
const SHOWN_LEN: usize = 120;
/// Length of a body up to which it is read to be shown, in bytes.
const MAX_SHOWN_LEN: usize = 4 * 1024;
/// Longest time for which it is read to be shown.
const MAX_SHOWN_TIME: Duration = Duration::from_secs(1);

/// Connects to a port of an instance.
pub(super) async fn connect(address: SocketAddr) -> Result<TcpStream, Unhealthy> {
    TcpStream::connect(address).await.map_err(|e| match e.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable => {
            Unhealthy::Refused { port: address.port() }
        }
        _ => Unhealthy::Broken(e.to_string()),
    })
}

/// Sends the request of a check to an instance, as one for `host`.
pub(super) async fn attempt(
    address: SocketAddr,
    host: &str,
    probe: &HttpProbe,
    limit: Duration,
) -> Result<(), Unhealthy> {
    let declared = probe.headers.iter().find(|header| header.name.eq_ignore_ascii_case(HOST.as_str()));
    let request = SentRequest {
        path: probe.path.clone(),
        host: declared.map_or_else(|| host.to_owned(), |header| header.value.clone()),
        port: address.port(),
        declared_host: declared.is_some(),
    };
    let time = Time { limit, until: Instant::now() + limit };
    let fault = |fault| Unhealthy::Http { request: request.clone(), fault };
    let stream = time.bound(connect(address)).await.map_err(fault)??;
    let passed = match probe.scheme {
        Scheme::Http => get(stream, &request.host, probe, time).await,
        Scheme::Https => match time.bound(check_tls::connect(stream, &request.host)).await {
            Ok(Ok(stream)) => get(stream, &request.host, probe, time).await,
            Ok(Err(e)) => Err(HttpFault::Invalid(format!("TLS: {e}"))),
            Err(late) => Err(late),
        },
    };
    passed.map_err(fault)
}

/// The time that an attempt has.
#[derive(Debug, Clone, Copy)]
struct Time {
    limit: Duration,
    until: Instant,
}

impl Time {
    async fn bound<T>(self, step: impl Future<Output = T>) -> Result<T, HttpFault> {
        timeout_at(self.until, step).await.map_err(|_| HttpFault::TimedOut(self.limit))
    }
}

/// The header of the request of a check.
fn header(host: &str, probe: &HttpProbe) -> Result<HeaderMap, HttpFault> {
    let mut header = HeaderMap::new();
    header.insert(USER_AGENT, HeaderValue::from_static("paas-health-check"));
    header.insert(ACCEPT, HeaderValue::from_static("*/*"));
    let mut seen: Vec<HeaderName> = Vec::new();
    let with_host = [(HOST.as_str(), host)];
    let declared = probe.headers.iter().map(|header| (header.name.as_str(), header.value.as_str()));
    for (name, value) in with_host.into_iter().chain(declared.filter(|(name, _)| !name.eq_ignore_ascii_case("host"))) {
        let name: HeaderName = name.parse().map_err(|e| invalid(&e))?;
        let value = HeaderValue::from_str(value).map_err(|e| invalid(&e))?;
        if seen.contains(&name) {
            header.append(name, value);
        } else {
            header.insert(name.clone(), value);
            seen.push(name);
        }
    }
    header.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(header)
}

fn invalid(error: &dyn fmt::Display) -> HttpFault {
    HttpFault::Invalid(error.to_string())
}

async fn get<S>(stream: S, host: &str, probe: &HttpProbe, time: Time) -> Result<(), HttpFault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| invalid(&e))?;
    let mut request = Request::get(&probe.path).body(Empty::<Bytes>::new()).map_err(|e| invalid(&e))?;
    *request.headers_mut() = header(host, probe)?;
    let response = async move {
        let response = time.bound(sender.send_request(request)).await?.map_err(|e| invalid(&e))?;
        let status = response.status().as_u16();
        match (status, &probe.content) {
            (200..400, None) => Ok(()),
            (200..400, Some(content)) => {
                let mut search = Search::new(content.as_bytes());
                let body = read(response.into_body(), MAX_SEARCHED_LEN, time.until, |body| search.finds(body)).await;
                if search.found {
                    return Ok(());
                }
                Err(HttpFault::Content { status, content: content.clone(), body: beginning(&body) })
            }
            (status, _) => {
                let until = time.until.min(Instant::now() + MAX_SHOWN_TIME);
                let body = read(response.into_body(), MAX_SHOWN_LEN, until, |_| false).await;
                Err(HttpFault::Status { status, body: beginning(&body) })
            }
        }
    };
    tokio::pin!(connection, response);
    tokio::select! {
        outcome = &mut response => outcome,
        // The connection may end at the moment at which it delivers the response.
        _ = &mut connection => response.await,
    }
}

/// Reads a body until it ends, fails, reaches this length or is enough. One that stays open counts as far as it came until
/// this time.
async fn read(
    mut body: hyper::body::Incoming,
    max_len: usize,
    until: Instant,
    mut is_enough: impl FnMut(&[u8]) -> bool,
) -> Vec<u8> {
    let mut read = Vec::new();
    let frames = async {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                read.extend_from_slice(&data[..data.len().min(max_len - read.len())]);
            }
            if read.len() >= max_len || is_enough(&read) {
                break;
            }
        }
    };
    let _ = timeout_at(until, frames).await;
    read
}

/// The search for a text in a body that grows.
struct Search<'a> {
    text: &'a [u8],
    searched: usize,
    found: bool,
}

impl<'a> Search<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, searched: 0, found: text.is_empty() }
    }

    /// Searches what is new of the body.
    fn finds(&mut self, body: &[u8]) -> bool {
        // The text may have begun in the part before.
        let from = self.searched.saturating_sub(self.text.len());
        self.found = self.found || body[from..].windows(self.text.len()).any(|window| window == self.text);
        self.searched = body.len();
        self.found
    }
}

/// The beginning of a body in one line.
fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = Line::sanitize(&line).chars().take(SHOWN_LEN).collect();
    if shown.chars().count() == SHOWN_LEN { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::mpsc,
    };

    use super::*;
    use crate::model::CheckHeader;

    const LIMIT: Duration = Duration::from_millis(500);

    /// A server that gives this answer to each request, and what it was sent.
    async fn answering(answer: &'static str) -> (SocketAddr, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let len = stream.read(&mut request).await.unwrap_or(0);
                let _ = sender.send(String::from_utf8_lossy(&request[..len]).into_owned()).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (address, requests)
    }

    async fn fault(address: SocketAddr, probe: &HttpProbe) -> Option<HttpFault> {
        match attempt(address, "paas.example:10001", probe, LIMIT).await {
            Ok(()) => None,
            Err(Unhealthy::Http { request, fault }) => {
                assert_eq!((request.port, request.path.as_str()), (address.port(), probe.path.as_str()));
                Some(fault)
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn the_response_status_decides() {
        let oops = HttpFault::Status { status: 500, body: "it broke badly".into() };
        for (answer, expected) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", None),
            ("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", None),
            ("HTTP/1.1 500 Oops\r\nContent-Length: 18\r\n\r\nit  broke\n\n\nbadly\n", Some(oops)),
        ] {
            assert_eq!(fault(answering(answer).await.0, &HttpProbe::get("/up")).await, expected, "{answer}");
        }
        let nonsense = answering("SSH-2.0-nonsense\r\n").await.0;
        assert!(matches!(fault(nonsense, &HttpProbe::get("/up")).await, Some(HttpFault::Invalid(_))));
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let outcome = fault(silent.local_addr().unwrap(), &HttpProbe::get("/up")).await;
        assert_eq!(outcome, Some(HttpFault::TimedOut(LIMIT)));
    }

    #[tokio::test]
    async fn the_body_must_contain_the_content() {
        let hello = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        let probe = |content: &str| HttpProbe { content: Some(content.to_owned()), ..HttpProbe::get("/") };
        assert_eq!(fault(answering(hello).await.0, &probe("lo wo")).await, None);
        let missing = fault(answering(hello).await.0, &probe("never said")).await.unwrap();
        assert_eq!(
            missing.to_string(),
            "got status 200 without the content \"never said\": it begins with hello world"
        );
        let endless = "HTTP/1.1 200 OK\r\n\r\nhello";
        assert_eq!(fault(answering(endless).await.0, &probe("hello")).await, None, "a body without a length");
        let mut search = Search::new(b"lo wo");
        assert_eq!([&b"hel"[..], b"hello w", b"hello world"].map(|body| search.finds(body)), [false, false, true]);
    }

    #[tokio::test]
    async fn a_body_that_stays_open_counts_as_far_as_it_came() {
        let open = |head: &'static str| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                let mut streams = Vec::new();
                while let Ok((mut stream, _)) = listener.accept().await {
                    let _ = stream.read(&mut [0; 1024]).await;
                    let _ = stream.write_all(head.as_bytes()).await;
                    streams.push(stream);
                }
            });
            address
        };
        let broken = open("HTTP/1.1 500 Oops\r\n\r\nno database").await;
        let expected = HttpFault::Status { status: 500, body: "no database".into() };
        assert_eq!(fault(broken, &HttpProbe::get("/")).await, Some(expected));
        let events = open("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nevent:\r\n").await;
        let probe = |content: &str| HttpProbe { content: Some(content.to_owned()), ..HttpProbe::get("/") };
        assert_eq!(fault(events, &probe("event")).await, None);
        assert!(matches!(fault(events, &probe("other")).await, Some(HttpFault::Content { .. })));
    }

    #[tokio::test]
    async fn declared_headers_replace_ours_and_the_host_is_the_apps() {
        let (address, mut requests) = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(fault(address, &HttpProbe::get("/up?x=1")).await, None);
        let request = requests.recv().await.unwrap().to_ascii_lowercase();
        assert!(request.starts_with("get /up?x=1 http/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nhost: paas.example:10001\r\n") && request.contains("\r\nconnection: close\r\n"));

        let header = |name: &str, value: &str| CheckHeader { name: name.into(), value: value.into() };
        let headers = vec![
            header("host", "shop.example.org"),
            header("User-Agent", "me"),
            header("X-A", "1"),
            header("x-a", "2"),
        ];
        assert_eq!(fault(address, &HttpProbe { headers, ..HttpProbe::get("/") }).await, None);
        let request = requests.recv().await.unwrap().to_ascii_lowercase();
        for (field, number) in
            [("\r\nhost: shop.example.org\r\n", 1), ("\r\nuser-agent: me\r\n", 1), ("\r\nx-a: ", 2), ("\r\nhost: ", 1)]
        {
            assert_eq!(request.matches(field).count(), number, "{field:?} in {request}");
        }
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{assert_line, bytes_near, check, cuts};

    #[test]
    fn a_text_is_found_however_the_body_arrives() {
        let bodies = bytes_near(&["hello world", "aaab", "<p>\r\n"]);
        check((bodies, bytes_near(&["lo wo", "aab", ""]), cuts()), |(body, text, cuts)| {
            let mut search = Search::new(&text);
            let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).chain([body.len()]).collect();
            ends.sort_unstable();
            let found = ends.iter().map(|end| search.finds(&body[..*end])).next_back();
            let contains = text.is_empty() || body.windows(text.len()).any(|window| window == text);
            assert_eq!(found, Some(contains));
            assert_line(&beginning(&body));
        });
    }
}
