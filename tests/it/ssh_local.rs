//! Commands through the local socket.

use std::{os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use paas::{
    commands::Streams,
    operations::Caller,
    socket::{self, Runner, SocketError, client},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::waiting::DEADLINE;

/// Its commands report when they have started.
struct Stub(Arc<Semaphore>);

impl Runner for Stub {
    async fn run(&self, caller: &Caller, words: Vec<String>, mut streams: Streams, hangup: CancellationToken) -> u8 {
        match words[0].as_str() {
            "cat" => tokio::io::copy(&mut streams.stdin, &mut streams.stdout).await.map_or(1, |_| 0),
            "hang" => {
                self.0.add_permits(1);
                hangup.cancelled().await;
                streams.stderr.write_all(b"hung up\n").await.map_or(1, |()| 130)
            }
            _ => {
                let text = format!("{} {} {:?} {words:?}", caller.name(), caller.admin, caller.actor.user);
                streams.stdout.write_all(text.as_bytes()).await.unwrap();
                7
            }
        }
    }
}

struct Local {
    started: Arc<Semaphore>,
    dir: tempfile::TempDir,
    shutdown: CancellationToken,
    tracker: TaskTracker,
}

impl Local {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
        let listener = socket::bind(&socket::path(dir.path())).await.unwrap();
        let started = Arc::new(Semaphore::new(0));
        let stub = Arc::new(Stub(Arc::clone(&started)));
        tracker.spawn(socket::serve(listener, stub, tracker.clone(), shutdown.clone(), CancellationToken::new()));
        Self { started, dir, shutdown, tracker }
    }

    async fn stop(&self) {
        self.shutdown.cancel();
        self.tracker.close();
        tokio::time::timeout(DEADLINE, self.tracker.wait()).await.expect("all connections end");
    }
}

async fn run(
    dir: &Path,
    words: &[&str],
    input: &[u8],
    interrupted: bool,
) -> (Result<u8, SocketError>, Vec<u8>, Vec<u8>) {
    let words = words.iter().map(|w| (*w).to_owned()).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let signal = async {
        if !interrupted {
            std::future::pending::<()>().await;
        }
    };
    let socket = socket::path(dir);
    let result = client::run_with_streams(&socket, words, None, input, &mut out, &mut err, signal).await;
    (result, out, err)
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_have_streams_a_status_and_a_hang_up() {
    let local = Local::start().await;
    let dir = local.dir.path();
    let mode = std::fs::metadata(socket::path(dir)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (result, out, _) = run(dir, &["apps:list", "a b"], b"", false).await;
    assert_eq!(result.unwrap(), 7);
    assert_eq!(String::from_utf8(out).unwrap(), "local true None [\"apps:list\", \"a b\"]");
    let input = vec![3; 20 << 20];
    let (result, out, _) = run(dir, &["cat"], &input, false).await;
    assert_eq!((result.unwrap(), out.len()), (0, input.len()));
    let (result, _, err) = run(dir, &["hang"], b"", true).await;
    assert_eq!((result.unwrap(), err.as_slice()), (130, &b"hung up\n"[..]));
    assert!(matches!(socket::bind(&socket::path(dir)).await, Err(SocketError::Running { .. })));
    local.stop().await;
}

#[tokio::test]
async fn without_a_server_the_error_explains_how_to_start_one_and_a_stale_socket_is_replaced() {
    let local = Local::start().await;
    local.stop().await;
    let dir = local.dir.path();
    assert!(socket::path(dir).exists());
    let error = run(dir, &["apps:list"], b"", false).await.0.unwrap_err().to_string();
    assert!(error.contains("no server listens on ") && error.contains("start it with `paas server`"), "{error}");
    drop(socket::bind(&socket::path(dir)).await.unwrap());
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1);
}

#[tokio::test]
async fn garbage_and_a_dying_client_end_their_own_connection_only() {
    let local = Local::start().await;
    let dir = local.dir.path();
    let mut stream = tokio::net::UnixStream::connect(socket::path(dir)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    // The client is dropped once its command has started.
    tokio::select! {
        ended = run(dir, &["hang"], b"", false) => panic!("{ended:?}"),
        started = local.started.acquire() => started.unwrap().forget(),
    }
    assert_eq!(run(dir, &["x"], b"", false).await.0.unwrap(), 7);
    // Ends only if the command was notified of its client's death.
    local.stop().await;
}
