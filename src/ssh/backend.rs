//! Dependencies of the SSH server: the configuration, the store, and the backend that serves requests.

use std::{future::Future, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{
    commands::{Caller, Streams},
    config::Config,
    model::AppName,
    store::{App, Store, UserId},
};

/// Serves the requests of SSH clients: pushes, fetches and commands.
pub trait Backend: Send + Sync + 'static {
    /// Creates an app at its first push. The error is one line for the user.
    fn create_app(&self, name: AppName, owner: Option<UserId>) -> impl Future<Output = Result<App, String>> + Send;

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

    /// The text that a login without a command prints.
    fn greeting(&self, caller: &Caller) -> String;
}

/// What the SSH server is made of.
pub struct SshServer<B> {
    /// Configuration of the server.
    pub config: Arc<Config>,
    /// Store of keys and apps.
    pub store: Store,
    /// Backend that serves requests.
    pub backend: B,
}
