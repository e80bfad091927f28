//! A router in a folder of its own, instances that the test controls, and clients that send raw bytes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{self, Config},
    model::InstanceId,
    router::{
        self, Link, RouterError,
        protocol::{Action, Listener, Protocol, Route, Service, Table, Target},
    },
};

/// How long a test waits for an event.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// Awaits a future; panics if it takes too long.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// A router on a thread, and the server's link to it.
pub(super) struct Router {
    pub(super) dir: Arc<tempfile::TempDir>,
    pub(super) link: Link,
    pub(super) shutdown: CancellationToken,
    pub(super) thread: Option<JoinHandle<Result<(), RouterError>>>,
    /// Closes the link.
    pub(super) ends: CancellationToken,
}

impl Drop for Router {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.ends.cancel();
    }
}

/// Runs a router on the folder.
pub(super) fn run(dir: &Arc<tempfile::TempDir>) -> (CancellationToken, JoinHandle<Result<(), RouterError>>) {
    run_with(dir, config::Router::default())
}

/// Runs a router with this configuration.
pub(super) fn run_with(
    dir: &Arc<tempfile::TempDir>,
    router: config::Router,
) -> (CancellationToken, JoinHandle<Result<(), RouterError>>) {
    let router = config::Router { workers: 2, ..router };
    let config = Config { data_dir: dir.path().to_owned(), router, ..Config::default() };
    let shutdown = CancellationToken::new();
    let (token, dir) = (shutdown.clone(), Arc::clone(dir));
    let thread = std::thread::spawn(move || {
        let ended = router::run(&config, token);
        drop(dir);
        ended
    });
    (shutdown, thread)
}

impl Router {
    pub(super) fn start() -> Self {
        Self::start_with(config::Router::default())
    }

    pub(super) fn start_with(config: config::Router) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let (shutdown, thread) = run_with(&dir, config);
        let ends = CancellationToken::new();
        let link = Link::start(dir.path().join("router.sock"), &TaskTracker::new(), ends.clone());
        Self { dir, link, shutdown, thread: Some(thread), ends }
    }

    /// Publishes a table and waits until it is in force with all listeners open.
    pub(super) async fn put(&self, table: Table) {
        let version = table.version;
        self.link.publish(table);
        assert_eq!(soon("the table is in force", self.link.applied(version)).await, []);
    }

    /// A router with one HTTP listener on a free port for these instances.
    pub(super) async fn serving(instances: &[&Instance]) -> (Self, SocketAddr) {
        Self::serving_with(config::Router::default(), instances).await
    }

    /// The same with this configuration.
    pub(super) async fn serving_with(config: config::Router, instances: &[&Instance]) -> (Self, SocketAddr) {
        let (router, address) = (Self::start_with(config), free());
        router.put(table(1, address, Protocol::Http, instances)).await;
        (router, address)
    }

    /// Waits until the router has ended, by itself or by `shutdown`.
    pub(super) async fn ended(&mut self) {
        let thread = self.thread.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || thread.join().unwrap());
        tokio::time::timeout(Duration::from_mins(1), ended).await.expect("the router ends").unwrap().unwrap();
    }
}

/// The service of the tables of [`table`].
pub(super) const SERVICE: &str = "app/web/8080";

/// A free address, chosen by the kernel.
pub(super) fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(super) fn table(version: u64, address: SocketAddr, protocol: Protocol, instances: &[&Instance]) -> Table {
    let targets = instances.iter().map(|instance| instance.target()).collect();
    Table {
        version,
        listeners: vec![listener(address, protocol, &[("*", "/", SERVICE)])],
        services: vec![Service { key: SERVICE.parse().unwrap(), targets }],
    }
}

pub(super) fn listener(address: SocketAddr, protocol: Protocol, routes: &[(&str, &str, &str)]) -> Listener {
    let route = |(host, path, service): &(&str, &str, &str)| Route {
        host: (*host).into(),
        path: (*path).into(),
        action: Action::Forward(service.parse().unwrap()),
    };
    Listener { address, protocol, routes: routes.iter().map(route).collect() }
}

/// A listening socket whose connections the test accepts and answers.
pub(super) struct Instance {
    pub(super) id: InstanceId,
    pub(super) address: SocketAddr,
    pub(super) connections: mpsc::Receiver<Peer>,
    pub(super) accepted: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Instance {
    /// An instance that the test controls.
    pub(super) async fn by_hand(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (send, connections) = mpsc::channel(64);
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let count = Arc::clone(&accepted);
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                if send.send(Peer::new(stream)).await.is_err() {
                    return;
                }
            }
        });
        Self { id: name.parse().unwrap(), address, connections, accepted, tasks }
    }

    /// An instance that answers every request with its own name and the head of the request.
    pub(super) async fn echo(name: &str) -> Self {
        let mut by_hand = Self::by_hand(name).await;
        let mut connections = by_hand.take_connections();
        let name = name.to_owned();
        by_hand.tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Some(mut peer) = connections.recv().await {
                let name = name.clone();
                serving.spawn(async move {
                    while let Some(message) = peer.message().await {
                        let body = format!("{name}\n{}\n{}", message.head, String::from_utf8_lossy(&message.body));
                        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                        if !peer.try_send(&(head + &body)).await {
                            return;
                        }
                    }
                });
            }
        });
        by_hand
    }

    /// An instance that refuses connections.
    pub(super) async fn refusing(name: &str) -> Self {
        let mut instance = Self::by_hand(name).await;
        instance.address = free();
        instance
    }

    pub(super) fn target(&self) -> Target {
        Target { instance: self.id.clone(), address: self.address }
    }

    /// The connections from the router, for a task of the instance's own.
    pub(super) fn take_connections(&mut self) -> mpsc::Receiver<Peer> {
        std::mem::replace(&mut self.connections, mpsc::channel(1).1)
    }

    /// Runs a task until the instance is dropped.
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// The next connection from the router.
    pub(super) async fn connection(&mut self) -> Peer {
        soon("a connection to the instance", self.connections.recv()).await.unwrap()
    }
}

/// One end of a connection: sends bytes, receives messages.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
}

/// A received message: the unchanged head, and the body without its framing.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Message {
    pub(super) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{:?}", self.head))
    }

    /// All values of a header.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// The only value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} occurs {} times", all.len());
        all.first().copied()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Peer {
    pub(super) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::new(soon("a connection", TcpStream::connect(address)).await.unwrap())
    }

    /// Connects with a receive buffer of so many bytes.
    pub(super) async fn connect_small(bytes: u32, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        Self::new(soon("a connection", socket.connect(address)).await.unwrap())
    }

    /// Connects from the address 127.0.0.N.
    pub(super) async fn connect_from(n: u8, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, n], 0))).unwrap();
        Self::new(soon("a connection", socket.connect(address)).await.unwrap())
    }

    /// One that reads and one that writes.
    pub(super) fn split(self) -> (Self, Self) {
        let std = self.stream.into_std().unwrap();
        let again = TcpStream::from_std(std.try_clone().unwrap()).unwrap();
        let read = Self { stream: TcpStream::from_std(std).unwrap(), buffer: self.buffer };
        (read, Self { stream: again, buffer: Vec::new() })
    }

    pub(super) async fn send(&mut self, text: &str) {
        assert!(self.try_send(text).await, "the peer has closed the connection");
    }

    pub(super) async fn try_send(&mut self, text: &str) -> bool {
        soon("sending", self.stream.write_all(text.as_bytes())).await.is_ok()
    }

    /// Reads more; false at the end.
    async fn fill(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        let read = self.stream.read(&mut bytes).await.unwrap_or(0);
        self.buffer.extend_from_slice(&bytes[..read]);
        read > 0
    }

    /// Reads exactly this many bytes.
    pub(super) async fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.try_take(count).await;
        taken.unwrap_or_else(|| panic!("ended after {:?}", String::from_utf8_lossy(&self.buffer)))
    }

    /// As [`Self::take`], or none if the peer closes the connection first.
    async fn try_take(&mut self, count: usize) -> Option<Vec<u8>> {
        soon("bytes", async {
            while self.buffer.len() < count {
                if !self.fill().await {
                    return None;
                }
            }
            Some(self.buffer.drain(..count).collect())
        })
        .await
    }

    /// Reads a head, or none if the peer closes the connection first.
    pub(super) async fn head(&mut self) -> Option<String> {
        let end = soon("a head", async {
            loop {
                if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                    return Some(end + 4);
                }
                if !self.fill().await {
                    return None;
                }
            }
        })
        .await?;
        Some(String::from_utf8(self.buffer.drain(..end).collect()).unwrap())
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.try_take(1).await?);
        }
        Some(String::from_utf8(line).unwrap().trim_end().to_owned())
    }

    /// Reads a whole message, or none if the peer closes the connection first.
    pub(super) async fn message(&mut self) -> Option<Message> {
        let head = self.head().await?;
        let mut message = Message { head, body: Vec::new() };
        if message.header("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(&self.line().await?, 16).unwrap();
                if size == 0 {
                    while !self.line().await?.is_empty() {}
                    break;
                }
                message.body.extend(self.try_take(size).await?);
                self.try_take(2).await?;
            }
        } else if let Some(length) = message.header("content-length") {
            message.body = self.try_take(length.parse().unwrap()).await?;
        }
        Some(message)
    }

    /// Sends a request and waits for the response.
    pub(super) async fn request(&mut self, text: &str) -> Message {
        self.send(text).await;
        self.message().await.expect("a response")
    }

    /// Waits until the peer has closed the connection; returns what it sent before.
    pub(super) async fn rest(&mut self) -> String {
        soon("the end of the connection", async { while self.fill().await {} }).await;
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }
}

/// A GET request.
pub(super) const GET: &str = "GET / HTTP/1.1\r\nhost: app.test\r\n\r\n";

/// A response with a short body.
pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
