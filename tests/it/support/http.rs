//! HTTP requests, one or many.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Number of ports that [`free_port`] has tried.
static TRIED: AtomicU16 = AtomicU16::new(0);

/// A port that nothing listens on. It is none of those that the kernel gives to outgoing connections: such a one may be
/// taken between this call and its use. No two calls of a process return the same.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const PORTS: u16 = 10_000;
    let own = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap();
    let mut candidates = (0..PORTS).map(|_| FIRST + own.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % PORTS);
    candidates.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// Status and body of a GET request on a connection of its own.
pub fn get(url: &str) -> Result<(u16, String), String> {
    let (head, body) = get_with_head(url)?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| format!("no status: {head:?}"))?;
    Ok((status, body))
}

/// Head and body of the response to a GET request on a connection of its own.
pub fn get_with_head(url: &str) -> Result<(String, String), String> {
    let rest = url.strip_prefix("http://").ok_or("not http")?;
    let (host, path) = rest.split_once('/').map_or((rest, String::from("/")), |(h, p)| (h, format!("/{p}")));
    let mut stream = TcpStream::connect(host).map_err(|e| format!("connect: {e}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| format!("write: {e}"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|e| format!("read: {e}"))?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("cut off: {answer:?}"))?;
    Ok((head.to_owned(), body.to_owned()))
}

/// Continuous requests from two threads until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub fn on(url: &str) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..2)
            .map(|_| {
                let (url, stop, answered) = (url.to_owned(), Arc::clone(&stop), Arc::clone(&answered));
                std::thread::spawn(move || {
                    let mut failed = Vec::new();
                    while !stop.load(Ordering::Relaxed) && failed.len() < 100 {
                        match get(&url) {
                            Ok((200, _)) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                            other => failed.push(format!("{other:?}")),
                        }
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    failed
                })
            })
            .collect();
        Self { stop, answered, threads }
    }

    /// Stops the load; returns the number of responses, and the failures.
    pub fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (self.answered.load(Ordering::Relaxed), failed)
    }

    /// Stops the load, and fails the test if a request failed.
    #[track_caller]
    pub fn end_without_failure(self) -> u64 {
        let (answered, failed) = self.end();
        assert!(
            failed.is_empty(),
            "{} of {} requests failed: {:?}",
            failed.len(),
            answered,
            &failed[..failed.len().min(5)]
        );
        assert!(answered > 0, "no request was answered");
        answered
    }
}
