//! The commands `quota` and `quota:set`.

use clap::Subcommand;

use super::{output::Text, session::Session, table::table};
use crate::operations::{Result, SetQuota, ShowQuota, UserQuota};

/// The commands of quotas.
#[derive(Debug, Subcommand)]
pub(super) enum QuotaCommand {
    /// Show what you, or another user, may have at most, and what is used of it.
    #[command(name = "quota", alias = "quota:report", after_help = "Examples: quota\n          quota ada")]
    Show(ShowQuota),
    /// Set limits of a user; LIMIT=default makes that of paas.toml apply again.
    #[command(
        name = "quota:set",
        after_help = "Examples: quota:set ada apps=60 memory=8g cpu=4\n          quota:set ada apps=default"
    )]
    Set(SetQuota),
}

pub(super) async fn run(session: &Session<'_>, command: QuotaCommand) -> Result {
    match command {
        QuotaCommand::Show(show) => session.answer(show).await,
        QuotaCommand::Set(set) => session.answer(set).await,
    }
}

impl Text for UserQuota {
    fn text(&self) -> String {
        let rows = self.limits.iter().map(|limit| {
            let value = |amount: Option<u64>, none: &str| {
                amount.map_or_else(|| none.to_owned(), |amount| limit.resource.with_unit(amount))
            };
            [
                limit.resource.to_string(),
                value(limit.used, "-"),
                value(limit.limit, "unlimited"),
                match (limit.per_app, limit.own) {
                    (false, false) => String::new(),
                    (false, true) => format!("set for {}", self.user),
                    (true, false) => "for each app".to_owned(),
                    (true, true) => format!("for each app, set for {}", self.user),
                },
            ]
        });
        table(["LIMIT", "USED", "MAX", ""], rows)
    }
}
