//! Tasks. The row of a task is added before its container is created, and stays after the task has ended.

use std::net::IpAddr;

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{
    columns::{json, optional_text, text, to_json},
    database::Store,
    error::{Result, StoreError},
    ids::AppId,
    limits::Limits,
    placement::{self, Place, Placement},
    quotas,
    time::{Millis, now},
};
use crate::model::{ReleaseNumber, TaskCommand, TaskId, TaskKind, TaskName};

/// Number of tasks of an app that may run or wait at a time.
const MAX_UNENDED: u32 = 20;

/// State of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// The task is not started yet.
    Queued,
    /// The task was started.
    Running,
    /// The task has ended.
    Ended,
}

impl TaskState {
    /// Name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Ended => "ended",
        }
    }
}

impl std::str::FromStr for TaskState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Queued, Self::Running, Self::Ended]
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| text.to_owned())
    }
}

/// A task to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Random identity.
    pub id: TaskId,
    /// Owning app.
    pub app: AppId,
    /// What it is run for.
    pub kind: TaskKind,
    /// The scheduled job that it is a run of.
    pub job: Option<String>,
    /// Number of the release.
    pub release: ReleaseNumber,
    /// What it runs.
    pub command: TaskCommand,
    /// Whether a caller is connected to its standard streams; it ends with the connection.
    pub attached: bool,
    /// How long it may run, in seconds.
    pub limit_seconds: u64,
    /// Name of the caller.
    pub created_by: String,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Random identity, and name of the container.
    pub id: TaskId,
    /// Owning app.
    pub app: AppId,
    /// Name within the app.
    pub name: TaskName,
    /// The scheduled job that it is a run of.
    pub job: Option<String>,
    /// Number of the release.
    pub release: ReleaseNumber,
    /// What it runs.
    pub command: TaskCommand,
    /// Whether a caller is connected to its standard streams; it ends with the connection.
    pub attached: bool,
    /// State.
    pub state: TaskState,
    /// Exit status, if it has ended by itself.
    pub status: Option<i64>,
    /// Why it ended, if not by itself.
    pub message: Option<String>,
    /// How long it may run, in seconds.
    pub limit_seconds: u64,
    /// Name of the node on which it runs.
    pub node: String,
    /// Its address, once it has one.
    pub endpoint: Option<IpAddr>,
    /// Name of the caller.
    pub created_by: String,
    /// Time at which the row was added.
    pub created_at: Millis,
    /// Time of the start.
    pub started_at: Option<Millis>,
    /// Time of the end.
    pub ended_at: Option<Millis>,
}

impl Task {
    /// Why it has failed, if it has; a task that has not ended has not succeeded.
    pub fn failure(&self) -> Option<String> {
        match (&self.message, self.status) {
            (Some(message), _) => Some(message.clone()),
            (None, Some(0)) => None,
            (None, Some(status)) => Some(format!("exited with status {status}")),
            (None, None) => Some("has not ended".to_owned()),
        }
    }
}

const COLUMNS: &str = "id, app, number, kind, job, release, command, attached, state, status, message, limit_seconds, \
    node, endpoint, created_by, created_at, started_at, ended_at";

fn task(row: &Row<'_>) -> Result<Task> {
    Ok(Task {
        id: text(row, "id", "task id")?,
        app: AppId(row.get("app")?),
        name: TaskName { kind: text(row, "kind", "kind of a task")?, number: row.get("number")? },
        job: row.get("job")?,
        release: row.get("release")?,
        command: json(row, "command", "command of a task")?,
        attached: row.get("attached")?,
        state: text(row, "state", "state of a task")?,
        status: row.get("status")?,
        message: row.get("message")?,
        limit_seconds: row.get("limit_seconds")?,
        node: row.get("node")?,
        endpoint: optional_text(row, "endpoint", "address")?,
        created_by: row.get("created_by")?,
        created_at: row.get("created_at")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
    })
}

fn select(t: &Transaction<'_>, condition: &str, parameters: impl rusqlite::Params) -> Result<Vec<Task>> {
    let sql = format!("SELECT {COLUMNS} FROM tasks WHERE {condition}");
    t.prepare_cached(&sql)?.query_and_then(parameters, task)?.collect()
}

/// Adds a task that is no part of a release, unless the app or its owner has too many.
pub(super) fn add_counted(t: &Transaction<'_>, limits: &Limits, new: &NewTask, placement: Placement) -> Result<Task> {
    check_limit(t, new.app)?;
    quotas::within(t, limits, new.app, &quotas::TASKS, || add(t, new, placement))
}

/// Refuses another task of an app that has too many.
fn check_limit(t: &Transaction<'_>, app: AppId) -> Result<()> {
    let unended: u32 = t
        .prepare_cached("SELECT count(*) AS unended FROM tasks WHERE app = ?1 AND state != 'ended'")?
        .query_row([app.0], |row| row.get("unended"))?;
    if unended >= MAX_UNENDED {
        let text =
            format!("{MAX_UNENDED} tasks of this app run or wait already; wait for one, or stop one with run:stop");
        return Err(StoreError::Exhausted(text));
    }
    Ok(())
}

/// Adds a task; its number follows that of the app's last one.
pub(super) fn add(t: &Transaction<'_>, new: &NewTask, placement: Placement) -> Result<Task> {
    let mut query = t.prepare_cached("SELECT destroying FROM apps WHERE id = ?1")?;
    if query.query_row([new.app.0], |row| row.get("destroying")).optional()?.unwrap_or(true) {
        return Err(StoreError::Refused("the app is being destroyed; nothing is run for it any more".to_owned()));
    }
    let Place { node, endpoint } = placement.place(t, new.id.as_str())?;
    let sql = format!(
        "INSERT INTO tasks ({COLUMNS}) SELECT ?1, ?2, coalesce(max(number), 0) + 1, ?3, ?4, ?5, ?6, ?7, 'queued', NULL, NULL,
            ?8, ?9, ?10, ?11, ?12, NULL, NULL FROM tasks WHERE app = ?2 RETURNING {COLUMNS}"
    );
    t.query_row_and_then(
        &sql,
        (
            new.id.as_str(),
            new.app.0,
            new.kind.as_str(),
            &new.job,
            new.release,
            to_json("command of a task", &new.command)?,
            new.attached,
            new.limit_seconds,
            node,
            endpoint.map(|address| address.to_string()),
            &new.created_by,
            now(),
        ),
        task,
    )
}

/// The runs of a job that have not ended, oldest first.
pub(super) fn unended_of_job(t: &Transaction<'_>, app: AppId, job: &str) -> Result<Vec<Task>> {
    select(t, "app = ?1 AND job = ?2 AND state != 'ended' ORDER BY number", (app.0, job))
}

/// Runs of jobs by the schedule that have ended and are not reported yet, oldest first.
pub(super) fn unreported(t: &Transaction<'_>) -> Result<Vec<Task>> {
    select(t, "state = 'ended' AND due_at NOT NULL AND NOT reported ORDER BY ended_at", [])
}

impl Store {
    /// Adds a task, which is not started yet, and places it.
    pub async fn add_task(&self, new: NewTask, placement: Placement) -> Result<Task> {
        let limits = self.limits();
        self.transact(move |t, _| add_counted(t, &limits, &new, placement)).await
    }

    /// The task of this identity.
    pub async fn task(&self, id: TaskId) -> Result<Option<Task>> {
        self.read(move |t, _| Ok(select(t, "id = ?1", [id.as_str()])?.pop())).await
    }

    /// The task of this name.
    pub async fn find_task(&self, app: AppId, name: TaskName) -> Result<Option<Task>> {
        self.read(move |t, _| {
            let found = select(t, "app = ?1 AND number = ?2 AND kind = ?3", (app.0, name.number, name.kind.as_str()))?;
            Ok(found.into_iter().next())
        })
        .await
    }

    /// The app's last `max` tasks, newest first; of this job, if one is given.
    pub async fn tasks(&self, app: AppId, job: Option<String>, max: u32) -> Result<Vec<Task>> {
        self.read(move |t, _| {
            let condition = "app = ?1 AND (?2 IS NULL OR job = ?2) ORDER BY number DESC LIMIT ?3";
            select(t, condition, (app.0, job, max))
        })
        .await
    }

    /// The tasks of all apps that have not ended, oldest first.
    pub async fn unended_tasks(&self) -> Result<Vec<Task>> {
        self.read(|t, _| select(t, "state != 'ended' ORDER BY app, number", [])).await
    }

    /// The tasks of the release phase of a release, in their order.
    pub async fn phase_tasks(&self, app: AppId, release: ReleaseNumber) -> Result<Vec<Task>> {
        self.read(move |t, _| {
            select(t, "app = ?1 AND release = ?2 AND kind NOT IN ('run', 'cron') ORDER BY number", (app.0, release))
        })
        .await
    }

    /// Records that a task is about to be started. Returns false if it has ended.
    pub async fn start_task(&self, id: TaskId) -> Result<bool> {
        self.transact(move |t, _| {
            let sql = "UPDATE tasks SET state = 'running', started_at = ?2 WHERE id = ?1 AND state != 'ended'";
            Ok(t.prepare_cached(sql)?.execute((id.as_str(), now()))? > 0)
        })
        .await
    }

    /// Records the end of a task, whose container has ended, and frees its address. Its first end counts. Returns the task.
    pub async fn end_task(&self, id: TaskId, status: Option<i64>, message: Option<String>) -> Result<Option<Task>> {
        self.transact(move |t, _| {
            t.prepare_cached(
                "UPDATE tasks SET state = 'ended', status = ?2, message = ?3, ended_at = ?4
                 WHERE id = ?1 AND state != 'ended'",
            )?
            .execute((id.as_str(), status, message, now()))?;
            placement::free(t, id.as_str())?;
            Ok(select(t, "id = ?1", [id.as_str()])?.pop())
        })
        .await
    }

    /// Removes ended tasks of an app; returns them. The `keep` that ended last stay, and if there are to be any, the last run of
    /// each job, the runs that are not reported yet, and the release phase of the current release, too.
    pub async fn forget_tasks(&self, app: AppId, keep: u32) -> Result<Vec<Task>> {
        self.transact(move |t, _| {
            let condition = "app = ?1 AND state = 'ended' AND number NOT IN (
                    SELECT number FROM tasks WHERE app = ?1 AND state = 'ended'
                    ORDER BY ended_at DESC, number DESC LIMIT ?2)
                AND (?2 = 0 OR number NOT IN (
                    SELECT max(number) FROM tasks WHERE app = ?1 AND state = 'ended' AND job NOT NULL GROUP BY job))
                AND (?2 = 0 OR due_at IS NULL OR reported)
                AND (?2 = 0 OR kind IN ('run', 'cron') OR release IS NOT (SELECT current_release FROM apps WHERE id = ?1))
                ORDER BY number";
            let old = select(t, condition, (app.0, keep))?;
            for task in &old {
                t.prepare_cached("DELETE FROM tasks WHERE id = ?1")?.execute([task.id.as_str()])?;
            }
            Ok(old)
        })
        .await
    }

    /// Whether a release is the current one of its app.
    pub async fn is_current(&self, app: AppId, release: ReleaseNumber) -> Result<bool> {
        self.read(move |t, _| {
            let sql = "SELECT current_release IS ?2 AS current FROM apps WHERE id = ?1";
            let found = t.prepare_cached(sql)?.query_row((app.0, release), |row| row.get("current")).optional()?;
            Ok(found.unwrap_or(false))
        })
        .await
    }

    /// Whether a release is or was current.
    pub async fn is_released(&self, app: AppId, release: ReleaseNumber) -> Result<bool> {
        self.read(move |t, _| {
            let sql = "SELECT state = 'released' AS released FROM releases WHERE app = ?1 AND number = ?2";
            let found = t.prepare_cached(sql)?.query_row((app.0, release), |row| row.get("released")).optional()?;
            Ok(found.unwrap_or(false))
        })
        .await
    }
}
