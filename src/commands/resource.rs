//! The commands `resource:…`.

use clap::Subcommand;

use super::{
    output::Text,
    session::Session,
    table::{or_hyphen, table},
};
use crate::{
    model::thousandths,
    operations::{
        AppResources, ClearLimits, ClearReserves, LimitResources, ListSizes, NamedSizeInfo, ReportResources,
        ReserveResources, Result,
    },
};

/// The commands of sizes.
#[derive(Debug, Subcommand)]
pub(super) enum ResourceCommand {
    /// Set how much CPU time and memory instances, tasks or builds have at most.
    #[command(
        name = "resource:limit",
        after_help = "Examples: resource:limit my-app --process-type web --cpu 1.5 --memory 1g\n          resource:limit my-app --tasks --memory 2g\n          resource:limit my-app --size large"
    )]
    Limit(LimitResources),
    /// Keep CPU time and memory free for instances.
    #[command(
        name = "resource:reserve",
        after_help = "Example: resource:reserve my-app --process-type web --memory 256m"
    )]
    Reserve(ReserveResources),
    /// Clear limits, so that those of paas.toml apply.
    #[command(name = "resource:limit-clear", after_help = "Example: resource:limit-clear my-app --process-type web")]
    LimitClear(ClearLimits),
    /// Clear what is kept free.
    #[command(name = "resource:reserve-clear", after_help = "Example: resource:reserve-clear my-app")]
    ReserveClear(ClearReserves),
    /// Show the sizes of an app, or of all apps.
    #[command(name = "resource:report", alias = "resource", after_help = "Example: resource:report my-app")]
    Report(ReportResources),
    /// List the sizes that the operator has named, which resource:limit --size takes.
    #[command(name = "resource:sizes", after_help = "Example: resource:sizes")]
    Sizes(ListSizes),
}

pub(super) async fn run(session: &Session<'_>, command: ResourceCommand) -> Result {
    use ResourceCommand as C;
    match command {
        C::Limit(limit) => session.answer(limit).await,
        C::Reserve(reserve) => session.answer(reserve).await,
        C::LimitClear(clear) => session.answer(clear).await,
        C::ReserveClear(clear) => session.answer(clear).await,
        C::Report(report) => session.answer(report).await,
        C::Sizes(list) => session.answer(list).await,
    }
}

impl Text for Vec<AppResources> {
    fn text(&self) -> String {
        rows(self)
    }
}

impl Text for Vec<NamedSizeInfo> {
    fn text(&self) -> String {
        if self.is_empty() {
            return "       the operator has named no sizes ([sizes.NAME] in paas.toml)\n".to_owned();
        }
        let rows = self.iter().map(|size| [size.name.clone(), or_hyphen(size.cpu_millis), or_hyphen(size.memory_mib)]);
        table(["SIZE", "CPU", "MEMORY"], rows)
    }
}

impl Text for AppResources {
    fn text(&self) -> String {
        rows(std::slice::from_ref(self))
    }
}

fn rows(apps: &[AppResources]) -> String {
    let rows = apps.iter().flat_map(|app| {
        app.sizes.iter().map(|size| {
            let hyphen = || "-".to_owned();
            [
                app.app.to_string(),
                size.target.clone(),
                or_hyphen(size.size.as_ref()),
                thousandths(size.cpu_millis.into()),
                format!("{} MiB", size.memory_mib),
                size.reserved_cpu_millis.map_or_else(hyphen, |cpu| thousandths(cpu.into())),
                size.reserved_memory_mib.map_or_else(hyphen, |memory| format!("{memory} MiB")),
                if size.own { "set" } else { "default" }.to_owned(),
            ]
        })
    });
    table(["APP", "FOR", "SIZE", "CPU", "MEMORY", "RESERVED-CPU", "RESERVED-MEMORY", ""], rows)
}
