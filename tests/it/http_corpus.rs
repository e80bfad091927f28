//! The router beside nginx and HAProxy: what an app receives and what its client gets, for each message of
//! `http_corpus/cases.toml`. All three are compared exactly with what that file says, so that a new difference fails.
//! `UPDATE_SNAPSHOTS=1` writes what was seen into the file; a difference without a reason fails all the same.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use paas::{
    config::Config,
    router::{
        self, Link,
        protocol::{Action, Listener, Protocol, Route, Service, Table, Target},
    },
};
use serde::Deserialize;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::{http::free_port, waiting::eventually};

/// How long a client waits for something to come before it is said to get nothing.
const SILENCE: Duration = Duration::from_secs(3);

/// The request that follows each of the corpus on its connection: its answer shows that the connection is still in order.
const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nhost: probe\r\n\r\n";
/// It ends the app's connection, so that the next case begins with a new one.
const PROBE_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\napp: probe\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

#[derive(Deserialize, Clone)]
struct Corpus {
    case: Vec<Case>,
}

/// A request and its answer. Bytes are written with the escapes `\r`, `\n`, `\t`, `\\`, `\xNN`, and `{TEXT*COUNT}`.
#[derive(Deserialize, Clone)]
struct Case {
    name: String,
    request: String,
    #[serde(default = "ok")]
    answer: String,
    /// Whether the app closes the connection after its answer.
    #[serde(default)]
    close: bool,
    /// What the app received (`>`) and the client got (`<`).
    #[serde(default)]
    router: String,
    /// The same of the others, where it differs.
    nginx: Option<String>,
    haproxy: Option<String>,
    /// Why the router differs.
    reason: Option<String>,
}

fn ok() -> String {
    r"HTTP/1.1 200 OK\r\napp: 1\r\ncontent-length: 2\r\n\r\nok".to_owned()
}

/// The bytes that a text of the file stands for.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'\\' => {
                let (escape, after) = rest.split_first().unwrap();
                rest = after;
                bytes.push(match escape {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'\\' => b'\\',
                    b'x' => {
                        let code = u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap();
                        rest = &rest[2..];
                        code
                    }
                    other => panic!("{text}: \\{}", char::from(*other)),
                });
            }
            b'{' => {
                let end = rest.iter().position(|byte| *byte == b'}').unwrap();
                let (repeated, count) = std::str::from_utf8(&rest[..end]).unwrap().rsplit_once('*').unwrap();
                bytes.extend(self::bytes(repeated).repeat(count.parse().unwrap()));
                rest = &rest[end + 1..];
            }
            byte => bytes.push(*byte),
        }
    }
    bytes
}

/// A shortened text for bytes.
fn shown(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string().replace("\\'", "´").replace("\\\"", "\"").replace('\'', "´");
    if text.len() > 120 { format!("{}… {} bytes", &text[..40], bytes.len()) } else { text }
}

/// A message on a connection: its first line, its headers, its body.
struct Message {
    line: String,
    headers: BTreeMap<String, Vec<String>>,
    body: Vec<u8>,
    trailers: String,
    /// Whether the body came to its end.
    is_complete: bool,
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Whether the last read brought nothing for too long.
    is_silent: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new(), is_silent: false }
    }

    /// Reads more; false at the end.
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                count > 0
            }
            Err(error) => {
                self.is_silent = error.kind() == std::io::ErrorKind::WouldBlock;
                false
            }
        }
    }

    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// As many bytes, or what comes before the end.
    fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.fill() {}
        self.buffer.drain(..count.min(self.buffer.len())).collect()
    }

    /// The next message; `has_body` decides by its first line whether one follows if nothing else says so.
    fn message(&mut self, has_body: impl Fn(&str) -> bool) -> Option<Message> {
        let head = self.until(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            headers.entry(name.to_ascii_lowercase()).or_default().push(value.trim().to_owned());
        }
        let mut message = Message { line, headers, body: Vec::new(), trailers: String::new(), is_complete: true };
        if !has_body(&message.line) {
            return Some(message);
        }
        if message.headers.contains_key("transfer-encoding") {
            message.is_complete = false;
            while let Some(size) = self.until(b"\r\n") {
                let size = usize::from_str_radix(String::from_utf8_lossy(&size).trim(), 16).unwrap_or(0);
                if size == 0 {
                    message.is_complete = true;
                    while let Some(line) = self.until(b"\r\n").filter(|line| line.len() > 2) {
                        let _ = write!(message.trailers, " | trailer {}", shown(line.trim_ascii()));
                    }
                    break;
                }
                message.body.extend(self.take(size));
                self.take(2);
            }
        } else if let Some(length) = message.headers.get("content-length") {
            let length = length[0].parse().unwrap_or(0);
            message.body = self.take(length);
            message.is_complete = message.body.len() == length;
        } else if message.line.starts_with("HTTP/") {
            message.body = self.take(usize::MAX);
        }
        Some(message)
    }
}

impl Message {
    /// The message on one line, without the headers named here.
    fn shown(&self, without: &[&str]) -> String {
        let mut text = shown(self.line.as_bytes());
        for (name, values) in &self.headers {
            if without.contains(&name.as_str()) || name.starts_with("x-forwarded-") {
                continue;
            }
            if values.len() > 5 {
                let _ = write!(text, " | {name} {} times", values.len());
                continue;
            }
            for value in values {
                let _ = write!(text, " | {name}: {}", shown(value.as_bytes()));
            }
        }
        if !self.body.is_empty() {
            let _ = write!(text, " | {}", shown(&self.body));
        }
        text + &self.trailers
    }
}

/// What the app does with the next request, and which it received.
#[derive(Default)]
struct App {
    answer: Vec<u8>,
    close: bool,
    received: Vec<String>,
}

/// Serves the app on a port of its own.
fn serve(app: Arc<Mutex<App>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let app = Arc::clone(&app);
            std::thread::spawn(move || serve_connection(stream.unwrap(), &app));
        }
    });
    address
}

fn serve_connection(stream: TcpStream, app: &Mutex<App>) {
    // An idle connection is the proxy's to close.
    let mut connection = Connection::new(stream);
    connection.stream.set_read_timeout(None).unwrap();
    while let Some(request) = connection.message(|_| true) {
        let (answer, close) = {
            let mut app = app.lock().unwrap();
            if request.line.contains("/probe ") {
                (PROBE_ANSWER.to_vec(), true)
            } else if !request.is_complete {
                // When the app notices that, in comparison with the client, is chance.
                return;
            } else {
                app.received.push(request.shown(&["content-length", "transfer-encoding", "x-request-id", "x-real-ip"]));
                (app.answer.clone(), app.close)
            }
        };
        if connection.stream.write_all(&answer).is_err() || close {
            return;
        }
    }
}

/// What comes of one case at a proxy.
fn outcome(case: &Case, proxy: SocketAddr, app: &Mutex<App>) -> String {
    *app.lock().unwrap() = App { answer: bytes(&case.answer), close: case.close, received: Vec::new() };
    let request = bytes(&case.request);
    let mut client = Connection::new(TcpStream::connect(proxy).unwrap());
    // A proxy may have closed the connection before it has read everything.
    let _ = client.stream.write_all(&[&request[..], PROBE].concat());
    let mut got = Vec::new();
    let mut is_head = request.starts_with(b"HEAD ");
    loop {
        let status = |line: &str| line.split(' ').nth(1).unwrap_or_default().to_owned();
        let without_body = is_head;
        let has_body = |line: &str| {
            let status = status(line);
            !without_body && !status.starts_with('1') && !["204", "304"].contains(&status.as_str())
        };
        let Some(answer) = client.message(has_body) else {
            got.push(if client.is_silent { "silence" } else { "end" }.to_owned());
            break;
        };
        let number = status(&answer.line);
        if number.starts_with('1') && number != "101" {
            got.push(number);
            continue;
        }
        match answer.headers.get("app").map(|values| values[0].as_str()) {
            Some("probe") => break,
            None => got.push(format!("{number} page")),
            Some(_) => {
                let mut without = vec!["app", "date", "server", "via", "x-request-id", "keep-alive"];
                without.extend(if number == "101" { &[][..] } else { &["connection"] });
                // The framing is the proxy's own, except where there is no body.
                if has_body(&answer.line) {
                    without.extend(["content-length", "transfer-encoding"]);
                }
                got.push(answer.shown(&without));
            }
        }
        is_head = false;
        if number == "101" {
            // The probe goes to the app, as bytes of the tunnel.
            break;
        }
    }
    // When a proxy notices that the app has closed its connection, in comparison with the probe, is chance.
    if case.close && got.len() > 1 && got.last().is_some_and(|last| last == "end") {
        got.pop();
    }
    let received = std::mem::take(&mut app.lock().unwrap().received);
    let received = received.into_iter().map(|one| format!("> {one}"));
    received
        .chain(got.into_iter().map(|one| format!("< {one}")))
        .collect::<Vec<_>>()
        .join("\n")
        .replace(&proxy.to_string(), "PROXY")
}

/// A proxy that is stopped when it is dropped.
struct Proxy {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(
    program: &str,
    arguments: impl Fn(&Path) -> Vec<String>,
    config: impl Fn(&Path) -> String,
    port: u16,
) -> Proxy {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("conf");
    fs::write(&file, config(dir.path())).unwrap();
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let mut command = Command::new(program);
    command.args(arguments(dir.path())).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().expect(program);
    let proxy = Proxy { child, _dir: dir };
    eventually(program, || TcpStream::connect(("127.0.0.1", port)).ok());
    proxy
}

fn nginx(port: u16, app: SocketAddr) -> Proxy {
    let config = move |dir: &Path| {
        let dir = dir.display();
        format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;
             events {{ worker_connections 256; }}
             http {{
               access_log off;
               client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;
               uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;
               map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
               server {{ listen 127.0.0.1:{port}; location / {{
                 proxy_pass http://{app};
                 proxy_http_version 1.1;
                 proxy_set_header Host $http_host;
                 proxy_set_header Upgrade $http_upgrade;
                 proxy_set_header Connection $connection_upgrade;
                 proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
               }} }}
             }}"
        )
    };
    let arguments =
        |dir: &Path| ["-p", dir.to_str().unwrap(), "-c", dir.join("conf").to_str().unwrap()].map(String::from).to_vec();
    start("nginx", arguments, config, port)
}

fn haproxy(port: u16, app: SocketAddr) -> Proxy {
    let config = move |_: &Path| {
        format!(
            "defaults
               mode http
               timeout connect 5s
               timeout client 60s
               timeout server 60s
               option forwardfor
               http-reuse never
             listen app
               bind 127.0.0.1:{port}
               server app {app}\n"
        )
    };
    start("haproxy", |dir| vec!["-db".into(), "-f".into(), dir.join("conf").to_str().unwrap().into()], config, port)
}

/// A router of this test's process.
struct OwnRouter {
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Drop for OwnRouter {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn own_router(port: u16, app: SocketAddr) -> OwnRouter {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
    config.router.workers = 1;
    let service: paas::model::ServiceKey = "corpus/web/8080".parse().unwrap();
    let table = Table {
        version: 1,
        listeners: vec![Listener {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            protocol: Protocol::Http,
            routes: vec![Route { host: "*".into(), path: "/".into(), action: Action::Forward(service.clone()) }],
        }],
        services: vec![Service {
            key: service,
            targets: vec![Target { instance: "corpus-1".parse().unwrap(), address: app }],
        }],
    };
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    let thread = std::thread::spawn(move || router::run(&config, token).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (socket, ends) = (dir.path().join("router.sock"), CancellationToken::new());
    runtime.block_on(async {
        let link = Link::start(socket, &TaskTracker::new(), ends.clone());
        link.publish(table);
        assert_eq!(link.applied(1).await, []);
    });
    OwnRouter { shutdown, thread: Some(thread), _dir: dir }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/http_corpus/cases.toml")
}

/// The file with these cases.
fn written(header: &str, cases: &[Case]) -> String {
    let mut text = header.to_owned();
    for case in cases {
        let _ = write!(text, "\n[[case]]\nname = '{}'\nrequest = '{}'\n", case.name, case.request);
        if case.answer != ok() {
            let _ = writeln!(text, "answer = '{}'", case.answer);
        }
        if case.close {
            text.push_str("close = true\n");
        }
        let _ = writeln!(text, "router = '''\n{}'''", case.router);
        for (name, other) in [("nginx", &case.nginx), ("haproxy", &case.haproxy)] {
            if let Some(other) = other {
                let _ = writeln!(text, "{name} = '''\n{other}'''");
            }
        }
        if let Some(reason) = &case.reason {
            let _ = writeln!(text, "reason = '{reason}'");
        }
    }
    text
}

#[test]
fn the_router_does_what_nginx_and_haproxy_do_or_says_why_not() {
    let text = fs::read_to_string(file()).unwrap();
    let header: String =
        text.lines().take_while(|line| line.starts_with('#')).fold(String::new(), |all, line| all + line + "\n");
    let corpus: Corpus = toml::from_str(&text).unwrap();
    let mut names: Vec<_> = corpus.case.iter().map(|case| &case.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), corpus.case.len(), "each case has a name of its own");
    assert!(corpus.case.len() >= 200, "{}", corpus.case.len());

    fn run<P: 'static>(corpus: &Corpus, proxy: fn(u16, SocketAddr) -> P) -> JoinHandle<Vec<String>> {
        let cases = corpus.case.clone();
        std::thread::spawn(move || {
            let (app, port) = (Arc::default(), free_port());
            let _proxy = proxy(port, serve(Arc::clone(&app)));
            cases.iter().map(|case| outcome(case, SocketAddr::from(([127, 0, 0, 1], port)), &app)).collect()
        })
    }
    let threads = [run(&corpus, own_router), run(&corpus, nginx), run(&corpus, haproxy)];
    let [router, nginx, haproxy] = threads.map(|thread| thread.join().unwrap());
    let seen: Vec<Case> = corpus
        .case
        .iter()
        .zip(router.into_iter().zip(nginx.into_iter().zip(haproxy)))
        .map(|(case, (router, (nginx, haproxy)))| Case {
            nginx: (nginx != router).then_some(nginx),
            haproxy: (haproxy != router).then_some(haproxy),
            router,
            ..case.clone()
        })
        .collect();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(file(), written(&header, &seen)).unwrap();
    } else {
        for (expected, case) in corpus.case.iter().zip(&seen) {
            let all = |case: &Case| [Some(case.router.clone()), case.nginx.clone(), case.haproxy.clone()];
            assert_eq!(all(case), all(expected), "{}: router, nginx, haproxy", case.name);
        }
    }
    let unexplained: Vec<_> = seen
        .iter()
        .filter(|case| (case.nginx.is_some() || case.haproxy.is_some()) != case.reason.is_some())
        .map(|case| &case.name)
        .collect();
    assert!(unexplained.is_empty(), "a reason stands where the router differs, and nowhere else: {unexplained:#?}");
}
