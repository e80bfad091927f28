//! What is known of the scheduled jobs of apps, beside what their releases declare.

use rusqlite::{OptionalExtension as _, Transaction};

use super::{
    database::Store,
    error::Result,
    ids::AppId,
    placement::Placement,
    tasks::{self, NewTask, Task},
    time::{Millis, now},
};

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
    /// The server did not run at that many due times.
    Missed(u64),
    /// An earlier run had not ended.
    Skipped,
    /// The job is suspended, or the app stopped: nothing was to be run.
    NotDue,
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

impl Store {
    /// What is known of a job. One that was not known before is from now on.
    pub async fn cron_job(&self, app: AppId, job: String) -> Result<JobState> {
        let asked = job.clone();
        if let Some(known) = self.read(move |t, _| state(t, app, &asked)).await? {
            return Ok(known);
        }
        self.transact(move |t, _| {
            let checked_at = now();
            t.execute(
                "INSERT OR IGNORE INTO cron_jobs (app, id, checked_at) SELECT id, ?2, ?3 FROM apps WHERE id = ?1",
                (app.0, &job, checked_at),
            )?;
            let known = state(t, app, &job)?;
            Ok(known.unwrap_or(JobState { suspended: false, checked_at, missed: 0, skipped: 0 }))
        })
        .await
    }

    /// Apps whose current release declares scheduled jobs.
    pub async fn apps_with_jobs(&self) -> Result<Vec<AppId>> {
        self.read(|t, _| {
            let mut query = t.prepare_cached(
                "SELECT a.id FROM apps a JOIN releases r ON r.app = a.id AND r.number = a.current_release
                 WHERE NOT a.destroying AND json_array_length(r.manifest, '$.value.cron') > 0 ORDER BY a.id",
            )?;
            let ids = query.query_and_then([], |row| Ok(AppId(row.get("id")?)))?;
            ids.collect()
        })
        .await
    }

    /// Adds the run of a job that was due at `due`; from then on that time is dealt with, whoever dies.
    pub async fn add_job_run(&self, new: NewTask, due: Millis, placement: Placement) -> Result<Task> {
        self.transact(move |t, _| {
            if let Some(job) = &new.job {
                check(t, new.app, job, due, 0, 0)?;
            }
            tasks::check_limit(t, new.app)?;
            tasks::add(t, &new, placement)
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

    /// Suspends or resumes a job, which is known. What was due while it was suspended is not run.
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
