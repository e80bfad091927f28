//! The commands `cron:…`.

use clap::Subcommand;

use super::{
    output::Text,
    run::{long_outcomes, outcome, short_outcome, shortened},
    session::Session,
    table::{facts, or_hyphen, table},
};
use crate::operations::{
    JobInfo, ListJobs, ReportJobs, Result, ResumeJob, RunJob, ShowJobOutput, SuspendJob, SuspendedJob,
};

/// The commands of scheduled jobs.
#[derive(Debug, Subcommand)]
pub(super) enum CronCommand {
    /// List the scheduled jobs of an app, which its app.json declares.
    #[command(name = "cron:list", alias = "cron", after_help = "Example: cron:list my-app")]
    List(ListJobs),
    /// Show scheduled jobs: when they run, how they ended, what they missed; without an app, of all apps.
    #[command(name = "cron:report", after_help = "Example: cron:report my-app")]
    Report(ReportJobs),
    /// Run a scheduled job now, and wait for its end.
    #[command(
        name = "cron:run",
        after_help = "Examples: cron:run my-app send-mails\n          cron:run my-app 3fa0b1c2 --detach"
    )]
    Run(RunJob),
    /// Suspend a scheduled job.
    #[command(name = "cron:suspend", after_help = "Example: cron:suspend my-app send-mails")]
    Suspend(SuspendJob),
    /// Resume a scheduled job; what was due meanwhile is not run.
    #[command(name = "cron:resume", after_help = "Example: cron:resume my-app send-mails")]
    Resume(ResumeJob),
    /// Print what the last run of a scheduled job printed.
    #[command(name = "cron:logs", after_help = "Example: cron:logs my-app send-mails -t")]
    Logs(ShowJobOutput),
}

pub(super) async fn run(session: &Session<'_>, command: CronCommand) -> Result {
    use CronCommand as C;
    match command {
        C::List(list) => session.answer(list).await,
        C::Report(report) => session.answer_as(report, |jobs| report_text(jobs)).await,
        C::Run(run) => session.answer(run).await,
        C::Suspend(suspend) => session.answer(suspend).await,
        C::Resume(resume) => session.answer(resume).await,
        C::Logs(show) => session.follow(show).await,
    }
}

impl Text for Vec<JobInfo> {
    fn text(&self) -> String {
        let rows = self.iter().map(|job| {
            [
                job.job.clone(),
                job.schedule.clone(),
                job.time_zone.clone(),
                if job.suspended { "suspended".to_owned() } else { or_hyphen(job.next.map(|time| time.to_string())) },
                or_hyphen(job.last.as_ref().map(short_outcome)),
                shortened(&job.command),
            ]
        });
        let text = table(["JOB", "SCHEDULE", "TIME ZONE", "NEXT", "LAST", "COMMAND"], rows);
        text + &long_outcomes(self.iter().filter_map(|job| Some((job.job.as_str(), job.last.as_ref()?))))
    }
}

/// Everything that is known of each job.
fn report_text(jobs: &[JobInfo]) -> String {
    let reports = jobs.iter().map(|job| {
        facts([
            ("app", Some(job.app.to_string())),
            ("job", Some(job.job.clone())),
            ("schedule", Some(format!("{} ({})", job.schedule, job.time_zone))),
            ("command", Some(job.command.clone())),
            ("concurrency policy", Some(job.concurrency.as_str().to_owned())),
            ("timeout", job.timeout_seconds.map(|seconds| format!("{seconds} s"))),
            ("suspended", Some(job.suspended.to_string())),
            ("next run", job.next.map(|time| time.to_string())),
            (
                "last run",
                job.last.as_ref().map(|last| format!("{} at {}: {}", last.task, last.created_at, outcome(last))),
            ),
            ("missed", Some(job.missed.to_string())),
            ("skipped", Some(job.skipped.to_string())),
        ])
    });
    reports.collect::<Vec<_>>().join("\n")
}

impl Text for SuspendedJob {
    fn text(&self) -> String {
        let state = if self.suspended { "suspended" } else { "resumed" };
        format!("-----> {} of {} is {state}\n", self.job, self.app)
    }
}
