//! The SSH server, with OpenSSH and paramiko as clients.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use paas::{
    commands::Streams,
    config::{Config, Ssh},
    keys::parse_public_key,
    model::{AppName, Resource},
    operations::Caller,
    ssh::{Backend, SshServer, serve},
    store::{NewKey, Store},
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::{
    held::{held, is_closed},
    waiting::{DEADLINE, at_rest, eventually},
};

#[derive(Default)]
struct Seen {
    hangups: AtomicUsize,
    started: AtomicUsize,
    taken: AtomicUsize,
}

struct Stub {
    seen: Arc<Seen>,
}

impl Stub {
    async fn git(what: &str, caller: &Caller, app: &AppName, protocol: Option<String>, mut streams: Streams) -> u8 {
        let text = format!("{what} {app} by {} {}\n", caller.name(), protocol.unwrap_or_default());
        streams.stdout.write_all(text.as_bytes()).await.map_or(1, |()| 0)
    }
}

impl Backend for Stub {
    async fn receive_pack(
        &self,
        caller: &Caller,
        app: AppName,
        git_protocol: Option<String>,
        streams: Streams,
        _: CancellationToken,
    ) -> u8 {
        Self::git("push", caller, &app, git_protocol, streams).await
    }

    async fn upload_pack(
        &self,
        caller: &Caller,
        app: AppName,
        git_protocol: Option<String>,
        streams: Streams,
        _: CancellationToken,
    ) -> u8 {
        Self::git("fetch", caller, &app, git_protocol, streams).await
    }

    async fn command(
        &self,
        caller: &Caller,
        words: Vec<String>,
        mut streams: Streams,
        hangup: CancellationToken,
    ) -> u8 {
        self.seen.started.fetch_add(1, Ordering::SeqCst);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["true"] => 0,
            ["status", status] => status.parse().unwrap(),
            ["cat"] => tokio::io::copy(&mut streams.stdin, &mut streams.stdout).await.map_or(1, |_| 0),
            ["sink"] => {
                let mut data = vec![0; 64 * 1024];
                loop {
                    match streams.stdin.read(&mut data).await {
                        Ok(0) => break,
                        Ok(n) => self.seen.taken.fetch_add(n, Ordering::SeqCst),
                        Err(_) => return 1,
                    };
                }
                let text = format!("{}\n", self.seen.taken.load(Ordering::SeqCst));
                streams.stdout.write_all(text.as_bytes()).await.map_or(1, |()| 0)
            }
            ["both"] => {
                streams.stdout.write_all(b"to stdout\n").await.unwrap();
                streams.stderr.write_all(b"to stderr\n").await.unwrap();
                3
            }
            // Ends by the hang-up only; before that it reports the end of its input.
            ["hang"] => {
                let mut rest = Vec::new();
                let ended = tokio::select! {
                    () = hangup.cancelled() => false,
                    _ = streams.stdin.read_to_end(&mut rest) => true,
                };
                if ended {
                    streams.stdout.write_all(b"stdin ended\n").await.unwrap();
                    hangup.cancelled().await;
                }
                self.seen.hangups.fetch_add(1, Ordering::SeqCst);
                let _ = streams.stdout.write_all(b"hung up\n").await;
                130
            }
            // Reads nothing until the hang-up.
            ["deaf"] => {
                hangup.cancelled().await;
                0
            }
            ["words", rest @ ..] => {
                let text = format!("{} {} {rest:?}\n", caller.name(), streams.terminal.is_some());
                streams.stdout.write_all(text.as_bytes()).await.map_or(1, |()| 0)
            }
            other => {
                let text = format!(" !     no command {other:?}\n");
                let _ = streams.stderr.write_all(text.as_bytes()).await;
                127
            }
        }
    }

    fn greeting(&self, caller: &Caller) -> String {
        format!("Hello {}", caller.name())
    }
}

struct Server {
    dir: TempDir,
    address: SocketAddr,
    seen: Arc<Seen>,
    shutdown: CancellationToken,
    abort: CancellationToken,
    tracker: TaskTracker,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(ssh: Ssh) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (shutdown, abort, tracker) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let seen = Arc::new(Seen::default());
        let config = Arc::new(Config { data_dir: dir.path().to_owned(), ssh, ..Config::default() });
        let backend = Stub { seen: Arc::clone(&seen) };
        let address = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = SshServer { config, store, backend };
            let serving = serve(listener, server, tracker.clone(), shutdown.clone(), abort.clone());
            tracker.spawn(async move { serving.await.unwrap() });
            address
        });
        let server = Self { dir, address, seen, shutdown, abort, tracker, runtime };
        server.key("admin", &["-t", "ed25519"], true);
        server
    }

    /// Sets how many sessions a user may have.
    fn limit_sessions(&self, name: &str, max: u64) {
        let store = Store::open(self.dir.path()).unwrap();
        let set = async {
            let user = store.user_named(name.parse().unwrap()).await.unwrap();
            store.set_quotas(user.id, BTreeMap::from([(Resource::Sessions, Some(max))])).await.unwrap();
        };
        self.runtime.block_on(set);
    }

    /// Generates a key with OpenSSH and registers it.
    fn key(&self, name: &str, arguments: &[&str], admin: bool) -> PathBuf {
        let path = self.keygen(name, arguments);
        self.register(name, &path, admin);
        path
    }

    fn keygen(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let path = self.dir.path().join(name);
        let made = Command::new("ssh-keygen").args(arguments).args(["-q", "-N", "", "-f"]).arg(&path).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        path
    }

    fn register(&self, name: &str, path: &Path, admin: bool) {
        let key = parse_public_key(&std::fs::read_to_string(path.with_extension("pub")).unwrap()).unwrap();
        let store = Store::open(self.dir.path()).unwrap();
        let new = NewKey {
            user: name.parse().unwrap(),
            name: None,
            fingerprint: key.fingerprint,
            public_key: key.openssh,
            admin,
            membership: None,
        };
        self.runtime.block_on(store.add_key(new)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ssh_with(&self, key: &str, options: &[&str], command: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"])
            .args(["-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", self.path("known_hosts").display()))
            .arg("-i")
            .arg(self.path(key))
            .args(options)
            .args(["-p", &self.address.port().to_string(), "anybody@127.0.0.1"])
            .args(command)
            .env_remove("SSH_AUTH_SOCK");
        ssh
    }

    fn run(&self, key: &str, options: &[&str], command: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .ssh_with(key, options, command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    fn stop(self) {
        self.shutdown.cancel();
        self.abort.cancel();
        self.tracker.close();
        let ended = self.runtime.block_on(async { tokio::time::timeout(DEADLINE, self.tracker.wait()).await });
        assert!(ended.is_ok(), "not all tasks have ended");
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn keys_of_all_supported_types_log_in_with_any_user_name() {
    let server = Server::start(Ssh::default());
    for (name, arguments) in [
        ("ed25519", &["-t", "ed25519"][..]),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("p521", &["-t", "ecdsa", "-b", "521"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
    ] {
        server.key(name, arguments, false);
        let output = server.run(name, &["-l", "git"], &["words", "'a b'", "\"c\""], b"");
        assert_eq!(text(&output.stdout), format!("{name} false [\"a b\", \"c\"]\n"), "{output:?}");
    }
    let sha1 = ["-o", "PubkeyAcceptedAlgorithms=ssh-rsa"];
    let output = server.run("rsa", &sha1, &["true"], b"");
    assert_eq!(output.status.code(), Some(255), "SHA-1 signature: {output:?}");
    server.stop();
}

#[test]
fn unknown_and_removed_keys_are_refused() {
    let server = Server::start(Ssh::default());
    server.keygen("stranger", &["-t", "ed25519"]);
    let output = server.run("stranger", &[], &["true"], b"");
    assert_eq!(output.status.code(), Some(255));
    assert!(text(&output.stderr).contains("Permission denied (publickey)"), "{output:?}");
    server.key("leaver", &["-t", "ed25519"], false);
    assert!(server.run("leaver", &[], &["true"], b"").status.success());
    let store = Store::open(server.dir.path()).unwrap();
    server.runtime.block_on(store.remove_key("leaver".to_owned())).unwrap();
    let output = server.run("leaver", &[], &["true"], b"");
    assert_eq!(output.status.code(), Some(255));
    assert!(text(&output.stderr).contains("Permission denied (publickey)"), "{output:?}");
    assert_eq!(server.seen.started.load(Ordering::SeqCst), 1);
    server.stop();
}

#[test]
fn shell_forwarding_subsystems_and_environment_are_refused() {
    let server = Server::start(Ssh::default());
    let output = server.run("admin", &[], &[], b"rm -rf /\n");
    assert_eq!((text(&output.stdout), output.status.code()), ("Hello admin\n", Some(0)), "{output:?}");
    let output = server.run("admin", &["-s"], &["sftp"], b"");
    assert_eq!(output.status.code(), Some(255));
    assert!(text(&output.stderr).contains("subsystem request failed"), "{output:?}");
    let output = server.run("admin", &["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9"], &["true"], b"");
    assert_eq!(output.status.code(), Some(255), "-R: {output:?}");
    let output = server.run("admin", &["-W", "127.0.0.1:9"], &[], b"");
    assert_eq!(output.status.code(), Some(255));
    assert!(text(&output.stderr).contains("stdio forwarding failed"), "-W: {output:?}");
    for (value, expected) in [("version=2", "version=2"), ("version=1;rm", ""), ("version=3", "")] {
        let option = format!("SetEnv=GIT_PROTOCOL={value} LD_PRELOAD=/x PATH=/x");
        let output = server.run("admin", &["-o", &option], &["git-receive-pack", "'/blog.git'"], b"");
        assert_eq!(text(&output.stdout), format!("push blog by admin {expected}\n"), "{output:?}");
    }
    server.stop();
}

#[test]
fn git_requests_reach_the_backend_with_the_name_of_the_app() {
    let server = Server::start(Ssh::default());
    let git = |command: &str| server.run("admin", &[], &[command], b"");
    assert_eq!(text(&git("git-receive-pack 'shop'").stdout), "push shop by admin \n");
    assert_eq!(text(&git("git upload-pack '~/shop.git'").stdout), "fetch shop by admin \n");
    let output = git("git-receive-pack '../../etc'");
    assert!(text(&output.stderr).starts_with(" !     \"../../etc\" is not a valid app name"), "{output:?}");
    assert_eq!((output.stdout.len(), output.status.code()), (0, Some(2)));
    server.stop();
}

#[test]
fn status_and_output_are_passed_on_and_invalid_commands_refused() {
    let server = Server::start(Ssh { max_command_bytes: 1000, ..Ssh::default() });
    for status in ["0", "1", "42", "255"] {
        let output = server.run("admin", &[], &["status", status], b"");
        assert_eq!(output.status.code().unwrap().to_string(), status);
    }
    let output = server.run("admin", &[], &["both"], b"");
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("to stdout\n", "to stderr\n"));
    assert_eq!(output.status.code(), Some(3));
    let output = server.run("admin", &[], &["words", "'open"], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with(" !     the command has a quote"), "{output:?}");
    let output = server.run("admin", &[], &["words", "'open", "--format", "json"], b"");
    assert!(
        text(&output.stdout).starts_with(r#"{"error":{"kind":"invalid","message":"the command has a quote"#),
        "{output:?}"
    );
    let output = server.run("admin", &[], &["words", &"x".repeat(1001)], b"");
    assert!(text(&output.stderr).contains("1007 bytes, and at most 1000 are allowed"), "{output:?}");
    assert_eq!(server.seen.started.load(Ordering::SeqCst), 5);
    server.stop();
}

#[test]
fn a_terminal_gets_crlf_and_ctrl_c_hangs_up() {
    let server = Server::start(Ssh::default());
    let output = server.run("admin", &["-tt"], &["words"], b"");
    assert_eq!(text(&output.stdout), "admin true []\r\n", "{output:?}");
    let output = server.run("admin", &["-tt"], &["cat"], b"typed\r\x04");
    assert_eq!((text(&output.stdout), output.status.code()), ("typed\r\n", Some(0)), "{output:?}");
    let output = server.run("admin", &["-tt"], &["hang"], b"\x03");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(text(&output.stdout).contains("hung up\r\n"), "{output:?}");
    assert_eq!(server.seen.hangups.load(Ordering::SeqCst), 1);
    server.stop();
}

#[test]
fn a_lost_connection_hangs_up_and_the_end_of_input_does_not() {
    let server = Server::start(Ssh::default());
    let mut child =
        server.ssh_with("admin", &[], &["hang"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = [0; 12];
    child.stdout.as_mut().unwrap().read_exact(&mut printed).unwrap();
    assert_eq!(text(&printed), "stdin ended\n");
    assert_eq!(server.seen.hangups.load(Ordering::SeqCst), 0);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the hang-up", || (server.seen.hangups.load(Ordering::SeqCst) == 1).then_some(()));
    server.stop();
}

#[test]
fn bulk_data_in_both_directions_survives_rekeying() {
    let server = Server::start(Ssh::default());
    let size = 300 << 20;
    let mut child = server
        .ssh_with("admin", &["-o", "RekeyLimit=1M"], &["cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let block: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        for _ in 0..size >> 20 {
            stdin.write_all(&block).unwrap();
        }
    });
    let mut stdout = child.stdout.take().unwrap();
    let pattern: Vec<u8> = (0..=255).cycle().take((1 << 20) + 256).collect();
    let (mut total, mut wrong, mut block) = (0, false, vec![0; 1 << 20]);
    loop {
        let n = stdout.read(&mut block).unwrap();
        if n == 0 {
            break;
        }
        wrong |= block[..n] != pattern[total % 256..][..n];
        total += n;
    }
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!((total, wrong), (size, false));
    server.stop();
}

#[test]
fn a_command_that_does_not_read_holds_the_client_back() {
    let server = Server::start(Ssh::default());
    let mut child =
        server.ssh_with("admin", &[], &["deaf"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let writer = std::thread::spawn(move || {
        let block = vec![1; 64 * 1024];
        while counter.load(Ordering::SeqCst) < 200 << 20 && stdin.write_all(&block).is_ok() {
            counter.fetch_add(block.len(), Ordering::SeqCst);
        }
    });
    let taken = at_rest("the client is held back", || sent.load(Ordering::SeqCst));
    assert!(taken < 16 << 20, "{taken} bytes were read");
    assert!(server.run("admin", &[], &["true"], b"").status.success(), "other connections work");
    child.kill().unwrap();
    child.wait().unwrap();
    writer.join().unwrap();
    server.stop();
}

#[test]
fn all_output_arrives_at_a_client_that_reads_late() {
    let server = Server::start(Ssh::default());
    let size = 24 << 20;
    let mut child =
        server.ssh_with("admin", &[], &["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let writer = std::thread::spawn(move || {
        let block = vec![1; 64 * 1024];
        while counter.load(Ordering::SeqCst) < size {
            stdin.write_all(&block).unwrap();
            counter.fetch_add(block.len(), Ordering::SeqCst);
        }
    });
    let taken = at_rest("all buffers are full", || sent.load(Ordering::SeqCst));
    assert!(taken < size, "nothing holds the client back");
    let mut rest = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(rest.len(), size);
    server.stop();
}

#[test]
fn unauthenticated_connections_are_limited_in_time_and_number() {
    let server = Server::start(Ssh { handshake_seconds: 2, max_unauthenticated_per_address: 3, ..Ssh::default() });
    let begun = Instant::now();
    let mut silent: Vec<_> = (0..4).map(|_| held(server.address, "127.0.0.1")).collect();
    eventually("the fourth connection has got the place of the first", || is_closed(&mut silent[0]).then_some(()));
    assert!(!silent[1..].iter_mut().any(is_closed) || begun.elapsed() >= Duration::from_secs(2));
    for stream in &mut silent {
        eventually("a silent connection is closed", || is_closed(stream).then_some(()));
    }
    let lasted = begun.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&lasted), "closed after {lasted:?}");
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff", &vec![0; 100_000]] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    eventually("another client logs in", || (server.run("admin", &[], &["true"], b"").status.success()).then_some(()));
    server.stop();
}

#[test]
fn a_client_logs_in_beside_200_held_connections() {
    // Of one address: the client's own. Of 50: more than there are places.
    for addresses in [1, 50] {
        let ssh = Ssh { handshake_seconds: 600, ..Ssh::default() };
        let (all, of_one) = (ssh.max_unauthenticated, ssh.max_unauthenticated_per_address);
        let server = Server::start(ssh);
        let begun = Instant::now();
        let mut held: Vec<_> =
            (0..200).map(|n| held(server.address, &format!("127.0.0.{}", 1 + n % addresses))).collect();
        for _ in 0..3 {
            assert!(server.run("admin", &[], &["true"], b"").status.success());
        }
        // Long before the held connections have no more time.
        assert!(begun.elapsed() < Duration::from_mins(2), "{:?}", begun.elapsed());
        let most = if addresses == 1 { of_one } else { all };
        eventually("the oldest connections are closed", || {
            let open = held.iter_mut().map(is_closed).filter(|closed| !closed).count();
            (open <= most && open >= most - 4).then_some(())
        });
        server.stop();
    }
}

#[test]
fn a_key_has_its_share_and_an_admin_always_gets_in() {
    let ssh = Ssh { max_connections: 6, reserved_for_admins: 2, max_connections_per_key: 3, ..Ssh::default() };
    let server = Server::start(ssh);
    for name in ["ann", "bob", "kim"] {
        server.key(name, &["-t", "ed25519"], false);
    }
    let mut started = 0;
    let mut hang = |key| {
        let mut ssh = server.ssh_with(key, &[], &["hang"]);
        let child = ssh.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        started += 1;
        eventually("the command runs", || (server.seen.started.load(Ordering::SeqCst) == started).then_some(()));
        child
    };
    let refused = |key: &str, message: &str| {
        let output = server.run(key, &[], &["true"], b"");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(6), message));
    };
    let mut running: Vec<_> = (0..3).map(|_| hang("ann")).collect();
    refused(
        "ann",
        " !     your key \"ann\" has 3 connections already (ssh.max_connections_per_key); close some, then try again\n",
    );
    running.push(hang("bob"));
    refused(
        "kim",
        " !     the server has 4 connections already (ssh.max_connections, of which ssh.reserved_for_admins are for \
         admins); try again later\n",
    );
    running.push(hang("admin"));
    assert!(server.run("admin", &[], &["words"], b"").status.success());
    for mut child in running {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    eventually("the shares are given back", || server.run("kim", &[], &["true"], b"").status.success().then_some(()));
    server.stop();
}

#[test]
fn a_user_has_a_share_of_sessions_over_all_connections() {
    let server = Server::start(Ssh::default());
    server.key("ann", &["-t", "ed25519"], false);
    server.limit_sessions("ann", 2);
    server.key("bob", &["-t", "ed25519"], false);
    let control = format!("ControlPath={}", server.path("control").display());
    // Two sessions on one connection.
    let shared = ["-o", "ControlMaster=auto", "-o", &control];
    let mut running = Vec::new();
    for started in 1..=2 {
        let mut ssh = server.ssh_with("ann", &shared, &["hang"]);
        running.push(ssh.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        eventually("the command runs", || (server.seen.started.load(Ordering::SeqCst) == started).then_some(()));
    }
    for options in [&shared[..], &[]] {
        let output = server.run("ann", options, &["true"], b"");
        let message = " !     ann may have 2 commands and pushes at a time, and they run already; end some, then try again: quota \
                       shows the limit\n";
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(6), message));
    }
    assert!(server.run("bob", &[], &["words"], b"").status.success());
    // The second client is not the master: its end is the end of its session alone.
    let mut second = running.pop().unwrap();
    second.kill().unwrap();
    second.wait().unwrap();
    eventually("a session is free", || server.run("ann", &[], &["true"], b"").status.success().then_some(()));
    running[0].kill().unwrap();
    running[0].wait().unwrap();
    server.stop();
}

#[test]
fn too_many_keys_and_idle_connections_are_closed() {
    let server = Server::start(Ssh { auth_attempts: 2, idle_seconds: 2, ..Ssh::default() });
    let wrong: Vec<PathBuf> = (0..3).map(|i| server.keygen(&format!("wrong{i}"), &["-t", "ed25519"])).collect();
    let with = |count: usize| {
        let mut options: Vec<String> = Vec::new();
        for path in &wrong[..count] {
            options.extend(["-i".to_owned(), path.to_string_lossy().into_owned()]);
        }
        options
    };
    // OpenSSH offers keys in the order of its command line.
    let last = |count: usize| {
        let mut options = with(count);
        options.extend(["-i".to_owned(), server.path("admin").to_string_lossy().into_owned()]);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        server.run("wrong0", &options, &["true"], b"").status.code()
    };
    assert_eq!(last(1), Some(0));
    assert_eq!(last(3), Some(255));
    // This command would never end by itself.
    let output = server.run("admin", &[], &["deaf"], b"");
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    server.stop();
}

#[test]
fn paramiko_logs_in_and_runs_commands() {
    let server = Server::start(Ssh::default());
    let script = "
import sys, paramiko
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect('127.0.0.1', int(sys.argv[1]), 'x', key_filename=sys.argv[2], look_for_keys=False, allow_agent=False)
i, o, e = client.exec_command('sink')
i.write(b'x' * 5000000); i.channel.shutdown_write()
taken = int(o.read())
assert taken > 0 and taken % 5000000 == 0, taken
assert o.channel.recv_exit_status() == 0
for _ in range(25):
    i, o, e = client.exec_command('status 9')
    assert o.channel.recv_exit_status() == 9
import time
deadline = time.monotonic() + 180
while not o.channel.closed:
    assert time.monotonic() < deadline
    time.sleep(0.01)
channels = [client.get_transport().open_session() for _ in range(10)]
try:
    client.get_transport().open_session(); sys.exit('an eleventh channel')
except paramiko.ChannelException: pass
channels[0].exec_command('hang')
try:
    channels[0].exec_command('true'); sys.exit('two commands on one channel')
except paramiko.SSHException: pass
client.close()
";
    server.key("rsa", &["-t", "rsa", "-b", "3072", "-m", "PEM"], false);
    for key in ["admin", "rsa"] {
        let output = Command::new("/usr/bin/python3")
            .args(["-c", script, &server.address.port().to_string()])
            .arg(server.path(key))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    server.stop();
}

#[test]
fn a_stopping_server_waits_for_commands_and_then_aborts_them() {
    let server = Server::start(Ssh::default());
    let mut working =
        server.ssh_with("admin", &[], &["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut hanging =
        server.ssh_with("admin", &[], &["hang"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    eventually("both commands run", || (server.seen.started.load(Ordering::SeqCst) == 2).then_some(()));
    server.shutdown.cancel();
    eventually("no new connection is accepted", || (TcpStream::connect(server.address).is_err()).then_some(()));
    let mut stdin = working.stdin.take().unwrap();
    stdin.write_all(b"still here").unwrap();
    drop(stdin);
    let output = working.wait_with_output().unwrap();
    assert_eq!((text(&output.stdout), output.status.code()), ("still here", Some(0)));
    assert_eq!(server.seen.hangups.load(Ordering::SeqCst), 0);
    server.abort.cancel();
    assert_eq!(hanging.wait().unwrap().code(), Some(255));
    eventually("the hang-up", || (server.seen.hangups.load(Ordering::SeqCst) == 1).then_some(()));
    server.stop();
}

#[test]
fn ssh_audit_finds_no_failure() {
    let server = Server::start(Ssh::default());
    let mut audit = Command::new("ssh-audit");
    audit.args(["--no-colors", "-p", &server.address.port().to_string(), "127.0.0.1"]);
    let output = audit.output().expect("ssh-audit is installed");
    let report = text(&output.stdout);
    assert!(report.contains("(kex) curve25519-sha256"), "{report}{}", text(&output.stderr));
    let failures: Vec<_> = report.lines().filter(|line| line.contains("[fail]")).collect();
    assert!(failures.is_empty(), "{failures:#?}");
    server.stop();
}
