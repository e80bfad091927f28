//! The schedule: what is due is run. What fails, or was missed, is an event of the app.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    data_dir::DiskFloor,
    model::{CronJob, ReleaseNumber, TaskCommand, TaskKind},
    operations::{AuditLog, failure::Result},
    periodic::{Activated, Periodic},
    store::{
        Actor, AddedRun, App, Door, Effect, JobTimes, NewEvent, NoRun, Outcome, ProcessSpec, Release, Store, StoreError,
    },
    tasks::{REPLACED, TaskError, TaskRequest, Tasks},
};

/// Longest time between two looks at the schedule: after a change of the clock, or a new release.
const PERIOD: Duration = Duration::from_secs(30);
/// A run that would be later than this is missed.
const MAX_DELAY: Duration = Duration::from_mins(1);
/// Name of the caller, in lists and events.
const CALLER: &str = "schedule";

/// Runs the scheduled jobs of all apps; cheap to clone.
#[derive(Clone)]
pub struct CronSchedule {
    store: Store,
    tasks: Tasks,
    audit: AuditLog,
    floor: DiskFloor,
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
    pub fn new(store: Store, tasks: Tasks, audit: AuditLog, floor: DiskFloor) -> Self {
        Self { store, tasks, audit, floor }
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
        // Without a row, another release has become current in this moment.
        let Some(state) = self.store.cron_job(app.id, job.id.clone()).await? else { return Ok((false, None)) };
        let now = Timestamp::now();
        let checked = Timestamp::from_millisecond(state.checked_at).unwrap_or(now);
        let Due { last, missed, next } = Due::of(job, checked, now);
        let Some((due, too_late)) = last else { return Ok((false, next)) };
        let pass = |why| self.store.pass_job(app.id, job.id.clone(), due.as_millisecond(), why);
        if state.suspended || job.maintenance || app.stopped {
            pass(NoRun::NotDue).await?;
            return Ok((false, next));
        }
        if too_late {
            pass(NoRun::Missed(missed)).await?;
            self.report_missed(app, job, missed);
            return Ok((false, next));
        }
        if let Err(below) = self.floor.check() {
            pass(NoRun::Skipped).await?;
            self.event(app, &job.id, format!("skipped: {below}"));
            return Ok((false, next));
        }
        let request = request(job, release.number, &release.processes, CALLER);
        let times = JobTimes { due: Some(due.as_millisecond()), missed, concurrency: job.concurrency };
        let ran = match self.tasks.spawn_job(app, request, times).await {
            Ok(AddedRun::Added(..)) => true,
            Ok(AddedRun::Overlaps(other)) => {
                let text = format!("skipped: {} still runs (concurrency_policy: forbid)", other.name);
                self.event(app, &job.id, text);
                false
            }
            Err(TaskError::Store(StoreError::Exhausted(why))) => {
                pass(NoRun::Skipped).await?;
                self.event(app, &job.id, format!("skipped: {why}"));
                false
            }
            Err(error) => return Err(error.into()),
        };
        self.report_missed(app, job, missed);
        Ok((ran, next))
    }

    fn report_missed(&self, app: &App, job: &CronJob, missed: u64) {
        if missed > 0 {
            let times = if missed == 1 { "once".to_owned() } else { format!("{missed} times") };
            let text = format!(
                "missed {times}: the server did not run, or could not run it in time; cron:run {} {} runs it now",
                app.name, job.id
            );
            self.event(app, &job.id, text);
        }
    }

    /// Reports runs that have ended; those that failed are events.
    async fn report_ended(&self) -> Result {
        for task in self.store.unreported_runs().await? {
            // A run that gave way to the next one has not failed.
            let failure = task.failure().filter(|reason| reason != REPLACED);
            if let (Some(job), Some(reason), Some(app)) = (&task.job, failure, self.store.app(task.app).await?) {
                self.event(&app, job, format!("{}: {reason}", task.name));
            }
            self.store.set_reported(task.id).await?;
        }
        Ok(())
    }

    /// Records a failure as an event of the app.
    fn event(&self, app: &App, job: &str, message: String) {
        let actor = Actor { user: None, name: CALLER.to_owned(), fingerprint: None, address: None, door: Door::Local };
        let event = NewEvent::begun(actor, "cron:run", Effect::Change).about(app.id, app.name.clone());
        let event = NewEvent { detail: job.to_owned(), ..event };
        tracing::warn!(app = %app.name, job, message, "a scheduled job was not run, or failed");
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
        // Otherwise a run of an earlier server could be overlapped or replaced without being known.
        self.tasks.adopted().await;
        self.report_ended().await.map_err(|error| error.to_string())?;
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
    use crate::model::Concurrency;

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
