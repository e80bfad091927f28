//! What is known of the scheduled jobs of apps, beside what their releases declare.

use rusqlite::{OptionalExtension as _, Transaction};

use super::{
    database::Store,
    error::{Result, StoreError},
    ids::AppId,
    placement::Placement,
    tasks::{self, NewTask, Task},
    time::{Millis, now},
};
use crate::model::{Concurrency, CronJob, TaskId};

/// What is known of a scheduled job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobState {
    /// Whether it is suspended.
    pub suspended: bool,
    /// Time up to which its due times are dealt with.
    pub checked_at: Millis,
    /// Number of due times at which the server did not run.
    pub missed: u64,
    /// Number of due times at which an earlier run had not ended.
    pub skipped: u64,
}

/// Why a due time passes without a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRun {
    /// It could not be run in time, that many times.
    Missed(u64),
    /// An earlier run had not ended.
    Skipped,
    /// The job is suspended, or the app stopped: nothing was to be run.
    NotDue,
}

/// When and beside which others a job is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobTimes {
    /// The due time that it is run for; without one, somebody runs it by hand.
    pub due: Option<Millis>,
    /// Number of due times before that one which were missed.
    pub missed: u64,
    /// What happens while earlier runs have not ended.
    pub concurrency: Concurrency,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddedRun {
    /// It was added, beside these.
    Added(Task, Vec<Task>),
    /// It must not overlap with this one.
    Overlaps(Task),
}

fn state(t: &Transaction<'_>, app: AppId, job: &str) -> Result<Option<JobState>> {
    let mut query =
        t.prepare_cached("SELECT suspended, checked_at, missed, skipped FROM cron_jobs WHERE app = ?1 AND id = ?2")?;
    let found = query.query_row((app.0, job), |row| {
        Ok(JobState {
            suspended: row.get("suspended")?,
            checked_at: row.get("checked_at")?,
            missed: row.get("missed")?,
            skipped: row.get("skipped")?,
        })
    });
    Ok(found.optional()?)
}

fn check(t: &Transaction<'_>, app: AppId, job: &str, checked_at: Millis, missed: u64, skipped: u64) -> Result<()> {
    t.prepare_cached(
        "UPDATE cron_jobs SET checked_at = ?3, missed = missed + ?4, skipped = skipped + ?5 WHERE app = ?1 AND id = ?2",
    )?
    .execute((app.0, job, checked_at, missed, skipped))?;
    Ok(())
}

/// Part of the commit point: from now on these jobs of the app are known, and no others.
pub(super) fn declare(t: &Transaction<'_>, app: AppId, jobs: &[CronJob]) -> Result<()> {
    let mut known = t.prepare_cached("SELECT id FROM cron_jobs WHERE app = ?1")?;
    let known: Vec<String> = known.query_map([app.0], |row| row.get("id"))?.collect::<rusqlite::Result<_>>()?;
    for gone in known.iter().filter(|id| jobs.iter().all(|job| job.id != **id)) {
        t.prepare_cached("DELETE FROM cron_jobs WHERE app = ?1 AND id = ?2")?.execute((app.0, gone))?;
    }
    for job in jobs {
        t.prepare_cached("INSERT OR IGNORE INTO cron_jobs (app, id, checked_at) VALUES (?1, ?2, ?3)")?.execute((
            app.0,
            &job.id,
            now(),
        ))?;
    }
    Ok(())
}

impl Store {
    /// What is known of a job of an app's current release.
    pub async fn cron_job(&self, app: AppId, job: String) -> Result<Option<JobState>> {
        self.read(move |t, _| state(t, app, &job)).await
    }

    /// Apps whose current release declares scheduled jobs.
    pub async fn apps_with_jobs(&self) -> Result<Vec<AppId>> {
        self.read(|t, _| {
            let mut query = t.prepare_cached("SELECT DISTINCT app FROM cron_jobs ORDER BY app")?;
            let ids = query.query_and_then([], |row| Ok(AppId(row.get("app")?)))?;
            ids.collect()
        })
        .await
    }

    /// Adds the run of a job, unless it must not overlap with another. Its due time, and those that were missed before, are
    /// dealt with from then on, whoever dies.
    pub async fn add_job_run(&self, new: NewTask, times: JobTimes, placement: Placement) -> Result<AddedRun> {
        let limits = self.limits();
        self.transact(move |t, _| {
            let Some(job) = new.job.clone() else {
                return Err(StoreError::Corrupt { what: "run of a job", why: "it names no job".to_owned() });
            };
            let running = tasks::unended_of_job(t, new.app, &job)?;
            let overlaps = running.first().filter(|_| times.concurrency == Concurrency::Forbid).cloned();
            if let Some(due) = times.due {
                check(t, new.app, &job, due, times.missed, u64::from(overlaps.is_some()))?;
            }
            if let Some(other) = overlaps {
                return Ok(AddedRun::Overlaps(other));
            }
            let added = tasks::add_counted(t, &limits, &new, placement)?;
            t.prepare_cached("UPDATE tasks SET due_at = ?2 WHERE id = ?1")?.execute((added.id.as_str(), times.due))?;
            Ok(AddedRun::Added(added, running))
        })
        .await
    }

    /// Records that the due times of a job up to `until` passed without a run.
    pub async fn pass_job(&self, app: AppId, job: String, until: Millis, why: NoRun) -> Result<()> {
        self.transact(move |t, _| {
            let (missed, skipped) = match why {
                NoRun::Missed(times) => (times, 0),
                NoRun::Skipped => (0, 1),
                NoRun::NotDue => (0, 0),
            };
            check(t, app, &job, until, missed, skipped)
        })
        .await
    }

    /// Runs of jobs by the schedule that have ended and are not reported yet.
    pub async fn unreported_runs(&self) -> Result<Vec<Task>> {
        self.read(|t, _| tasks::unreported(t)).await
    }

    /// Records that the end of a run is reported.
    pub async fn set_reported(&self, id: TaskId) -> Result<()> {
        self.transact(move |t, _| {
            t.prepare_cached("UPDATE tasks SET reported = 1 WHERE id = ?1")?.execute([id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Suspends or resumes a job. What was due while it was suspended is not run.
    pub async fn suspend_job(&self, app: AppId, job: String, suspended: bool) -> Result<()> {
        self.transact(move |t, _| {
            t.execute(
                "UPDATE cron_jobs SET suspended = ?3, checked_at = ?4 WHERE app = ?1 AND id = ?2",
                (app.0, job, suspended, now()),
            )?;
            Ok(())
        })
        .await
    }
}
