//! Operations of scheduled jobs, which `app.json` declares.

mod schedule;

use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use schedule::CronSchedule;

use super::{
    context::Context,
    failure::{Failure, FailureKind, Result},
    operation::{Follow, Operation},
    selection::AppSelection,
    tasks::{TaskInfo, TaskLine},
    time::Time,
};
use crate::{
    model::{AppName, Concurrency, CronJob, Right},
    store::{AddedRun, App, Effect, JobTimes},
};

/// Lists the scheduled jobs of an app.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListJobs {
    /// App.
    pub app: AppName,
}

/// Shows the scheduled jobs of an app, or of all apps: when they run, ran, and what they missed.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ReportJobs {
    /// App; without it, all.
    pub app: Option<AppName>,
}

/// A scheduled job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct JobInfo {
    /// App.
    pub app: AppName,
    /// Name, or an identity that follows from schedule and command.
    pub job: String,
    /// When it is due.
    pub schedule: String,
    /// Time zone of the schedule.
    pub time_zone: String,
    /// What it runs.
    pub command: String,
    /// What happens when it is due while its last run has not ended.
    pub concurrency: Concurrency,
    /// How long it may run, in seconds, if less than the server allows.
    pub timeout_seconds: Option<u64>,
    /// Whether it is suspended, by a command or by `app.json`.
    pub suspended: bool,
    /// Number of due times at which the server did not run.
    pub missed: u64,
    /// Number of due times at which an earlier run had not ended.
    pub skipped: u64,
    /// When it is due next; not if it is suspended, or the app stopped.
    pub next: Option<Time>,
    /// Its last run.
    pub last: Option<TaskInfo>,
}

impl Operation for ListJobs {
    const NAME: &'static str = "cron:list";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Vec<JobInfo>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Vec<JobInfo>> {
        infos(context, &app).await
    }
}

impl Operation for ReportJobs {
    const NAME: &'static str = "cron:report";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = Vec<App>;
    type Output = Vec<JobInfo>;

    fn target(&self) -> AppSelection {
        AppSelection::one_or_all(self.app.as_ref())
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<Vec<JobInfo>> {
        let mut all = Vec::new();
        for app in apps {
            all.extend(infos(context, &app).await?);
        }
        Ok(all)
    }
}

async fn infos(context: &Context<'_>, app: &App) -> Result<Vec<JobInfo>> {
    let release = context.current_release(app).await?;
    let mut infos = Vec::new();
    for job in release.map(|release| release.manifest.cron).unwrap_or_default() {
        // Without a row, another release has become current in this moment.
        let Some(state) = context.store.cron_job(app.id, job.id.clone()).await? else { continue };
        let last = context.store.tasks(app.id, Some(job.id.clone()), 1).await?.pop();
        let suspended = state.suspended || job.maintenance;
        let next = job.next_after(jiff::Timestamp::now()).filter(|_| !suspended && !app.stopped);
        infos.push(JobInfo {
            app: app.name.clone(),
            job: job.id,
            schedule: job.schedule,
            time_zone: job.time_zone,
            command: job.command,
            concurrency: job.concurrency,
            timeout_seconds: job.timeout_seconds,
            suspended,
            missed: state.missed,
            skipped: state.skipped,
            next: next.map(|time| Time(time.as_millisecond())),
            last: last.map(|task| TaskInfo::new(app, task)),
        });
    }
    Ok(infos)
}

/// Runs a scheduled job now, whether it is due, suspended or neither.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RunJob {
    /// App.
    pub app: AppName,
    /// Name of the job, as cron:list shows it.
    pub job: String,
    /// Do not wait for its end.
    #[arg(long)]
    #[serde(default)]
    pub detach: bool,
}

impl Operation for RunJob {
    const NAME: &'static str = "cron:run";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = App;
    type Output = TaskInfo;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.job.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<TaskInfo> {
        let (release, job) = find(context, &app, &self.job).await?;
        let request = schedule::request(&job, release.number, &release.processes, context.caller.name());
        let times = JobTimes { due: None, missed: 0, concurrency: job.concurrency };
        let task = match context.tasks.spawn_job(&app, request, times).await? {
            AddedRun::Added(task, _) => task,
            AddedRun::Overlaps(other) => {
                let text = format!(
                    "{} of {} still runs, and app.json forbids that runs overlap; wait for its end, or stop it with run:stop",
                    other.name, job.id
                );
                return Err(Failure::conflict(text));
            }
        };
        if self.detach {
            return Ok(TaskInfo::new(&app, task));
        }
        let mut lines = context.tasks.output(&task, true).await?;
        let show = async {
            while let Some(line) = lines.next().await {
                context.progress.detail(line.text).await;
            }
        };
        if context.hangup.run_until_cancelled(show).await.is_none() {
            let text = format!("{} goes on; run:list {} shows how it ends", task.name, app.name);
            return Err(Failure::new(FailureKind::Failed, text));
        }
        let ended = context.tasks.ended(&task).await?;
        match ended.failure() {
            Some(reason) => Err(Failure::new(FailureKind::Failed, format!("{}: {reason}", ended.name))),
            None => Ok(TaskInfo::new(&app, ended)),
        }
    }
}

/// A scheduled job that was suspended or resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SuspendedJob {
    /// App.
    pub app: AppName,
    /// Name of the job.
    pub job: String,
    /// Whether it is suspended.
    pub suspended: bool,
}

/// Suspends a scheduled job: it is not run until it is resumed.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SuspendJob {
    /// App.
    pub app: AppName,
    /// Name of the job, as cron:list shows it.
    pub job: String,
}

/// Resumes a scheduled job; what was due meanwhile is not run.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ResumeJob {
    /// App.
    pub app: AppName,
    /// Name of the job, as cron:list shows it.
    pub job: String,
}

async fn suspend(context: &Context<'_>, app: &App, name: &str, suspended: bool) -> Result<SuspendedJob> {
    let (_, job) = find(context, app, name).await?;
    if job.maintenance && !suspended {
        let text = format!("app.json switches {} off (maintenance); change that, and push", job.id);
        return Err(Failure::conflict(text));
    }
    context.store.suspend_job(app.id, job.id.clone(), suspended).await?;
    context.tasks.wake_schedule();
    Ok(SuspendedJob { app: app.name.clone(), job: job.id, suspended })
}

impl Operation for SuspendJob {
    const NAME: &'static str = "cron:suspend";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = SuspendedJob;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.job.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<SuspendedJob> {
        suspend(context, &app, &self.job, true).await
    }
}

impl Operation for ResumeJob {
    const NAME: &'static str = "cron:resume";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = SuspendedJob;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.job.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<SuspendedJob> {
        suspend(context, &app, &self.job, false).await
    }
}

/// Shows what the last run of a scheduled job printed.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ShowJobOutput {
    /// App.
    pub app: AppName,
    /// Name of the job, as cron:list shows it.
    pub job: String,
    /// Continue with new lines until the run ends.
    #[arg(short, long)]
    #[serde(default)]
    pub tail: bool,
}

impl Operation for ShowJobOutput {
    const NAME: &'static str = "cron:logs";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Follow<TaskLine>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.job.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Follow<TaskLine>> {
        let last = context.store.tasks(app.id, Some(self.job.clone()), 1).await?.pop();
        let Some(last) = last else {
            let (_, job) = find(context, &app, &self.job).await?;
            return Err(Failure::not_found(format!("{} has not been run yet; cron:list shows when it is due", job.id)));
        };
        let lines = context.tasks.output(&last, self.tail).await?;
        Ok(Follow(lines.map(TaskLine::from).boxed()))
    }
}

/// A job of the current release, by name.
async fn find(context: &Context<'_>, app: &App, name: &str) -> Result<(crate::store::Release, CronJob)> {
    let release = context.current_release(app).await?;
    let job = release.as_ref().and_then(|release| release.manifest.cron.iter().find(|job| job.id == name)).cloned();
    match (release, job) {
        (Some(release), Some(job)) => Ok((release, job)),
        _ => Err(Failure::not_found(format!("{} has no job {name}; cron:list {} lists them", app.name, app.name))),
    }
}
