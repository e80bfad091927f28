//! The commands `ps:…`.

use clap::Subcommand;

use super::{
    output::Text,
    session::Session,
    table::{or_hyphen, table},
};
use crate::{
    model::{AppName, thousandths},
    operations::{
        Formation, InstanceRow, InstanceSize, ListInstances, Quantity, Rebuild, Released, Restart, Result, Scale,
        Scaled, SetProcesses, ShowFormation, Start, Stop, StopTimeouts,
    },
};

/// The commands of processes.
#[derive(Debug, Subcommand)]
pub(super) enum PsCommand {
    /// Set the number of instances of process types; without numbers, show the formation.
    #[command(name = "ps:scale", after_help = "Example: ps:scale my-app web=3 worker=1")]
    Scale {
        /// App.
        app: AppName,
        /// TYPE=number
        #[arg(value_name = "TYPE=N")]
        quantities: Vec<Quantity>,
    },
    /// Set a property of process types: stop-timeout, the seconds (1 to 3600) that their processes have to end.
    #[command(
        name = "ps:set",
        after_help = "Examples: ps:set my-app stop-timeout web=30 worker=600\n          ps:set my-app stop-timeout worker=default"
    )]
    Set(SetProcesses),
    /// Show the instances of an app, or of all apps.
    #[command(name = "ps:report", alias = "ps", after_help = "Example: ps:report my-app")]
    Report(ListInstances),
    /// Replace all instances, or those of one process type, with new ones, without downtime.
    #[command(name = "ps:restart", after_help = "Examples: ps:restart my-app\n          ps:restart my-app worker")]
    Restart(Restart),
    /// Build the tip of the deploy branch again, or after a rollback the deployed commit, and release it.
    #[command(name = "ps:rebuild", after_help = "Example: ps:rebuild my-app")]
    Rebuild(Rebuild),
    /// Stop all instances; the formation is kept.
    #[command(name = "ps:stop", after_help = "Example: ps:stop my-app")]
    Stop(Stop),
    /// Start a stopped app.
    #[command(name = "ps:start", after_help = "Example: ps:start my-app")]
    Start(Start),
}

pub(super) async fn run(session: &Session<'_>, command: PsCommand) -> Result {
    use PsCommand as C;
    match command {
        C::Scale { app, quantities } if quantities.is_empty() => session.answer(ShowFormation { app }).await,
        C::Scale { app, quantities } => {
            let quantities = quantities.into_iter().map(|wanted| (wanted.process_type, wanted.quantity)).collect();
            session.answer(Scale { app, quantities }).await
        }
        C::Set(set) => session.answer(set).await,
        C::Report(list) => session.answer(list).await,
        C::Restart(restart) => session.answer(restart).await,
        C::Rebuild(rebuild) => session.answer(rebuild).await,
        C::Stop(stop) => session.answer(stop).await,
        C::Start(start) => session.answer(start).await,
    }
}

impl Text for Formation {
    fn text(&self) -> String {
        let rows = self.formation.iter().map(|(name, quantity)| [name.to_string(), quantity.to_string()]);
        table(["TYPE", "QUANTITY"], rows)
    }
}

impl Text for Vec<InstanceRow> {
    fn text(&self) -> String {
        let rows = self.iter().map(|instance| {
            let used = |text: fn(&InstanceSize) -> String| instance.used.as_ref().map_or_else(|| "-".to_owned(), text);
            [
                instance.app.to_string(),
                instance.name.clone(),
                instance.state.to_string(),
                format!("v{}", instance.release),
                instance.restarts.to_string(),
                instance.oom_kills.to_string(),
                instance.since.to_string(),
                format!("{} s", instance.stop_timeout_seconds),
                format!("{}/{}", used(|used| thousandths(used.cpu_millis)), thousandths(instance.limit.cpu_millis)),
                format!("{}/{} MiB", used(|used| used.memory_mib.to_string()), instance.limit.memory_mib),
                instance.address.map_or_else(String::new, |address| address.to_string()),
                instance.id.to_string(),
                or_hyphen(instance.last_failure.as_deref()),
            ]
        });
        table(
            [
                "APP",
                "NAME",
                "STATE",
                "RELEASE",
                "RESTARTS",
                "OOM-KILLS",
                "SINCE",
                "STOP",
                "CPU",
                "MEMORY",
                "ADDRESS",
                "ID",
                "LAST-FAILURE",
            ],
            rows,
        )
    }
}

impl Text for StopTimeouts {
    fn text(&self) -> String {
        let own =
            self.stop_timeouts.iter().map(|(name, timeout)| [name.to_string(), format!("{} s", timeout.seconds())]);
        table(["TYPE", "STOP-TIMEOUT"], own.chain([["(others)".to_owned(), format!("{} s", self.default_seconds)]]))
    }
}

impl Text for Scaled {}

impl Text for Vec<Scaled> {}

impl Text for Vec<Released> {}
