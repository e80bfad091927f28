//! The command `mcp`: speaks the Model Context Protocol (revisions up to 2026-07-28) on the standard streams. Its tools are
//! the operations, made from their descriptions, and a call is an operation of the caller's like any other.

mod call;
mod report;
mod server;
mod tools;
mod transport;

use rmcp::{ServiceExt as _, service::ServerInitializeError, transport::async_rw::AsyncRwTransport};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::session::Streams;
use crate::operations::{Caller, Failure, FailureKind, Operations, Result};
use server::Server;
use transport::Bounded;

/// Maximum length of a message of the client, in bytes. Longer ones are skipped.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Serves the client until it closes its side, breaks the protocol, or hangs up; then waits for the calls that still run.
///
/// # Errors
///
/// If the caller has a terminal, or if the client does not begin as the protocol wants it.
pub(super) async fn serve(
    operations: Operations,
    caller: Caller,
    streams: Streams,
    hangup: &CancellationToken,
) -> Result {
    if streams.terminal.is_some() {
        let failure = Failure::invalid("mcp speaks with a program, not with a terminal");
        return Err(failure.remedy("configure the client with the command `ssh` and the argument `mcp`, without -t"));
    }
    let messages = AsyncRwTransport::new_server(streams.stdin, streams.stdout);
    let messages = Bounded::new(messages.with_max_line_length(MAX_MESSAGE_BYTES));
    let running = TaskTracker::new();
    let server = Server::new(operations, caller, running.clone());
    let outcome = match server.serve_with_ct(messages, hangup.child_token()).await {
        Ok(service) => {
            service.waiting().await.map(drop).map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))
        }
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => Ok(()),
        // Not with what the client sent.
        Err(_) => {
            Err(Failure::invalid("the client did not begin with a request `initialize` (Model Context Protocol)"))
        }
    };
    // Their own tasks, which the service does not wait for.
    running.close();
    running.wait().await;
    outcome
}
