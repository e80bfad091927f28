//! Requests that are almost valid: what reaches an instance is what the client sent, read in the strictest way.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::kit::*;
use crate::properties::{bytes_near, check_one_in};

/// A request, as far as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    method: String,
    target: String,
    /// None unless all of it has come.
    body: Option<Vec<u8>>,
}

/// The requests of a connection, and what ends them.
#[derive(Debug, Default)]
struct Sequence {
    requests: Vec<Sent>,
    /// Whether what follows can be read in more than one way, or in none.
    ambiguous: bool,
    /// Whether a line of trailers ends without a return. hyper takes it and the next line for one, and passes on nothing that
    /// would tell it from others, so that what follows it is read in another way than most others do.
    bare_line_end: bool,
}

impl Sequence {
    /// Reads requests until two readers could disagree (RFC 9112, 6 and 7).
    fn read(mut bytes: &[u8]) -> Self {
        let mut read = Self::default();
        while let Some(begin) = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) {
            bytes = &bytes[begin..];
            let mut fields = vec![httparse::EMPTY_HEADER; 3000];
            let mut head = httparse::Request::new(&mut fields);
            match head.parse(bytes) {
                Ok(httparse::Status::Complete(length)) => bytes = &bytes[length..],
                Ok(httparse::Status::Partial) => return read,
                Err(_) => return Self { ambiguous: true, ..read },
            }
            let all = |name: &str| {
                let fields = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
                fields.map(|field| field.value).collect::<Vec<_>>()
            };
            let (body, rest) = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
                ([], []) => (Some(Vec::new()), bytes),
                // The same length several times is that length (RFC 9112, 6.3).
                ([length, others @ ..], [])
                    if length.iter().all(u8::is_ascii_digit) && others.iter().all(|other| other == length) =>
                {
                    let Some(length) = std::str::from_utf8(length).ok().and_then(|length| length.parse::<usize>().ok())
                    else {
                        return Self { ambiguous: true, ..read };
                    };
                    bytes.split_at_checked(length).map_or((None, &[][..]), |(body, rest)| (Some(body.to_vec()), rest))
                }
                (_, [coding]) if coding.eq_ignore_ascii_case(b"chunked") => match chunked(bytes) {
                    Ok(Some((body, rest))) => (Some(body), rest),
                    Ok(None) => (None, &[][..]),
                    Err(NotChunked { bare_line_end }) => {
                        read.bare_line_end = bare_line_end;
                        (None, &b"?"[..])
                    }
                },
                _ => return Self { ambiguous: true, ..read },
            };
            read.ambiguous = body.is_none() && !rest.is_empty();
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            let is_whole = body.is_some();
            read.requests.push(Sent { method: text(head.method), target: text(head.path), body });
            if !is_whole {
                return read;
            }
            bytes = rest;
        }
        read
    }
}

/// Why bytes are no body in chunks.
struct NotChunked {
    bare_line_end: bool,
}

/// A body, and what follows it.
type Body<'a> = (Vec<u8>, &'a [u8]);

/// A body in chunks; none if it has not ended.
fn chunked(mut bytes: &[u8]) -> Result<Option<Body<'_>>, NotChunked> {
    const INVALID: NotChunked = NotChunked { bare_line_end: false };
    let mut body = Vec::new();
    loop {
        let (head, length) = match httparse::parse_chunk_size(bytes).map_err(|_| INVALID)? {
            httparse::Status::Complete(read) => read,
            httparse::Status::Partial => return Ok(None),
        };
        bytes = &bytes[head..];
        if length == 0 {
            let mut fields = vec![httparse::EMPTY_HEADER; 3000];
            let trailers = httparse::parse_headers(bytes, &mut fields).map_err(|_| INVALID)?;
            let length = if let httparse::Status::Complete((length, _)) = trailers { length } else { bytes.len() };
            let mut ends = bytes[..length].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            if !ends.all(|(at, _)| bytes[..at].ends_with(b"\r")) {
                return Err(NotChunked { bare_line_end: true });
            }
            return Ok(trailers.is_complete().then(|| (body, &bytes[length..])));
        }
        let length = usize::try_from(length).map_err(|_| INVALID)?;
        let Some((chunk, rest)) = bytes.split_at_checked(length) else { return Ok(None) };
        body.extend_from_slice(chunk);
        bytes = match rest {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(INVALID),
        };
    }
}

/// What an instance was sent.
#[derive(Default)]
struct Received {
    whole: Vec<Sent>,
    /// Requests whose client went away.
    cut: Vec<Sent>,
    /// What no instance should get.
    invalid: Vec<String>,
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers every request, and notes it.
async fn serve(mut stream: TcpStream, received: Arc<Mutex<Received>>) {
    let (mut read, mut answered) = (Vec::new(), 0);
    let mut bytes = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut bytes).await.unwrap_or(0);
        read.extend_from_slice(&bytes[..count]);
        let Sequence { requests, ambiguous, .. } = Sequence::read(&read);
        let new: Vec<_> = requests[answered..].iter().filter(|request| request.body.is_some()).cloned().collect();
        answered += new.len();
        let answers = "HTTP/1.1 204 No Content\r\n\r\n".repeat(new.len());
        lock(&received).whole.extend(new);
        if ambiguous {
            return lock(&received).invalid.push(String::from_utf8_lossy(&read).into_owned());
        }
        if count == 0 {
            return lock(&received).cut.extend(requests.into_iter().skip(answered));
        }
        if stream.write_all(answers.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Sends the bytes; returns when each of these requests is answered, or the router has closed the connection.
async fn send(stream: &mut TcpStream, bytes: &[u8], requests: usize) -> String {
    let _ = stream.write_all(bytes).await;
    let answers = |text: &str| text.matches("HTTP/1.").count() - text.matches("HTTP/1.1 100 ").count();
    let mut answer = Vec::new();
    while answers(&String::from_utf8_lossy(&answer)) < requests {
        let mut bytes = [0; 16 * 1024];
        match stream.read(&mut bytes).await {
            Ok(count @ 1..) => answer.extend_from_slice(&bytes[..count]),
            Ok(0) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

const SAMPLES: [&str; 7] = [
    "GET /a HTTP/1.1\r\nhost: a\r\naccept: */*\r\n\r\nGET /b?c=d HTTP/1.1\r\nhost: a\r\n\r\n",
    "POST /c HTTP/1.1\r\nhost: a\r\ncontent-length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\nxxGET /d HTTP/1.1\r\nhost: a\r\n\r\n",
    "PUT /e HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nx-t: 1\r\n\r\nGET /f HTTP/1.1\r\nhost: a\r\n\r\n",
    "POST /g HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\nGET /h HTTP/1.1\r\nhost: a\r\n\r\n",
    "HEAD http://b/i HTTP/1.0\r\nconnection: keep-alive, x-a, te\r\nx-a: 1\r\nte: trailers\r\n\r\nOPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET /j HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nexpect: 100-continue\r\n\r\n",
    "POST /k HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 2\r\nx: y\r\n z: 1\r\n\r\nab",
];

#[test]
fn an_instance_gets_what_the_client_sent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let received = Arc::new(Mutex::new(Received::default()));
    let (instance, _router, address) = runtime.block_on(async {
        let mut instance = Instance::by_hand("one").await;
        let (mut connections, received) = (instance.take_connections(), Arc::clone(&received));
        instance.spawn(async move {
            let mut serving = JoinSet::new();
            while let Some(peer) = connections.recv().await {
                serving.spawn(serve(peer.stream, Arc::clone(&received)));
            }
        });
        let (router, address) = Router::serving(&[&instance]).await;
        (instance, router, address)
    });
    let is_of = |got: &Sent, sent: &Sent| {
        // Of an address, an instance gets the path (RFC 9112, 3.2.1).
        let address = sent.target.split_once("://").filter(|_| !sent.target.starts_with('/'));
        let path = address.map(|(_, rest)| rest.find(['/', '?']).map_or("", |at| &rest[at..]));
        let path = path.map(|path| if path.starts_with('/') { path.to_owned() } else { format!("/{path}") });
        got.method == sent.method && got.target == path.unwrap_or_else(|| sent.target.clone())
    };
    let sent_before = Mutex::new(HashSet::new());
    // What a client left to the router before may come late.
    let last = Mutex::new(VecDeque::new());
    check_one_in(4, bytes_near(&SAMPLES), |bytes| {
        let Sequence { requests: sent, bare_line_end: false, .. } = Sequence::read(&bytes) else { return };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back(String::from_utf8_lossy(&bytes).into_owned());
        if last.len() > 4 {
            last.pop_front();
        }
        let whole = sent.iter().filter(|request| request.body.is_some()).count();
        sent_before.lock().unwrap().extend(sent.iter().map(|request| request.method.clone()));
        runtime.block_on(async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let answers = soon("the answers", send(&mut stream, &bytes, whole)).await;
            assert!(sent.is_empty() || whole == 0 || answers.starts_with("HTTP/1."), "no answer: {answers:?}");
        });
        let Received { whole: got, cut, invalid } = std::mem::take(&mut *lock(&received));
        assert_eq!(invalid, [""; 0], "the router sent what can be read in two ways");
        assert!(got.len() <= sent.len(), "{got:?} was not all sent: {sent:?}; the last were {last:#?}");
        for (got, sent) in got.iter().zip(&sent) {
            assert!(is_of(got, sent) && got.body == sent.body, "{got:?} is not {sent:?}");
        }
        for got in cut {
            assert!(sent_before.lock().unwrap().contains(&got.method), "{got:?} was never sent");
        }
    });
    drop(instance);
}
