//! Operations that run in tasks of their own.

use std::sync::Arc;

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{api::Api, problem::lost, routes::Route, running::Ended};
use crate::{
    engine::Printed,
    model::Line,
    operations::{Answer, Attachment, Body, Call, Caller, Failure, Input, SentFile},
    progress::Progress,
    tasks::TaskStreams,
};

/// Number of pieces of an operation's output that may wait.
const MAX_PENDING_PIECES: usize = 8;

/// An operation that runs in a task of its own, so that it is not dropped in the middle when the client leaves.
pub(super) struct Started {
    /// Its lines of progress, which must be read or dropped.
    pub(super) lines: mpsc::Receiver<Line>,
    pub(super) result: JoinHandle<Result<Answer, Failure>>,
    /// What it writes to its standard output, if it is a file.
    pub(super) output: Option<mpsc::Receiver<Printed>>,
    /// Asks it to end.
    pub(super) hangup: CancellationToken,
}

/// Starts the operation of a route.
pub(super) fn start(api: &Api, route: &Arc<Route>, caller: Caller, mut input: Input) -> Started {
    let (progress, lines) = Progress::channel();
    let hangup = api.0.abort.child_token();
    let is_connected = route.endpoint.sends_file || route.endpoint.body == Body::File;
    let (attachment, output) = is_connected.then(|| connect(&mut input)).unzip();
    let (api, route, token) = (api.clone(), Arc::clone(route), hangup.clone());
    let tracker = api.0.tracker.clone();
    let result = tracker.spawn(async move {
        let call = Call { caller: &caller, progress: &progress, attachment: attachment.as_ref(), hangup: &token };
        route.runner.run(&api.0.operations, &call, input).await
    });
    Started { lines, result, output, hangup }
}

/// The standard streams of an operation that reads or writes a file.
fn connect(input: &mut Input) -> (Attachment, mpsc::Receiver<Printed>) {
    let (output, printed) = mpsc::channel(MAX_PENDING_PIECES);
    let stdin = input.file.take().map_or_else(
        || -> Box<dyn tokio::io::AsyncRead + Send + Unpin> { Box::new(tokio::io::empty()) },
        SentFile::into_reader,
    );
    (Attachment::new(move || TaskStreams { stdin, output, terminal: None, on_begin: None }), printed)
}

/// Waits for the end of an operation that makes no long work. If the client leaves, the operation is told so.
pub(super) async fn finish(route: &Route, started: Started, request_id: &str) -> Ended {
    let Started { lines, result, output, hangup } = started;
    drop(lines);
    let _hangup = hangup.drop_guard();
    let drain = async {
        let mut output = output;
        while let Some(output) = &mut output
            && output.recv().await.is_some()
        {}
    };
    let (result, ()) = tokio::join!(result, drain);
    Ended::new(route, result.unwrap_or_else(|_| Err(lost())), request_id)
}
