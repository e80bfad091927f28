//! Dependencies of the SSH server: the configuration, the store, and the backend that serves requests.

use std::{future::Future, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{commands::Streams, config::Config, model::AppName, operations::Caller, store::Store};

/// Serves the requests of SSH clients: pushes, fetches and commands.
pub trait Backend: Send + Sync + 'static {
    /// Serves a push to the app of this name, if the caller may push; returns the exit status.
    fn receive_pack(
        &self,
        caller: &Caller,
        app: AppName,
        git_protocol: Option<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> impl Future<Output = u8> + Send;

    /// Serves a fetch, if the caller may; returns the exit status.
    fn upload_pack(
        &self,
        caller: &Caller,
        app: AppName,
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

    /// The text that a login without a command prints.
    fn greeting(&self, caller: &Caller) -> String;
}

/// What the SSH server is made of.
pub struct SshServer<B> {
    /// Configuration of the server.
    pub config: Arc<Config>,
    /// Store of the keys.
    pub store: Store,
    /// Backend that serves requests.
    pub backend: B,
}
