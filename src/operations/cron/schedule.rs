//! The schedule: what is due is run. What fails, or was missed, is an event of the app.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Concurrency, CronJob, ReleaseNumber, TaskCommand, TaskKind},
    operations::{AuditLog, failure::Result},
    periodic::{Activated, Periodic},
    store::{
        Actor, App, Door, Effect, JobState, NewEvent, NoRun, Outcome, ProcessSpec, Release, Store, StoreError, Task,
    },
    tasks::{TaskError, TaskRequest, Tasks},
};

/// Longest time between two looks at the schedule: after a change of the clock, or a new release.
const PERIOD: Duration = Duration::from_secs(10);
/// A run that would be later than this is missed.
const MAX_DELAY: Duration = Duration::from_mins(1);
/// Message of a run that gave way to the next one.
const REPLACED: &str = "replaced by the next run";
/// Name of the caller, in lists and events.
const CALLER: &str = "schedule";

/// Runs the scheduled jobs of all apps; cheap to clone.
#[derive(Clone)]
pub struct CronSchedule {
    store: Store,
    tasks: Tasks,
    audit: AuditLog,
}

/// What is to be run for a job.
pub(super) fn request(job: &CronJob, release: ReleaseNumber, processes: &[ProcessSpec], by: &str) -> TaskRequest {
    let is_process = |name: &_| processes.iter().any(|spec| spec.process.process_type == *name);
    TaskRequest {
        kind: TaskKind::Cron,
        job: Some(job.id.clone()),
        release,
        command: TaskCommand::of_words(vec![job.command.clone()], is_process),
        limit: job.timeout_seconds.map(Duration::from_secs),
        by: by.to_owned(),
    }
}

/// Why a run has failed, if it has.
pub(super) fn failure(task: &Task) -> Option<String> {
    match (&task.message, task.status) {
        (Some(message), _) => Some(message.clone()),
        (None, Some(0) | None) => None,
        (None, Some(status)) => Some(format!("exited with status {status}")),
    }
}

/// What is due of a job at a time, given the time up to which it is dealt with.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// The last due time, and whether it is too late for a run.
    last: Option<(Timestamp, bool)>,
    /// Number of due times before it, or with it if that is too late.
    missed: u64,
    /// The next due time.
    next: Option<Timestamp>,
}

impl Due {
    fn of(job: &CronJob, checked_at: Timestamp, now: Timestamp) -> Self {
        /// Due times that are counted; a server that was off for longer has missed at least so many.
        const MAX_COUNTED: u64 = 10_000;
        let (mut last, mut count, mut at) = (None, 0, checked_at.min(now));
        let next = loop {
            match job.next_after(at) {
                Some(due) if due <= now && count < MAX_COUNTED => {
                    (last, count, at) = (Some(due), count + 1, due);
                }
                next => break next,
            }
        };
        let too_late = |due: Timestamp| now.duration_since(due).unsigned_abs() > MAX_DELAY;
        let last = last.map(|due| (due, too_late(due)));
        Self { last, missed: count - u64::from(last.is_some_and(|(_, late)| !late)), next }
    }
}

impl CronSchedule {
    /// A schedule of the jobs in this store.
    pub fn new(store: Store, tasks: Tasks, audit: AuditLog) -> Self {
        Self { store, tasks, audit }
    }

    /// Deals with what is due; returns the time of the next job.
    async fn run_due(&self) -> Result<(usize, Option<Timestamp>)> {
        let (mut runs, mut next) = (0, None::<Timestamp>);
        for id in self.store.apps_with_jobs().await? {
            let Some(app) = self.store.app(id).await? else { continue };
            let Some(current) = app.current.filter(|_| !app.destroying) else { continue };
            let Some(release) = self.store.release(app.id, current.release).await? else { continue };
            for job in &release.manifest.cron {
                match self.check(&app, &release, job).await {
                    Ok((ran, due)) => {
                        runs += usize::from(ran);
                        next = next.into_iter().chain(due).min();
                    }
                    // The other jobs are not kept from being run.
                    Err(error) => {
                        tracing::error!(%error, app = %app.name, job = job.id, "cannot run a scheduled job; retrying");
                    }
                }
            }
        }
        Ok((runs, next))
    }

    /// Deals with what is due of a job. Returns whether it was run, and when it is due next.
    async fn check(&self, app: &App, release: &Release, job: &CronJob) -> Result<(bool, Option<Timestamp>)> {
        let JobState { suspended, checked_at, .. } = self.store.cron_job(app.id, job.id.clone()).await?;
        let now = Timestamp::now();
        let checked = Timestamp::from_millisecond(checked_at).unwrap_or(now);
        let Due { last, missed, next } = Due::of(job, checked, now);
        let Some((due, too_late)) = last else { return Ok((false, next)) };
        let pass = |why| self.store.pass_job(app.id, job.id.clone(), due.as_millisecond(), why);
        if suspended || job.maintenance || app.stopped {
            pass(NoRun::NotDue).await?;
            return Ok((false, next));
        }
        if missed > 0 {
            pass(NoRun::Missed(missed)).await?;
            let times = if missed == 1 { "once".to_owned() } else { format!("{missed} times") };
            self.event(
                app,
                &job.id,
                format!("missed {times}: the server did not run; cron:run {} {} runs it now", app.name, job.id),
            );
        }
        if too_late {
            return Ok((false, next));
        }
        let running = self.store.unended_tasks().await?;
        let running: Vec<_> =
            running.into_iter().filter(|task| task.app == app.id && task.job.as_ref() == Some(&job.id)).collect();
        match job.concurrency {
            Concurrency::Forbid if !running.is_empty() => {
                pass(NoRun::Skipped).await?;
                let text = format!("skipped: {} still runs (concurrency_policy: forbid)", running[0].name);
                self.event(app, &job.id, text);
                return Ok((false, next));
            }
            Concurrency::Forbid | Concurrency::Allow | Concurrency::Replace => {}
        }
        let replaces = if job.concurrency == Concurrency::Replace { running } else { Vec::new() };
        let request = request(job, release.number, &release.processes, CALLER);
        let replaces = replaces.into_iter().map(|task| (task, REPLACED)).collect();
        match self.tasks.spawn_due(app, request, due.as_millisecond(), replaces).await {
            Ok(_) => Ok((true, next)),
            Err(TaskError::Store(StoreError::Exhausted(why))) => {
                pass(NoRun::Skipped).await?;
                self.event(app, &job.id, format!("skipped: {why}"));
                Ok((false, next))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Records runs that fail as events, until `shutdown`.
    pub async fn record_failures(self, shutdown: CancellationToken) {
        let mut ends = self.tasks.ends();
        loop {
            let task = match shutdown.run_until_cancelled(ends.recv()).await {
                Some(Ok(task)) => task,
                Some(Err(RecvError::Lagged(missed))) => {
                    tracing::error!(missed, "too many tasks ended at a time: some failures are no events");
                    continue;
                }
                Some(Err(RecvError::Closed)) | None => return,
            };
            let (Some(job), Some(reason)) = (&task.job, failure(&task)) else { continue };
            // Who runs a job by hand has the failure in the event of that, and a run that gave way has not failed.
            if task.created_by != CALLER || task.message.as_deref() == Some(REPLACED) {
                continue;
            }
            match self.store.app(task.app).await {
                Ok(Some(app)) => self.event(&app, job, format!("{}: {reason}", task.name)),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, job, "the failure of a scheduled job is no event"),
            }
        }
    }

    /// Records a failure as an event of the app.
    fn event(&self, app: &App, job: &str, message: String) {
        let actor = Actor { user: None, name: CALLER.to_owned(), fingerprint: None, address: None, door: Door::Local };
        let event = NewEvent::begun(actor, "cron:run", Effect::Change).about(app.id, app.name.clone());
        let event = NewEvent { detail: job.to_owned(), ..event };
        tracing::warn!(app = %app.name, job, message, "a scheduled job failed");
        self.audit.record(event.ended(Outcome::Failed, Some(message)));
    }
}

impl Periodic for CronSchedule {
    fn name(&self) -> &'static str {
        "cron"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn at_start(&self) -> bool {
        true
    }

    async fn activate(&self) -> Result<Activated, String> {
        let (runs, next) = self.run_due().await.map_err(|error| error.to_string())?;
        let until = |time: Timestamp| Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default();
        let summary = match runs {
            0 => String::new(),
            1 => "1 job started".to_owned(),
            runs => format!("{runs} jobs started"),
        };
        Ok(Activated { summary, next: next.map(until) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_due_once_and_too_late_after_a_minute() {
        let job = CronJob {
            id: "x".into(),
            command: "true".into(),
            schedule: "*/10 * * * *".into(),
            time_zone: "UTC".into(),
            concurrency: Concurrency::Allow,
            timeout_seconds: None,
            maintenance: false,
        };
        let time = |text: &str| format!("2026-03-01T{text}Z").parse::<Timestamp>().unwrap();
        let due = |checked, now| {
            let Due { last, missed, next } = Due::of(&job, time(checked), time(now));
            (last, missed, next.unwrap())
        };
        assert_eq!(due("10:00:00", "10:09:59"), (None, 0, time("10:10:00")));
        assert_eq!(due("10:00:00", "10:10:00"), (Some((time("10:10:00"), false)), 0, time("10:20:00")));
        assert_eq!(due("10:10:00", "10:10:30"), (None, 0, time("10:20:00")));
        assert_eq!(due("10:00:00", "10:11:01"), (Some((time("10:10:00"), true)), 1, time("10:20:00")));
        assert_eq!(due("10:00:00", "10:40:05"), (Some((time("10:40:00"), false)), 3, time("10:50:00")));
        // The clock was set back: what is dealt with is not run again.
        assert_eq!(due("10:30:00", "10:05:00"), (None, 0, time("10:10:00")));
    }
}
