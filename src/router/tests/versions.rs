//! Servers and routers of different versions: an old router with this server, an old server with this router, takeovers in
//! both directions, and messages of a newer version.

use std::{fs::File, net::SocketAddr, path::PathBuf};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{frozen, kit::*};
use crate::router::{
    Link,
    protocol::{Protocol, VERSION},
};

/// A connection that sends and receives lines as they are.
struct Raw {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Raw {
    fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self { lines: BufReader::new(read).lines(), write }
    }

    async fn connect(router: &Router) -> Self {
        // The link's connection is the proof that the router listens; this one takes its place.
        soon("the link connects", router.link.connected().wait_for(|connected| *connected)).await.unwrap();
        router.ends.cancel();
        Self::new(UnixStream::connect(router.dir.path().join("router.sock")).await.unwrap())
    }

    async fn send(&mut self, message: &serde_json::Value) {
        self.write.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    /// The next message, or none if the other side has closed the connection.
    async fn message(&mut self) -> Option<serde_json::Value> {
        let line = soon("a line", self.lines.next_line()).await.ok().flatten()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    async fn greet(&mut self, accepts: &[&str]) {
        let hello = serde_json::json!({ "version": VERSION, "accepts": accepts });
        self.send(&serde_json::json!({ "table": { "version": 0, "listeners": [], "services": [], "hello": hello } }))
            .await;
        let answer = self.message().await.unwrap();
        let expected = serde_json::json!({ "version": VERSION, "accepts": ["table"] });
        assert_eq!(answer, serde_json::json!({ "hello": expected }));
    }
}

/// A table as old servers publish it.
fn old_table(version: u64, address: SocketAddr, instances: &[&Instance]) -> frozen::Table {
    let target = |instance: &&Instance| frozen::Target {
        instance: instance.id.clone(),
        container: "c0ffee".into(),
        release: 3,
        address: instance.address,
    };
    let route = frozen::Route { host: "*".into(), path: "/".into(), certificate: None, service: SERVICE.into() };
    frozen::Table {
        version,
        listeners: vec![frozen::Listener { address, protocol: frozen::Protocol::Http, routes: vec![route] }],
        services: vec![frozen::Service { name: SERVICE.into(), targets: instances.iter().map(target).collect() }],
    }
}

fn applied(version: u64, draining: &[&Instance]) -> frozen::FromRouter {
    let draining = draining.iter().map(|instance| instance.id.clone()).collect();
    frozen::FromRouter::Applied { version, draining, failed: vec![] }
}

/// A link to the socket of a folder, without a router.
fn link() -> (tempfile::TempDir, PathBuf, Link, CancellationToken) {
    let (dir, ends) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let socket = dir.path().join("router.sock");
    let link = Link::start(socket.clone(), &TaskTracker::new(), ends.clone());
    (dir, socket, link, ends)
}

#[tokio::test]
async fn this_server_and_this_router_greet_each_other() {
    let echo = Instance::echo("one").await;
    let (router, _) = Router::serving(&[&echo]).await;
    let status = router.link.status();
    assert_eq!((status.protocol, status.table), (Some(VERSION), 1));
    assert_eq!((status.ignored, status.ignored_by_router), (0, 0));
}

#[tokio::test]
async fn an_old_router_gets_tables_that_it_reads() {
    let (one, two) = (Instance::echo("one").await, Instance::echo("two").await);
    let address = free();
    // With the table of an earlier server, and without any.
    for version in [5, 0] {
        let (_dir, socket, link, _ends) = link();
        let mut reports = link.unanswered();
        let before = frozen::Table { version, ..frozen::Table::default() };
        let mut router = frozen::Router::start(&socket, before, vec![two.id.clone()]);
        link.publish(table(7, address, Protocol::Http, &[&one]));
        assert_eq!(soon("the table is in force", link.applied(7)).await, []);
        if version == 0 {
            assert_eq!(router.applied.recv().await.unwrap(), frozen::Table::default(), "the greeting");
        }
        let mut expected = old_table(7, address, &[&one]);
        // The router never read these.
        let target = &mut expected.services[0].targets[0];
        (target.container, target.release) = ("one".into(), 0);
        assert_eq!(router.applied.recv().await.unwrap(), expected);
        assert_eq!(link.status().protocol, Some(1));

        let drained = link.drained(&two.id);
        tokio::pin!(drained);
        assert!(futures_util::poll!(&mut drained).is_pending());
        router.reports.send(frozen::FromRouter::Drained(two.id.clone())).await.unwrap();
        soon("drained", drained).await;
        let report = frozen::Unanswered {
            service: SERVICE.into(),
            status: 502,
            instance: Some(one.id.clone()),
            method: "GET".into(),
            path: "/".into(),
            request_id: "7f".into(),
            suppressed: 2,
        };
        router.reports.send(frozen::FromRouter::Unanswered(report)).await.unwrap();
        let report = soon("a report", reports.recv()).await.unwrap();
        assert_eq!((report.service, report.suppressed), (SERVICE.parse().unwrap(), 2));

        link.publish(table(8, address, Protocol::Tcp, &[]));
        soon("the next table is in force", link.applied(8)).await;
        assert_eq!(router.applied.recv().await.unwrap().listeners[0].protocol, frozen::Protocol::Tcp);
        assert_eq!(link.status().ignored, 0);
        assert!(router.closed.try_recv().is_err(), "the old router has closed no connection");
    }
}

#[tokio::test]
async fn an_old_server_is_understood_and_reads_every_message() {
    let mut one = Instance::by_hand("one").await;
    let (router, address) = (Router::start(), free());
    soon("the link connects", router.link.connected().wait_for(|connected| *connected)).await.unwrap();
    router.ends.cancel();
    let mut server = frozen::Server::connect(&router.dir.path().join("router.sock")).await;
    server.publish(old_table(1, address, &[&one])).await;
    assert_eq!(server.message().await.unwrap(), applied(1, &[]));
    let mut client = Peer::connect(address).await;
    client.send(GET).await;
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    server.publish(old_table(2, address, &[])).await;
    assert_eq!(server.message().await.unwrap(), applied(2, &[&one]));
    peer.send(OK).await;
    assert_eq!(client.message().await.unwrap().text(), "ok");
    assert_eq!(server.message().await.unwrap(), frozen::FromRouter::Drained(one.id.clone()));
    assert_eq!(client.request(GET).await.status(), 503);
    match server.message().await.unwrap() {
        frozen::FromRouter::Unanswered(report) => assert_eq!((report.service.as_str(), report.status), (SERVICE, 503)),
        other => panic!("{other:?}"),
    }
    // An older table is answered with the version in force.
    server.publish(old_table(1, address, &[&one])).await;
    assert_eq!(server.message().await.unwrap(), applied(2, &[]));
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_before_it_has_spoken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (router, address) = (Router::start(), taken.local_addr().unwrap());
    router.link.publish(table(1, address, Protocol::Http, &[]));
    assert_eq!(soon("the table is in force", router.link.applied(1)).await.len(), 1);
    router.ends.cancel();
    let mut server = frozen::Server::connect(&router.dir.path().join("router.sock")).await;
    drop(taken);
    // When the router has opened the listener at last, it reports that to a server that has spoken.
    soon("the listener is opened", async { while tokio::net::TcpStream::connect(address).await.is_err() {} }).await;
    server.publish(old_table(2, address, &[])).await;
    assert_eq!(server.message().await.unwrap(), applied(2, &[]));
}

#[tokio::test]
async fn what_only_a_newer_server_knows_is_counted_and_ignored() {
    let (one, address, tcp, other) = (Instance::echo("one").await, free(), free(), free());
    let router = Router::start();
    // A server of a later version may do without the empty table.
    let mut later = Raw::connect(&router).await;
    later.send(&serde_json::json!({ "hello": { "version": 9, "accepts": [] } })).await;
    assert_eq!(later.message().await.unwrap()["hello"]["version"], VERSION);
    let mut server = Raw::new(UnixStream::connect(router.dir.path().join("router.sock")).await.unwrap());
    server.greet(&["applied", "colour"]).await;
    let applied = |version: u64, ignored: u64| {
        let failed: &[(SocketAddr, &str)] =
            if version == 0 { &[] } else { &[(other, "the router does not know its protocol; upgrade the router")] };
        serde_json::json!({"applied": {"version": version, "draining": [], "failed": failed, "ignored": ignored}})
    };
    server.send(&serde_json::json!({ "certificates": { "a.test": "secret" } })).await;
    assert_eq!(server.message().await.unwrap(), applied(0, 1));
    server.send(&serde_json::json!("ping")).await;
    assert_eq!(server.message().await.unwrap(), applied(0, 2));
    server.send(&serde_json::json!({ "table": { "version": 1 } })).await;
    assert_eq!(server.message().await.unwrap(), applied(0, 3));

    let forward = serde_json::json!({ "forward": SERVICE });
    let redirect = serde_json::json!({ "redirect": { "status": 308 } });
    server
        .send(&serde_json::json!({ "table": {
            "version": 1,
            "region": "north",
            "listeners": [
                { "address": address, "protocol": "http", "routes": [
                    { "host": "*", "path": "/", "action": forward, "weight": 3 },
                    { "host": "*", "path": "/old", "action": redirect },
                    { "host": "*", "path": "/down", "action": "maintenance" },
                    { "host": "*", "path": "/none", "action": { "forward": "none/web/80" } },
                ] },
                { "address": tcp, "protocol": "tcp", "routes": [{ "host": "*", "path": "/", "action": redirect }] },
                { "address": other, "protocol": "quic", "routes": [] },
            ],
            "services": [{ "key": SERVICE, "targets": [{ "instance": "one", "address": one.address }] }],
        } }))
        .await;
    // Two fields, three actions, one protocol.
    assert_eq!(server.message().await.unwrap(), applied(1, 9));
    let mut client = Peer::connect(address).await;
    let mut ask = async |path: &str| client.request(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    assert!(ask("/").await.text().starts_with("one\n"));
    for path in ["/old", "/old/x", "/down"] {
        let answer = ask(path).await;
        assert_eq!(answer.status(), 503, "{path}");
        assert!(answer.text().contains("The router is older than the server"), "{}", answer.text());
    }
    assert_eq!(ask("/none").await.status(), 503);
    assert_eq!(ask("/").await.status(), 200, "the connection stays open");
    assert_eq!(Peer::connect(tcp).await.rest().await, "");
    assert!(tokio::net::TcpStream::connect(other).await.is_err());
    // This server accepts no reports of unanswered requests, so the next message is the answer.
    server.send(&serde_json::json!({ "ping": 1 })).await;
    assert_eq!(server.message().await.unwrap(), applied(1, 10));
}

#[tokio::test]
async fn a_broken_or_endless_line_ends_the_servers_connection() {
    let router = Router::start();
    let mut server = Raw::connect(&router).await;
    for broken in ["nonsense\n".to_owned(), "{}\n".to_owned(), "x".repeat(33 << 20)] {
        server.greet(&["applied"]).await;
        // The router may close before it has read all.
        let _ = server.write.write_all(broken.as_bytes()).await;
        assert_eq!(server.message().await, None);
        server = Raw::new(UnixStream::connect(router.dir.path().join("router.sock")).await.unwrap());
    }
}

#[tokio::test]
async fn what_only_a_newer_router_knows_is_counted_and_ignored() {
    let (one, address) = (Instance::echo("one").await, free());
    let (_dir, socket, link, _ends) = link();
    let control = UnixListener::bind(&socket).unwrap();
    link.publish(table(7, address, Protocol::Http, &[&one]));
    let mut router = Raw::new(soon("the server connects", control.accept()).await.unwrap().0);
    let greeting = soon("a greeting", router.lines.next_line()).await.unwrap().unwrap();
    let frozen::ToRouter::Table(old) = serde_json::from_str(&greeting).unwrap();
    assert_eq!(old, frozen::Table::default(), "an old router takes the greeting for an empty table");
    let greeting: serde_json::Value = serde_json::from_str(&greeting).unwrap();
    let accepts = serde_json::json!(["applied", "drained", "unanswered"]);
    assert_eq!(greeting["table"]["hello"], serde_json::json!({ "version": VERSION, "accepts": accepts }));

    // Before its greeting: a report of another kind, which does not tell the version.
    router.send(&serde_json::json!({ "certificate_expires": { "host": "a.test" } })).await;
    let accepts = serde_json::json!(["table", "colour"]);
    router.send(&serde_json::json!({ "hello": { "version": 9, "accepts": accepts, "name": "x" } })).await;
    let sent = router.message().await.unwrap();
    let route = &sent["table"]["listeners"][0]["routes"][0];
    assert_eq!(*route, serde_json::json!({ "host": "*", "path": "/", "action": { "forward": SERVICE } }));
    let services = serde_json::json!([{ "key": SERVICE, "targets": [{ "instance": "one", "address": one.address }] }]);
    assert_eq!(sent["table"]["services"], services);
    let answer = serde_json::json!({ "version": 7, "draining": [], "failed": [], "ignored": 4, "load": 0.5 });
    router.send(&serde_json::json!({ "applied": answer })).await;
    soon("the table is in force", link.applied(7)).await;
    let status = link.status();
    assert_eq!((status.protocol, status.table), (Some(VERSION), 7));
    assert_eq!((status.ignored, status.ignored_by_router), (3, 4));

    // A broken or endless line ends the connection, and the link connects again.
    for broken in ["nonsense\n".to_owned(), "x".repeat(5 << 20)] {
        let _ = router.write.write_all(broken.as_bytes()).await;
        let mut rest = Vec::new();
        let _ = soon("the connection ends", router.lines.get_mut().read_to_end(&mut rest)).await;
        router = Raw::new(soon("the server connects again", control.accept()).await.unwrap().0);
        assert!(router.message().await.unwrap()["table"]["hello"].is_object());
    }
    assert_eq!(link.status().protocol, None, "the next router has not greeted yet");
}

#[tokio::test]
async fn a_router_takes_over_from_an_old_one() {
    let one = Instance::echo("one").await;
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let lock = File::create(dir.path().join("router.lock")).unwrap();
    lock.lock().unwrap();
    let inventory = frozen::Inventory {
        table: old_table(5, address, &[&one]),
        sockets: vec![(address, frozen::Protocol::Http)],
        active: vec!["old".parse().unwrap()],
    };
    let (shutdown, thread) = run(&dir);
    let before = std::sync::Arc::clone(&dir);
    let handover =
        tokio::task::spawn_blocking(move || frozen::hand_over(before.path(), &lock, &inventory, &[listener.into()]));
    let predecessor = soon("the new router confirms", handover).await.unwrap();
    assert!(Peer::connect(address).await.request(GET).await.text().starts_with("one\n"));

    let ends = CancellationToken::new();
    let link = Link::start(dir.path().join("router.sock"), &TaskTracker::new(), ends.clone());
    link.publish(table(5, address, Protocol::Http, &[&one]));
    soon("the table is in force", link.applied(5)).await;
    assert_eq!(link.status().protocol, Some(VERSION));
    let old = "old".parse().unwrap();
    let drained = link.drained(&old);
    tokio::pin!(drained);
    assert!(futures_util::poll!(&mut drained).is_pending(), "the old router may still have a request in flight");
    drop(predecessor);
    soon("the old router has ended", drained).await;
    let mut router = Router { dir, link: link.clone(), shutdown, thread: Some(thread), ends };
    router.shutdown.cancel();
    router.ended().await;
}

#[tokio::test]
async fn an_old_router_takes_over_from_this_one() {
    let (one, tcp) = (Instance::echo("one").await, free());
    let (mut router, address) = (Router::start(), free());
    let mut wanted = table(5, address, Protocol::Http, &[&one]);
    wanted.listeners.push(listener(tcp, Protocol::Tcp, &[("*", "/", SERVICE)]));
    router.put(wanted).await;
    router.ends.cancel();
    let dir = std::sync::Arc::clone(&router.dir);
    let (stream, mut inventory, mut sockets) = soon(
        "the handover",
        tokio::task::spawn_blocking(move || {
            let taken = frozen::take_over(dir.path()).unwrap();
            File::create(dir.path().join("router.lock")).unwrap().lock().unwrap();
            taken
        }),
    )
    .await
    .unwrap();
    let mut expected = old_table(5, address, &[&one]);
    let mut second = expected.listeners[0].clone();
    (second.address, second.protocol) = (tcp, frozen::Protocol::Tcp);
    expected.listeners.push(second);
    let target = &mut expected.services[0].targets[0];
    (target.container, target.release) = ("one".into(), 0);
    assert_eq!(inventory.table, expected);
    assert_eq!(inventory.active, std::slice::from_ref(&one.id));
    inventory.sockets.sort_by_key(|(address, _)| *address);
    let mut both = [(address, frozen::Protocol::Http), (tcp, frozen::Protocol::Tcp)];
    both.sort_by_key(|(address, _)| *address);
    assert_eq!(inventory.sockets, both);
    sockets.sort_by_key(|socket| socket.local_addr().unwrap());
    assert_eq!(sockets.iter().map(|s| s.local_addr().unwrap()).collect::<Vec<_>>(), both.map(|(address, _)| address));
    router.ended().await;
    let socket = sockets.into_iter().find(|socket| socket.local_addr().unwrap() == address).unwrap();
    let socket = tokio::net::TcpListener::from_std(socket).unwrap();
    let client = tokio::spawn(tokio::net::TcpStream::connect(address));
    soon("the old router accepts", socket.accept()).await.unwrap();
    client.await.unwrap().unwrap();
    drop(stream);
}
