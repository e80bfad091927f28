//! The commands `checks:…`.

use clap::Subcommand;

use super::{
    output::{Format, Rendering, Text},
    session::Session,
    table::{facts, table},
};
use crate::{
    model::CheckMode,
    operations::{
        AppChecks, DisableChecks, EnableChecks, Failure, FailureKind, RanChecks, ReportChecks, Result, RunChecks,
        SetChecks, SkipChecks,
    },
};

/// The commands of health checks.
#[derive(Debug, Subcommand)]
pub(super) enum ChecksCommand {
    /// Show the health checks of an app, or of all apps.
    #[command(name = "checks:report", alias = "checks", after_help = "Example: checks:report my-app")]
    Report(ReportChecks),
    /// Make the health checks of running instances now; exits with status 1 if one fails.
    #[command(name = "checks:run", after_help = "Examples: checks:run my-app\n          checks:run my-app web.2")]
    Run(RunChecks),
    /// Set how health checks are made where app.json does not say it; without a value, unset it.
    #[command(
        name = "checks:set",
        after_help = "Examples: checks:set my-app timeout 30\n          checks:set my-app wait-to-retire 120"
    )]
    Set(SetChecks),
    /// Make the health checks of all or some process types again.
    #[command(name = "checks:enable", after_help = "Example: checks:enable my-app web")]
    Enable(EnableChecks),
    /// Make no health checks of all or some process types: an instance is healthy as soon as it runs.
    #[command(name = "checks:skip", after_help = "Example: checks:skip my-app worker,clock")]
    Skip(SkipChecks),
    /// The same, and stop the old instances before the new ones start: deployments cause downtime.
    #[command(name = "checks:disable", after_help = "Example: checks:disable my-app worker")]
    Disable(DisableChecks),
}

pub(super) async fn run(session: &Session<'_>, command: ChecksCommand) -> Result {
    use ChecksCommand as C;
    match command {
        C::Report(report) => session.answer(report).await,
        C::Run(run) => run_checks(session, run).await,
        C::Set(set) => session.answer(set).await,
        C::Enable(enable) => session.answer(enable).await,
        C::Skip(skip) => session.answer(skip).await,
        C::Disable(disable) => session.answer(disable).await,
    }
}

async fn run_checks(session: &Session<'_>, run: RunChecks) -> Result {
    let ran = session.run(run).await?;
    match session.out.format() {
        Format::Text => session.out.text(&ran.text(), Rendering::Plain).await,
        Format::Json => session.out.json_line(&ran).await,
    };
    match ran.failed {
        0 => Ok(()),
        failed => {
            let text = format!("{failed} of {} health checks of {} failed", ran.checks.len(), ran.app);
            Err(Failure::new(FailureKind::Failed, text))
        }
    }
}

impl Text for Vec<AppChecks> {
    fn text(&self) -> String {
        self.iter().map(Text::text).collect::<Vec<_>>().join("\n")
    }
}

impl Text for AppChecks {
    fn text(&self) -> String {
        let seconds = |value: f64| format!("{value} s");
        let settings = facts([
            ("app", Some(self.app.to_string())),
            ("attempts", self.settings.attempts.map(|attempts| attempts.to_string())),
            ("wait", self.settings.wait.map(seconds)),
            ("timeout", self.settings.timeout.map(seconds)),
            ("wait to retire", Some(seconds(self.settings.wait_to_retire))),
        ]);
        let rows = self.types.iter().flat_map(|of_type| {
            of_type.checks.iter().map(|check| {
                let mode = match of_type.mode {
                    CheckMode::Enabled if check.warn => "warning only",
                    CheckMode::Enabled => "enabled",
                    CheckMode::Skipped => "skipped",
                    CheckMode::Disabled => "disabled",
                };
                [
                    of_type.process_type.to_string(),
                    check.check_type.as_str().to_owned(),
                    check.name.clone().unwrap_or_else(|| "-".to_owned()),
                    mode.to_owned(),
                    check.attempts.to_string(),
                    seconds(check.wait),
                    seconds(check.timeout),
                    check.check.clone(),
                ]
            })
        });
        let checks = table(["PROCESS", "TYPE", "NAME", "STATE", "ATTEMPTS", "WAIT", "TIMEOUT", "CHECK"], rows);
        format!("{settings}\n{checks}")
    }
}

impl Text for RanChecks {
    fn text(&self) -> String {
        let rows = self.checks.iter().map(|ran| {
            let outcome = match (ran.passed, ran.check.warn) {
                (true, _) => "passed",
                (false, true) => "warning",
                (false, false) => "failed",
            };
            [
                ran.instance.clone(),
                ran.check.check_type.as_str().to_owned(),
                ran.check.name.clone().unwrap_or_else(|| "-".to_owned()),
                outcome.to_owned(),
                format!("{:.2} s", ran.seconds),
                ran.reason.clone().unwrap_or_else(|| ran.check.check.clone()),
            ]
        });
        table(["INSTANCE", "TYPE", "NAME", "RESULT", "TOOK", "CHECK"], rows)
    }
}
