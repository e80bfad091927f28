//! The SSH front door: who comes in, what they ask for, and how their bytes flow.

use std::{borrow::Cow, future::Future, sync::Arc, time::Duration};

use russh::{
    MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex,
    keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey},
    mac, server,
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    commands::{Caller, Streams},
    config::Config,
    model::AppName,
    store::{App, KeyId, Store},
};

mod answer;
mod connection;
mod flow;
mod handler;
mod host_key;
mod limits;
mod output;
mod request;

pub use host_key::{HostKeyError, host_key};
pub use request::RequestError;

/// What runs behind the door.
pub trait Sessions: Send + Sync + 'static {
    /// Makes an app at its first push. The error is one line for a person.
    fn create_app(&self, name: AppName, owner: Option<KeyId>) -> impl Future<Output = Result<App, String>> + Send;

    /// Serves a push; returns the exit status.
    fn receive_pack(
        &self,
        caller: &Caller,
        app: App,
        git_protocol: Option<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> impl Future<Output = u8> + Send;

    /// Serves a fetch; returns the exit status.
    fn upload_pack(
        &self,
        caller: &Caller,
        app: App,
        git_protocol: Option<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> impl Future<Output = u8> + Send;

    /// Runs a command; returns the exit status.
    fn command(
        &self,
        caller: &Caller,
        words: Vec<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> impl Future<Output = u8> + Send;

    /// What a login without a command prints.
    fn greeting(&self, caller: &Caller) -> String;
}

/// What the door needs.
pub struct Door<S> {
    /// The configuration.
    pub config: Arc<Config>,
    /// Keys and apps.
    pub store: Store,
    /// What runs behind it.
    pub sessions: S,
}

/// Why the door does not open.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// There is no host key.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// The runtime is going down.
    #[error("cannot read the host key: {0}")]
    Stopping(#[source] tokio::task::JoinError),
}

/// Accepts connections until `shutdown`; their tasks are on `tracker`.
///
/// After `shutdown`, connections on which something runs go on until it has ended; `abort` ends them all.
pub async fn serve<S: Sessions>(
    listener: TcpListener,
    door: Door<S>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    abort: CancellationToken,
) -> Result<(), SshError> {
    let data_dir = door.config.data_dir.clone();
    let key = tokio::task::spawn_blocking(move || host_key(&data_dir)).await.map_err(SshError::Stopping)??;
    tracing::info!(fingerprint = crate::keys::fingerprint(key.public_key()), "ssh host key");
    let protocol = Arc::new(protocol(&door.config, key));
    let limits = limits::Limits::new(&door.config.ssh);
    let door = Arc::new(door);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a connection that was gone at once: neither ends the server.
                tracing::warn!(%error, "cannot accept an ssh connection");
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    () = tokio::time::sleep(Duration::from_millis(100)) => continue,
                }
            }
        };
        match limits.admit(peer.ip()) {
            Ok(admitted) => {
                let connection = connection::Connection {
                    door: Arc::clone(&door),
                    protocol: Arc::clone(&protocol),
                    tracker: tracker.clone(),
                    shutdown: shutdown.clone(),
                    abort: abort.clone(),
                    peer,
                };
                tracker.spawn(connection.run(socket, admitted));
            }
            Err(why) => tracing::warn!(%peer, why, "ssh connection refused"),
        }
    }
}

fn protocol(config: &Config, key: PrivateKey) -> server::Config {
    server::Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-paas")),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // Keys cannot be guessed, so a delay would only slow down people who have several.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        // The `none` request, with which every client begins, counts as one.
        max_auth_attempts: config.ssh.auth_attempts.saturating_add(1),
        keys: vec![key],
        window_size: flow::WINDOW,
        maximum_packet_size: 32 * 1024,
        event_buffer_size: 16,
        // Idleness is measured by the connection: answers to keepalives would count here.
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
            // The last two are for libssh2 before 1.11, which knows no other; whoever knows better takes those before.
            mac: Cow::Borrowed(&[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512]),
            compression: Cow::Borrowed(&[compression::NONE]),
            host_key_certificates: Cow::Borrowed(&[]),
        },
        ..server::Config::default()
    }
}
