//! Health checks. Attempts are made at short intervals at first, so that an instance that starts quickly is healthy soon.

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::model::{HealthCheck, Probe};

/// First interval between two attempts; it grows to that of the health check.
const FIRST_INTERVAL: Duration = Duration::from_millis(20);

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unhealthy {
    /// Nothing listens at the address.
    Refused,
    /// The instance listens, but does not accept connections.
    NotAccepted,
    /// No response within this time.
    TimedOut(Duration),
    /// The response had this status.
    Status(u16),
    /// The connection failed, or the response was not valid HTTP.
    Broken(String),
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("nothing accepts connections"),
            Self::NotAccepted => f.write_str("it listens but accepts no connections, as if it were still starting"),
            Self::TimedOut(limit) => write!(f, "no response within {} s", limit.as_secs_f32()),
            Self::Status(status) => write!(f, "it responded with status {status}"),
            Self::Broken(why) => write!(f, "the connection failed, or the response was not valid HTTP: {why}"),
        }
    }
}

/// Returns when the instance is healthy, or with the reason of the last attempt's failure.
pub async fn until_healthy(address: SocketAddr, check: &HealthCheck) -> Result<(), Unhealthy> {
    if let Probe::Uptime(uptime) = check.probe {
        sleep(uptime).await;
        return Ok(());
    }
    let longest = check.wait.max(Duration::from_millis(10));
    let deadline = Instant::now() + longest * check.attempts.max(1);
    let mut wait = FIRST_INTERVAL.min(longest);
    loop {
        let begun = Instant::now();
        let Err(unhealthy) = attempt(address, check).await else { return Ok(()) };
        let next = begun + wait;
        if next.max(Instant::now()) >= deadline {
            return Err(unhealthy);
        }
        tokio::time::sleep_until(next).await;
        wait = (wait + wait / 2).min(longest);
    }
}

/// Makes one attempt.
pub(super) async fn attempt(address: SocketAddr, check: &HealthCheck) -> Result<(), Unhealthy> {
    let probe = async {
        let stream = TcpStream::connect(address).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::HostUnreachable => Unhealthy::Refused,
            _ => Unhealthy::Broken(e.to_string()),
        })?;
        match &check.probe {
            Probe::Tcp | Probe::Uptime(_) => Ok(()),
            Probe::Http(path) => get(stream, address, path).await,
        }
    };
    timeout(check.timeout, probe).await.unwrap_or(Err(Unhealthy::TimedOut(check.timeout)))
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
    let response = sender.send_request(request);
    tokio::pin!(connection, response);
    let response = tokio::select! {
        response = &mut response => response,
        // The connection may end at the moment at which it delivers the response.
        _ = &mut connection => response.await,
    };
    match response.map_err(|e| broken(&e))?.status().as_u16() {
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
    async fn a_listener_is_found_soon_after_it_opens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(until_healthy(address, &check(Probe::Tcp, 1, 60)).await, Err(Unhealthy::Refused));
        let begun = Instant::now();
        let opens = async {
            sleep(Duration::from_millis(100)).await;
            let listener = TcpListener::bind(address).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            drop(listener);
        };
        let check = check(Probe::Tcp, 60, 1000);
        tokio::select! {
            () = opens => panic!("the listener was not found"),
            healthy = until_healthy(address, &check) => healthy.unwrap(),
        }
        assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn the_response_status_decides() {
        let probe = || Probe::Http("/up".into());
        for (answer, expected) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", Ok(())),
            ("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", Ok(())),
            ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", Err(Unhealthy::Status(500))),
        ] {
            assert_eq!(attempt(answering(answer).await, &check(probe(), 1, 10)).await, expected, "{answer}");
        }
        let nonsense = answering("SSH-2.0-nonsense\r\n").await;
        assert!(matches!(attempt(nonsense, &check(probe(), 1, 10)).await, Err(Unhealthy::Broken(_))));
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let outcome = attempt(silent.local_addr().unwrap(), &check(probe(), 1, 10)).await;
        assert_eq!(outcome, Err(Unhealthy::TimedOut(Duration::from_millis(300))));
    }
}
