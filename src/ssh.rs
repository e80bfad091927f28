//! The SSH server: authenticates clients, reads their requests, and carries their input and output.

use std::{borrow::Cow, sync::Arc, time::Duration};

use russh::{
    MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex,
    keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey},
    mac, server,
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{config::Config, model::ClientNetwork};
use limits::LogKind;

mod answer;
mod backend;
mod channel;
mod connection;
mod connection_state;
mod flow;
mod handler;
mod host_key;
mod limits;
mod output;
mod request;
mod shares;
mod unauthenticated;

pub use backend::{Backend, SshServer};
pub use host_key::{HostKeyError, host_key};
pub use request::RequestError;

/// Why the SSH server does not run.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The host key is not available.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// The runtime is shutting down.
    #[error("cannot read the host key: {0}")]
    Stopping(#[source] tokio::task::JoinError),
}

/// Accepts connections until `shutdown`; their tasks are on `tracker`.
///
/// After `shutdown`, a connection stays open until its running commands have ended; `abort` closes all connections.
pub async fn serve<B: Backend>(
    listener: TcpListener,
    server: SshServer<B>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    abort: CancellationToken,
) -> Result<(), SshError> {
    let data_dir = server.config.data_dir.clone();
    let key = tokio::task::spawn_blocking(move || host_key(&data_dir)).await.map_err(SshError::Stopping)??;
    tracing::info!(fingerprint = crate::keys::fingerprint(key.public_key()), "ssh host key");
    let protocol = Arc::new(protocol(&server.config, key));
    let limits = limits::Limits::new(&server.config.ssh);
    let server = Arc::new(server);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or a connection that ended at once: neither ends the server.
                if let Some(suppressed) = limits.log.admit(LogKind::Accept) {
                    tracing::warn!(%error, suppressed, "cannot accept an ssh connection");
                }
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    () = tokio::time::sleep(Duration::from_millis(100)) => continue,
                }
            }
        };
        let (slot, evicted_from) = limits.unauthenticated.admit(ClientNetwork::of(peer.ip()));
        if let Some(network) = evicted_from
            && let Some(suppressed) = limits.log.admit(LogKind::Evicted)
        {
            tracing::warn!(%network, suppressed, "too many unauthenticated ssh connections: the oldest of this network is closed");
        }
        let connection = connection::Connection {
            server: Arc::clone(&server),
            protocol: Arc::clone(&protocol),
            limits: Arc::clone(&limits),
            tracker: tracker.clone(),
            shutdown: shutdown.clone(),
            abort: abort.clone(),
            peer,
        };
        tracker.spawn(connection.run(socket, slot));
    }
}

fn protocol(config: &Config, key: PrivateKey) -> server::Config {
    server::Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-paas")),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // Keys cannot be guessed, so a delay would only slow down users who have several.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        // The `none` request, with which every client begins, counts as an attempt.
        max_auth_attempts: config.ssh.auth_attempts.saturating_add(1),
        keys: vec![key],
        window_size: flow::WINDOW,
        maximum_packet_size: 32 * 1024,
        event_buffer_size: 16,
        // The connection measures idleness itself: here, replies to keepalives would count as traffic.
        inactivity_timeout: Some(Duration::from_secs(config.ssh.idle_seconds.max(60))),
        keepalive_interval: Some(Duration::from_secs(15)),
        keepalive_max: 3,
        nodelay: true,
        preferred: Preferred {
            kex: Cow::Borrowed(&[
                kex::MLKEM768X25519_SHA256,
                kex::CURVE25519,
                kex::CURVE25519_PRE_RFC_8731,
                kex::EXTENSION_SUPPORT_AS_SERVER,
                kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
            ]),
            key: Cow::Borrowed(&[
                Algorithm::Ed25519,
                Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
                Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
                Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
                Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
                Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
            ]),
            cipher: Cow::Borrowed(&[
                cipher::CHACHA20_POLY1305,
                cipher::AES_256_GCM,
                cipher::AES_128_GCM,
                cipher::AES_256_CTR,
                cipher::AES_128_CTR,
            ]),
            // The last two are for libssh2 before 1.11, which supports no others; better clients choose the first two.
            mac: Cow::Borrowed(&[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512]),
            compression: Cow::Borrowed(&[compression::NONE]),
            host_key_certificates: Cow::Borrowed(&[]),
        },
        ..server::Config::default()
    }
}
