//! Whether an instance is healthy: asked directly at its address, often at first, so that a quick start is noticed.

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::model::{HealthCheck, Probe};

/// The first wait between two attempts; it grows to what the check says.
const FIRST_WAIT: Duration = Duration::from_millis(20);

/// What the last attempt met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unhealthy {
    /// Nothing listens.
    Refused,
    /// It listens, and accepts nothing.
    NotAccepted,
    /// No answer in time.
    TimedOut(Duration),
    /// It answered with this status.
    Status(u16),
    /// The connection broke, or the answer was not HTTP.
    Broken(String),
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("nothing accepts connections"),
            Self::NotAccepted => f.write_str("it listens and accepts no connection, as if it still starts"),
            Self::TimedOut(limit) => write!(f, "no answer within {} s", limit.as_secs_f32()),
            Self::Status(status) => write!(f, "it answered with status {status}"),
            Self::Broken(why) => write!(f, "the answer broke off: {why}"),
        }
    }
}

/// Returns when the instance is healthy, or after the check's attempts with what the last of them met.
pub async fn until_healthy(address: SocketAddr, check: &HealthCheck) -> Result<(), Unhealthy> {
    if let Probe::Uptime(uptime) = check.probe {
        sleep(uptime).await;
        return Ok(());
    }
    let longest = check.wait.max(Duration::from_millis(10));
    let deadline = Instant::now() + longest * check.attempts.max(1);
    let mut wait = FIRST_WAIT.min(longest);
    loop {
        let begun = Instant::now();
        let met = match once(address, check).await {
            Ok(()) => return Ok(()),
            Err(met) => met,
        };
        let next = begun + wait;
        if next.max(Instant::now()) >= deadline {
            return Err(met);
        }
        tokio::time::sleep_until(next).await;
        wait = (wait + wait / 2).min(longest);
    }
}

/// One attempt.
pub(super) async fn once(address: SocketAddr, check: &HealthCheck) -> Result<(), Unhealthy> {
    let attempt = async {
        let stream = TcpStream::connect(address).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::HostUnreachable => Unhealthy::Refused,
            _ => Unhealthy::Broken(e.to_string()),
        })?;
        match &check.probe {
            Probe::Tcp | Probe::Uptime(_) => Ok(()),
            Probe::Http(path) => get(stream, address, path).await,
        }
    };
    timeout(check.timeout, attempt).await.unwrap_or(Err(Unhealthy::TimedOut(check.timeout)))
}

async fn get(stream: TcpStream, address: SocketAddr, path: &str) -> Result<(), Unhealthy> {
    let broken = |e: &dyn fmt::Display| Unhealthy::Broken(e.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, address.to_string())
        .header(hyper::header::USER_AGENT, "paas-health-check")
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| broken(&e))?;
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // The connection may end in the moment in which it delivers the answer.
        _ = &mut connection => answer.await,
    };
    match answer.map_err(|e| broken(&e))?.status().as_u16() {
        200..400 => Ok(()),
        status => Err(Unhealthy::Status(status)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    fn check(probe: Probe, attempts: u32, wait_ms: u64) -> HealthCheck {
        let timeout = Duration::from_millis(300);
        HealthCheck { probe, attempts, wait: Duration::from_millis(wait_ms), timeout }
    }

    async fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn a_listener_is_noticed_soon_after_it_appears() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(until_healthy(address, &check(Probe::Tcp, 1, 60)).await, Err(Unhealthy::Refused));
        let begun = Instant::now();
        let appears = async {
            sleep(Duration::from_millis(100)).await;
            let listener = TcpListener::bind(address).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            drop(listener);
        };
        let check = check(Probe::Tcp, 60, 1000);
        tokio::select! {
            () = appears => panic!("it was not noticed"),
            healthy = until_healthy(address, &check) => healthy.unwrap(),
        }
        assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn the_status_decides() {
        let probe = || Probe::Http("/up".into());
        for (answer, expected) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", Ok(())),
            ("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", Ok(())),
            ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", Err(Unhealthy::Status(500))),
        ] {
            assert_eq!(once(answering(answer).await, &check(probe(), 1, 10)).await, expected, "{answer}");
        }
        let nonsense = answering("SSH-2.0-nonsense\r\n").await;
        assert!(matches!(once(nonsense, &check(probe(), 1, 10)).await, Err(Unhealthy::Broken(_))));
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let met = once(silent.local_addr().unwrap(), &check(probe(), 1, 10)).await;
        assert_eq!(met, Err(Unhealthy::TimedOut(Duration::from_millis(300))));
    }
}
