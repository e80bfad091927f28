//! Operations that run in the background, with their lines, as long as they run.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::{Stream, stream};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    problem::{Problem, lost, status_of},
    response::{self, Part},
    routes::Route,
};
use crate::{
    model::Line,
    operations::{Answer, Failure, FailureKind, Time},
    store::{Millis, Store, now},
};

/// Maximum number of operations of one caller that run in the background.
const MAX_RUNNING: usize = 64;

/// Maximum size of the lines of an operation that are kept while it runs, in bytes.
const MAX_LINE_BYTES: usize = 1 << 20;

/// How an operation ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) status: StatusCode,
    /// Its result, or the problem document.
    pub(super) body: Value,
    pub(super) problem: Option<Problem>,
}

impl Ended {
    pub(super) fn new(route: &Route, result: Result<Answer, Failure>, request_id: &str) -> Self {
        let result = result.and_then(|answer| match answer {
            Answer::Value(value) => Ok(value),
            Answer::Items(_) => Err(lost()),
        });
        match result {
            Ok(body) => {
                let status = if route.endpoint.creates { StatusCode::CREATED } else { StatusCode::OK };
                Self { status, body, problem: None }
            }
            Err(failure) => {
                let problem = Problem::from(failure);
                let body = problem.document(Some(request_id));
                Self { status: problem.status, body, problem: Some(problem) }
            }
        }
    }
}

impl Ended {
    /// The response.
    pub(super) fn response(&self) -> Response {
        if let Some(problem) = &self.problem {
            return problem.clone().into_response();
        }
        let mut response = Response::new(Body::from(self.body.to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// An operation that runs in the background.
pub(super) struct Running {
    pub(super) id: String,
    caller_key: String,
    operation: &'static str,
    began_at: Millis,
    /// Asks it to end.
    pub(super) hangup: CancellationToken,
    progressed: Mutex<Progressed>,
    /// Counts changes of `progressed`.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Progressed {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Number of lines that were dropped to keep the others.
    dropped: usize,
    ended: Option<Ended>,
}

impl Running {
    pub(super) fn new(id: String, caller_key: String, operation: &'static str, hangup: CancellationToken) -> Self {
        Self {
            id,
            caller_key,
            operation,
            began_at: now(),
            hangup,
            progressed: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    fn progressed(&self) -> MutexGuard<'_, Progressed> {
        self.progressed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Progressed)) {
        change(&mut self.progressed());
        self.changes.send_modify(|count| *count += 1);
    }

    /// Adds a line.
    pub(super) fn add(&self, line: Line) {
        self.change(|progressed| {
            progressed.bytes += line.as_text().len();
            progressed.lines.push_back(line);
            while progressed.bytes > MAX_LINE_BYTES
                && let Some(oldest) = progressed.lines.pop_front()
            {
                progressed.bytes -= oldest.as_text().len();
                progressed.dropped += 1;
            }
        });
    }

    /// Notes its end.
    pub(super) fn end(&self, ended: Ended) {
        self.change(|progressed| progressed.ended = Some(ended));
    }

    /// Waits until it has ended.
    pub(super) async fn until_ended(&self) {
        self.until(|progressed| progressed.ended.is_some()).await;
    }

    /// Waits until it has ended, or has a line.
    pub(super) async fn until_begun(&self) {
        self.until(|progressed| progressed.ended.is_some() || !progressed.lines.is_empty()).await;
    }

    /// Waits until a condition holds.
    async fn until(&self, holds: impl Fn(&Progressed) -> bool) {
        let mut changes = self.changes.subscribe();
        while !holds(&self.progressed()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// How it ended, if it has.
    pub(super) fn ended(&self) -> Option<Ended> {
        self.progressed().ended.clone()
    }

    /// Its lines from the first that is kept, and its end.
    pub(super) fn parts(self: Arc<Self>) -> impl Stream<Item = Part> + Send + 'static {
        stream::unfold((self, Some(0)), |(running, next)| async move {
            let next = next?;
            running
                .until(|progressed| progressed.dropped + progressed.lines.len() > next || progressed.ended.is_some())
                .await;
            let (part, following) = {
                let progressed = running.progressed();
                let at = next.max(progressed.dropped);
                match (progressed.lines.get(at - progressed.dropped), &progressed.ended) {
                    (Some(line), _) => (Part::Line(line.clone()), Some(at + 1)),
                    (None, Some(Ended { problem: Some(problem), .. })) => {
                        (Part::Failure((*problem.failure).clone()), None)
                    }
                    (None, Some(ended)) => (Part::Result(ended.body.clone()), None),
                    (None, None) => (Part::Failure(lost()), None),
                }
            };
            Some((part, (running, following)))
        })
    }

    /// 202 with the address of the operation.
    pub(super) fn accepted(&self) -> Response {
        let mut response = response::json(&self.document(false));
        *response.status_mut() = StatusCode::ACCEPTED;
        if let Ok(value) = HeaderValue::from_str(&url(&self.id)) {
            response.headers_mut().insert(header::LOCATION, value);
        }
        response
    }

    pub(super) fn document(&self, lines: bool) -> OperationDocument {
        let progressed = self.progressed();
        let (state, result, error) = outcome(progressed.ended.as_ref().map(|ended| (ended.status, ended.body.clone())));
        OperationDocument {
            id: self.id.clone(),
            operation: self.operation.to_owned(),
            state,
            url: url(&self.id),
            began_at: Time(self.began_at),
            ended_at: None,
            lines: lines.then(|| progressed.lines.iter().cloned().collect()),
            result,
            error,
        }
    }
}

pub(super) fn url(id: &str) -> String {
    format!("/v1/operations/{id}")
}

/// State of an operation that takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OperationState {
    /// It runs.
    Running,
    /// It has succeeded.
    Succeeded,
    /// It has failed.
    Failed,
}

/// An operation that takes long.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct OperationDocument {
    /// Identity.
    pub(super) id: String,
    /// Name of the operation, as the audit log has it.
    pub(super) operation: String,
    /// State.
    pub(super) state: OperationState,
    /// Where this document is.
    pub(super) url: String,
    /// Time of the start.
    pub(super) began_at: Time,
    /// Time of the end.
    pub(super) ended_at: Option<Time>,
    /// Its lines, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lines: Option<Vec<Line>>,
    /// Its result, once it has succeeded.
    pub(super) result: Option<Value>,
    /// The problem document, once it has failed.
    pub(super) error: Option<Value>,
}

pub(super) fn outcome(ended: Option<(StatusCode, Value)>) -> (OperationState, Option<Value>, Option<Value>) {
    match ended {
        None => (OperationState::Running, None, None),
        Some((status, body)) if status.is_success() => (OperationState::Succeeded, Some(body), None),
        Some((_, body)) => (OperationState::Failed, None, Some(body)),
    }
}

/// The operations that run in the background.
pub(super) struct Background(Mutex<HashMap<String, Arc<Running>>>);

impl Background {
    /// None runs yet; those that a server before has not ended are told to be lost.
    pub(super) async fn new(store: &Store) -> Result<Self, Failure> {
        let text =
            "the server ended while this ran, and has completed or undone it; see the state of the app, and repeat it";
        let problem = Problem::from(Failure::new(FailureKind::Unavailable, text));
        store.end_left_requests(problem.status.as_u16(), problem.document(None).to_string()).await?;
        Ok(Self(Mutex::default()))
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Arc<Running>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets an operation that has ended.
    pub(super) fn remove(&self, id: &str) {
        self.running().remove(id);
    }

    /// An operation of a caller that runs.
    pub(super) fn find(&self, caller_key: &str, id: &str) -> Option<Arc<Running>> {
        self.running().get(id).filter(|running| running.caller_key == caller_key).cloned()
    }

    /// Adds an operation that begins.
    pub(super) fn add(&self, running: &Arc<Running>) -> Result<(), Problem> {
        let mut all = self.running();
        if all.values().filter(|other| other.caller_key == running.caller_key).count() >= MAX_RUNNING {
            let text = format!("{MAX_RUNNING} operations of this caller run already; wait until one has ended");
            let problem = Problem::new(status_of(FailureKind::TooMany), FailureKind::TooMany, &text);
            return Err(Problem { retry_after: Some(5), ..problem });
        }
        all.insert(running.id.clone(), Arc::clone(running));
        Ok(())
    }
}
