//! The server's socket for hooks: recognises the push of each hook that connects.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    handler::DynPushHandler,
    proc_receive::{self, HookStream},
    push::ExpectedPushes,
};

/// Maximum number of hooks that have not sent their nonce yet.
const MAX_UNIDENTIFIED_HOOKS: usize = 64;

/// Time that a hook has to send its nonce, which it does at once.
const NONCE_TIMEOUT: Duration = Duration::from_secs(20);

/// Time before the next attempt after a connection could not be accepted: most likely the server is out of file
/// descriptors, which become free as connections end.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct HookServer {
    handler: Arc<dyn DynPushHandler>,
    expected: Arc<ExpectedPushes>,
    /// User id of git and its hooks.
    git_user: u32,
    tracker: TaskTracker,
    unidentified: Arc<Semaphore>,
}

impl HookServer {
    pub(super) fn new(
        handler: Arc<dyn DynPushHandler>,
        expected: Arc<ExpectedPushes>,
        git_user: Option<u32>,
        tracker: TaskTracker,
    ) -> Self {
        let git_user = git_user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        Self { handler, expected, git_user, tracker, unidentified: Arc::new(Semaphore::new(MAX_UNIDENTIFIED_HOOKS)) }
    }

    /// Accepts hooks until `shutdown`.
    pub(super) async fn serve(self: Arc<Self>, listener: UnixListener, shutdown: CancellationToken) {
        let accept = async {
            loop {
                let Ok(permit) = Arc::clone(&self.unidentified).acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => drop(self.tracker.spawn(Arc::clone(&self).session(stream, permit))),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a hook");
                        tokio::time::sleep(RETRY_INTERVAL).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accept => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Serves one hook: its nonce, then the protocol.
    async fn session(self: Arc<Self>, stream: UnixStream, unidentified: OwnedSemaphorePermit) {
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == self.git_user) {
            tracing::warn!("a process of another user than git's connected to the hook socket");
            return;
        }
        let mut hook = HookStream::new(stream);
        let Ok(Ok(nonce)) = timeout(NONCE_TIMEOUT, hook.read_nonce()).await else { return };
        let claimed = self.expected.claim(&nonce);
        drop(unidentified);
        let Some((push, _running)) = claimed else {
            tracing::warn!("a hook sent a nonce that belongs to no push");
            return;
        };
        push.unpacked.store(true, Ordering::Release);
        if let Err(error) = proc_receive::serve_updates(&self.handler, &self.tracker, &push, &mut hook).await {
            // The pusher sees a failure, so the push must not go on.
            push.cancel.cancel();
            push.rejected.store(true, Ordering::Release);
            tracing::info!(app = %push.app.name, %error, "the session with a hook failed");
            if error.kind() == io::ErrorKind::InvalidData {
                hook.reject(&format!("The push is rejected: {error}")).await;
            }
        }
    }
}
