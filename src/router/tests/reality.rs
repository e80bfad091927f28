//! What HTTP servers and clients really do.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::kit::*;
use crate::router::protocol::{Protocol, Service, Table};

#[tokio::test]
async fn several_connection_lines_upgrade_to_a_websocket() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    for lines in [
        "connection: keep-alive\r\nuser-agent: x\r\nconnection: Upgrade",
        "connection: keep-alive, Upgrade",
        "connection: upgrade\r\nconnection: keep-alive",
        "connection: keep-alive,,Upgrade ,",
    ] {
        let mut client = Peer::connect(address).await;
        client.send(&format!("GET /ws HTTP/1.1\r\nhost: a\r\n{lines}\r\nupgrade: websocket\r\n\r\n")).await;
        let mut peer = one.connection().await;
        let asked = peer.message().await.unwrap();
        assert_eq!(
            (asked.header("connection"), asked.header("upgrade")),
            (Some("upgrade"), Some("websocket")),
            "{lines}"
        );
        // An app may answer with several lines, or with none.
        let own = if lines.contains(',') { "" } else { "connection: x\r\nconnection: upgrade\r\n" };
        peer.send(&format!("HTTP/1.1 101 Switching Protocols\r\n{own}upgrade: websocket\r\n\r\nhi")).await;
        let answer = Message { head: client.head().await.unwrap(), body: Vec::new() };
        assert_eq!((answer.status(), answer.header("connection")), (101, Some("upgrade")), "{lines}");
        assert_eq!(client.take(2).await, b"hi");
        // What looks like a refusal of hyper's is no more than bytes.
        let bytes = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        client.send("x").await;
        peer.take(1).await;
        peer.send(bytes).await;
        assert_eq!(client.take(bytes.len()).await, bytes.as_bytes());
    }
}

#[tokio::test]
async fn heads_are_limited_by_their_bytes() {
    let mut one = Instance::by_hand("one").await;
    let (router, address) = Router::serving(&[&one]).await;
    let mut unanswered = router.link.unanswered();
    let mut client = Peer::connect(address).await;
    let mut peer = None;
    for lines in [98, 100, 101, 400, 1900] {
        let asked = "x-asked: 1\r\n".repeat(lines);
        client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{asked}\r\n")).await;
        let mut app = match peer.take() {
            Some(peer) => peer,
            None => one.connection().await,
        };
        assert_eq!(app.message().await.unwrap().all("x-asked").len(), lines);
        let cookies = "set-cookie: a=v; Path=/\r\n".repeat(lines);
        app.send(&format!("HTTP/1.1 200 OK\r\n{cookies}content-length: 2\r\n\r\nok")).await;
        let answer = client.message().await.unwrap();
        assert_eq!((answer.status(), answer.all("set-cookie").len()), (200, lines));
        peer = Some(app);
    }
    client.send(GET).await;
    let mut app = peer.unwrap();
    app.message().await.unwrap();
    app.try_send(&format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(300 * 1024))).await;
    assert_eq!(client.message().await.unwrap().status(), 502);
    soon("a report", unanswered.recv()).await.unwrap();

    // A client that sends everything before it reads gets the page all the same.
    let head = format!("GET /big?secret HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(4 << 20));
    let (status, page) = send_then_read(address, &head).await;
    assert_eq!(status, 431, "{page}");
    let report = soon("a report", unanswered.recv()).await.unwrap();
    assert_eq!((report.status, report.method.as_str(), report.path.as_str()), (431, "GET", "/big"));
    assert!(page.contains(&format!("<small>{}</small>", report.request_id)), "{page}");
    let (status, page) =
        send_then_read(address, &format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(2000))).await;
    assert!(status == 431 && page.contains("2,000 lines"), "{page}");
    let (status, _) =
        send_then_read(address, &format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(70_000))).await;
    assert_eq!(status, 414);
}

#[tokio::test]
async fn a_target_is_passed_on_byte_for_byte_or_refused() {
    let echo = Instance::echo("one").await;
    let (_router, address) = Router::serving(&[&echo]).await;
    let mut client = Peer::connect(address).await;
    for target in [
        "/",
        "//a//b",
        "/a/../b/./c",
        "/%",
        "/%zz%2F%2f%00",
        "/a%20b+c",
        "/|{}\"[]\\^~!$&'()*+,;=:@",
        "/\u{e4}\u{20ac}?\u{e4}",
        "/?",
        "/??",
        "/x?a=1&&b",
        "/x?q=`{}|\\^[]'",
        "/x?a=/../?&b=http://c/%00",
        "/a;b=c",
        "*",
    ] {
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        let answer = client.request(&format!("{method} {target} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let line = answer.text().lines().nth(1).unwrap_or_default();
        assert_eq!(line, format!("{method} {target} HTTP/1.1"));
    }
    for target in [
        "/a#b",
        "/a?b#c",
        "http://a.test/a#b",
        "?x",
        "#x",
        "/a<b>",
        "/a?<b>",
        "/a?q={\"b\":1}",
        "/a`b",
        "/a b",
        "a.test",
        "a.test:80",
        "ftp://a.test/",
    ] {
        let mut client = Peer::connect(address).await;
        let answer =
            client.request(&format!("POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc")).await;
        assert_eq!((answer.status(), answer.header("connection")), (400, Some("close")), "{target}");
        assert!(answer.text().contains(answer.header("x-request-id").unwrap()), "{target}");
        assert_eq!(client.rest().await, "", "{target}");
    }
    // Each is reported for the app's log, if they are not too many in a second.
    let (router, address) = Router::serving(&[&echo]).await;
    let mut unanswered = router.link.unanswered();
    for (target, path) in [("/a#b", "/a"), ("/a?<b>", "/a"), ("/a`b", "/a`b")] {
        let mut client = Peer::connect(address).await;
        let answer = client.request(&format!("POST {target} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let report = soon("a report", unanswered.recv()).await.unwrap();
        assert_eq!((report.status, report.method.as_str(), report.path.as_str()), (400, "POST", path));
        assert_eq!(Some(report.request_id.as_str()), answer.header("x-request-id"));
    }
    // Bytes that are not UTF-8.
    let mut client = Peer::connect(address).await;
    client.stream.write_all(b"GET /\xe4 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert_eq!(client.message().await.unwrap().status(), 400);
    assert_eq!(soon("a report", unanswered.recv()).await.unwrap().path, "/\\xe4");
    // A HEAD request gets no content, and what speaks HTTP/2 without a negotiation gets an answer that it can show.
    let mut client = Peer::connect(address).await;
    client.send("HEAD /<> HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let received = client.rest().await;
    assert!(received.starts_with("HTTP/1.1 400 Bad Request\r\n") && received.ends_with("\r\n\r\n"), "{received}");
    let mut client = Peer::connect(address).await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 505 "));
}

/// Sends a whole request before it reads the response; returns the status and the page.
async fn send_then_read(address: std::net::SocketAddr, request: &str) -> (u16, String) {
    let mut client = Peer::connect(address).await;
    assert!(client.try_send(request).await, "everything is sent");
    let answer = client.message().await.expect("the response is read");
    (answer.status(), answer.text().to_owned())
}

/// An upload that is sent before the response is read.
fn upload(path: &str, bytes: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {bytes}\r\n\r\n{}", "0".repeat(bytes))
}

#[tokio::test]
async fn an_early_answer_to_a_large_upload_reaches_the_client() {
    // One that reads on after its answer, as nginx does, and one that does not.
    let refusing = |reads_on: bool| async move {
        let mut one = Instance::by_hand("one").await;
        let (router, address) = Router::serving(&[&one]).await;
        let client = tokio::spawn(async move {
            for _ in 0..10 {
                let (status, text) = send_then_read(address, &upload("/", 8 << 20)).await;
                assert_eq!((status, text.as_str()), (413, "too large"), "reads on: {reads_on}");
            }
        });
        for _ in 0..10 {
            let mut peer = one.connection().await;
            peer.head().await.unwrap();
            peer.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\nconnection: close\r\n\r\ntoo large")
                .await;
            if reads_on {
                peer.stream.shutdown().await.unwrap();
                peer.rest().await;
            }
        }
        client.await.unwrap();
        drop(router);
    };
    refusing(true).await;
    refusing(false).await;

    // The client's connection goes on.
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    let asked = upload("/", 1 << 20);
    let (sent, ()) = tokio::join!(client.try_send(&asked), async {
        let mut peer = one.connection().await;
        peer.head().await.unwrap();
        peer.send("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await;
    });
    assert!(sent);
    assert_eq!(client.message().await.unwrap().status(), 401);
    client.send(GET).await;
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    peer.send(OK).await;
    assert_eq!(client.message().await.unwrap().text(), "ok");
}

/// An instance answers a POST of which it has read the head only, and closes the connection at once: the kernel resets it, but what
/// was sent before is delivered.
#[tokio::test]
async fn a_response_before_a_reset_is_delivered_whole() {
    const BYTES: usize = 30_000;
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    for _ in 0..20 {
        let mut client = Peer::connect(address).await;
        client.send(&upload("/", 100_000)).await;
        let mut peer = one.connection().await;
        peer.head().await.unwrap();
        peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n{}", "x".repeat(BYTES))).await;
        drop(peer);
        assert_eq!(client.message().await.unwrap().body.len(), BYTES);
    }
}

/// What a client has given up is no failure of the app.
#[tokio::test]
async fn a_response_that_breaks_off_is_sent_as_far_as_it_goes_and_reported() {
    let mut one = Instance::by_hand("one").await;
    let (router, address) = Router::serving(&[&one]).await;
    let mut unanswered = router.link.unanswered();
    for (head, body) in [
        ("content-length: 10", ""),
        ("content-length: 10", "abc"),
        ("transfer-encoding: chunked", ""),
        ("transfer-encoding: chunked", "ZZ\r\nabc"),
    ] {
        let mut client = Peer::connect(address).await;
        client.send(GET).await;
        let mut peer = one.connection().await;
        peer.message().await.unwrap();
        peer.send(&format!("HTTP/1.1 203 OK\r\n{head}\r\n\r\n{body}")).await;
        drop(peer);
        let received = client.rest().await;
        assert!(received.starts_with("HTTP/1.1 203 OK\r\n") && received.contains(head), "{received}");
        assert!(body != "abc" || received.ends_with("\r\nabc"), "{received}");
        let report = soon("a report", unanswered.recv()).await.unwrap();
        assert_eq!((report.status, report.interrupted, report.path.as_str()), (203, true, "/"));
        assert_eq!((report.instance, report.request_id.len()), (Some(one.target().instance), 32));
    }
}

#[tokio::test]
async fn an_invalid_body_is_reported_with_the_id_of_the_page() {
    let mut one = Instance::by_hand("one").await;
    let (router, address) = Router::serving(&[&one]).await;
    let mut unanswered = router.link.unanswered();
    let mut client = Peer::connect(address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n").await;
    let mut peer = one.connection().await;
    peer.head().await.unwrap();
    let answer = client.message().await.unwrap();
    assert_eq!(answer.status(), 400);
    let report = soon("a report", unanswered.recv()).await.unwrap();
    assert_eq!((report.status, Some(report.request_id.as_str())), (400, answer.header("x-request-id")));
}

#[tokio::test]
async fn forwarding_headers_do_not_pass_as_trailers() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    client
        .send(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-forwarded-for, x-sum\r\n\r\n\
             3\r\nabc\r\n0\r\nx-forwarded-for: 6.6.6.6\r\nx_real_ip: 6.6.6.6\r\nx-request-id: 6\r\nx-sum: 1\r\n\r\n",
        )
        .await;
    let mut peer = one.connection().await;
    peer.head().await.unwrap();
    let end = "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&peer.take(end.len()).await), end);
}

#[tokio::test]
async fn a_request_that_its_client_cancels_is_not_reported() {
    let mut one = Instance::by_hand("one").await;
    let (router, address) = Router::serving(&[&one]).await;
    let mut unanswered = router.link.unanswered();
    for request in [GET, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc"] {
        let mut client = Peer::connect(address).await;
        client.send(request).await;
        let mut peer = one.connection().await;
        peer.head().await.unwrap();
        drop(client);
        peer.rest().await;
    }
    router.put(table(2, address, Protocol::Http, &[])).await;
    assert_eq!(Peer::connect(address).await.request("GET /next HTTP/1.1\r\nhost: a\r\n\r\n").await.status(), 503);
    let report = soon("a report", unanswered.recv()).await.unwrap();
    assert_eq!((report.status, report.path.as_str()), (503, "/next"));
}

#[tokio::test]
async fn an_instance_that_repeats_its_length_is_understood() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    client.send(GET).await;
    let mut peer = one.connection().await;
    for length in ["content-length: 2\r\ncontent-length: 2", "content-length: 2, 2"] {
        peer.message().await.unwrap();
        peer.send(&format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\nok")).await;
        let answer = client.message().await.unwrap();
        assert_eq!(
            (answer.status(), answer.header("content-length"), answer.text()),
            (200, Some("2"), "ok"),
            "{length}"
        );
        client.send(GET).await;
    }
}

#[tokio::test]
async fn the_routers_own_refusal_of_an_upload_is_read_and_ends_the_connection() {
    let bad = Instance::refusing("bad").await;
    let (router, address) = Router::serving(&[&bad]).await;
    let (status, _) = send_then_read(address, &upload("/", 8 << 20)).await;
    assert_eq!(status, 502);
    router.put(table(2, address, Protocol::Http, &[])).await;
    for expects in ["", "expect: 100-continue\r\n"] {
        let mut client = Peer::connect(address).await;
        client.send(&format!("POST / HTTP/1.1\r\nhost: a\r\n{expects}content-length: 8000000\r\n\r\nabc")).await;
        let answer = client.message().await.unwrap();
        assert_eq!((answer.status(), answer.header("connection")), (503, Some("close")));
        assert_eq!(client.rest().await, "");
    }
    let (status, _) = send_then_read(address, &upload("/", 8 << 20)).await;
    assert_eq!(status, 503);
    // Without a body the connection goes on.
    let mut client = Peer::connect(address).await;
    for _ in 0..2 {
        let answer = client.request(GET).await;
        assert_eq!((answer.status(), answer.header("connection")), (503, None));
    }
}

#[tokio::test]
async fn empty_lines_bare_line_feeds_and_folded_headers_are_understood() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    // Empty lines before a request, and lines that end with a line feed alone (RFC 9112, 2.2).
    client.send("\r\n\nGET / HTTP/1.1\nhost: a\naccept:x\n\n").await;
    let mut peer = one.connection().await;
    assert_eq!(peer.message().await.unwrap().header("accept"), Some("x"));
    // Folded lines, and white space before a colon, in responses (5.1 and 5.2).
    peer.send("HTTP/1.1 200\r\nx-a : 1\r\nx-b: 2\r\n  3\r\n\t4\r\ncontent-length\t: 2\r\n\r\nok").await;
    let answer = client.message().await.unwrap();
    assert_eq!((answer.header("x-a"), answer.text()), (Some("1"), "ok"));
    let folded: Vec<_> = answer.header("x-b").unwrap().split_whitespace().collect();
    assert_eq!(folded, ["2", "3", "4"]);
}

/// Trailers are for those who ask for them (RFC 9110, 6.5.1).
#[tokio::test]
async fn trailers_pass_for_clients_that_take_them() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    client.send(GET).await;
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    client.message().await.unwrap();
    for (asks, trailer) in [("", false), ("te: trailers\r\nconnection: te\r\n", true)] {
        client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{asks}\r\n")).await;
        let asked = peer.message().await.unwrap();
        assert_eq!(asked.header("te"), trailer.then_some("trailers"));
        peer.send(
            "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n",
        )
        .await;
        client.head().await.unwrap();
        client.take(10).await;
        let end = if trailer { "x-sum: 1\r\n\r\n" } else { "\r\n" };
        assert_eq!(String::from_utf8_lossy(&client.take(end.len()).await), end);
    }
}

/// An instance's bare response to one of two pipelined requests looks like hyper's to one that it cannot parse.
#[tokio::test]
async fn a_bare_response_of_an_instance_passes_while_the_next_request_has_come() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    client.send(GET).await;
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    client.send("GET /next HTTP/1.1\r\nhost: a\r\n\r\n").await;
    // So that the router has read it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    peer.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let answer = client.message().await.unwrap();
    assert_eq!((answer.status(), answer.header("x-request-id")), (400, None));
    assert!(peer.message().await.unwrap().head.starts_with("GET /next "));
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(client.message().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_invalid_request_behind_a_good_one_gets_the_routers_page() {
    let mut one = Instance::by_hand("one").await;
    let (router, address) = Router::serving(&[&one]).await;
    let mut unanswered = router.link.unanswered();
    let mut client = Peer::connect(address).await;
    client.send(&format!("{GET}BAD\x01 / HTTP/1.1\r\n\r\n")).await;
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(client.message().await.unwrap().status(), 200);
    let answer = client.message().await.unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (400, Some("close")));
    assert!(answer.header("x-request-id").is_some());
    let report = soon("a report", unanswered.recv()).await.unwrap();
    assert_eq!(
        (report.status, report.method.as_str(), report.path.as_str()),
        (400, "", ""),
        "not those of the good one"
    );
}

#[tokio::test]
async fn other_spellings_of_the_routers_headers_do_not_pass() {
    let echo = Instance::echo("one").await;
    let (_router, address) = Router::serving(&[&echo]).await;
    let mut client = Peer::connect(address).await;
    let asked = "GET / HTTP/1.1\r\nhost: a\r\nX_Forwarded_For: 6.6.6.6\r\nx-forwarded_for: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\n\
                 X.Forwarded.Proto: https\r\nx-forwarded-ssl: on\r\nproxy: http://6.6.6.6/\r\nmy_header: 1\r\n\r\n";
    let answer = client.request(asked).await;
    let head = answer.text().to_lowercase();
    assert!(!head.contains("6.6.6.6") && !head.contains("x.forwarded") && !head.contains("ssl"), "{head}");
    assert!(head.contains("my_header: 1") && head.contains("x-forwarded-for: 127.0.0.1"), "{head}");
}

/// The head of a stream of events goes to the client before the first event.
#[tokio::test]
async fn a_response_begins_before_its_body() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    for framing in ["transfer-encoding: chunked\r\n", ""] {
        let mut client = Peer::connect(address).await;
        client.send(GET).await;
        let mut peer = one.connection().await;
        peer.message().await.unwrap();
        peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{framing}\r\n")).await;
        assert!(client.head().await.unwrap().contains("text/event-stream"));
    }
}

#[tokio::test]
async fn a_post_waits_for_no_connection_that_may_be_closing() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
    let ok = |headers: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{headers}\r\nok");
    // Nothing is known of the instance: each POST gets a connection of its own.
    client.send(post).await;
    let mut first = one.connection().await;
    first.message().await.unwrap();
    first.send(&ok("")).await;
    client.message().await.unwrap();
    client.send(post).await;
    let mut second = one.connection().await;
    second.message().await.unwrap();
    // By its own words it keeps the connection: the next POST uses it.
    second.send(&ok("keep-alive: timeout=60\r\n")).await;
    client.message().await.unwrap();
    client.send(post).await;
    second.message().await.unwrap();
    second.send(&ok("keep-alive: timeout=1\r\n")).await;
    client.message().await.unwrap();
    // After half a second the connection is no longer used, not even by a request that could be repeated.
    assert_eq!(soon("the router closes it", second.stream.read(&mut [0])).await.unwrap(), 0);
}

/// A server that serves one connection after the other does not wait for the end of one that is idle.
#[tokio::test]
async fn a_new_connection_does_not_wait_for_an_idle_one() {
    let (mut one, mut two) = (Instance::by_hand("one").await, Instance::by_hand("two").await);
    let (router, address) = (Router::start(), free());
    let service =
        |name: &str, instance: &Instance| Service { key: name.parse().unwrap(), targets: vec![instance.target()] };
    let listeners = vec![listener(address, Protocol::Http, &[("*", "/", "one/web/1"), ("*", "/two", "two/web/1")])];
    let services = vec![service("one/web/1", &one), service("two/web/1", &two)];
    router.put(Table { version: 1, listeners, services }).await;
    let mut client = Peer::connect(address).await;
    let mut peers = Vec::new();
    for (path, instance) in [("/two", &mut two), ("/", &mut one)] {
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let mut peer = instance.connection().await;
        peer.message().await.unwrap();
        peer.send(OK).await;
        client.message().await.unwrap();
        peers.push(peer);
    }
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").await;
    assert!(peers[1].message().await.is_none(), "the router closes the idle connection");
    let mut second = one.connection().await;
    second.message().await.unwrap();
    second.send(OK).await;
    assert_eq!(client.message().await.unwrap().status(), 200);
    // It was not closed because it had been idle for too long: an older one is still used.
    client.send("GET /two HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(peers[0].message().await.is_some());
}

#[tokio::test]
async fn connections_that_stay_open_are_used_by_posts() {
    let one = Instance::echo("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
    // The router sees after some time that idle connections stay open; from then on it opens no more.
    let count = || one.accepted.load(std::sync::atomic::Ordering::SeqCst);
    soon("posts use a kept connection", async {
        loop {
            client.request(post).await;
            let before = count();
            client.request(post).await;
            if count() == before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}
