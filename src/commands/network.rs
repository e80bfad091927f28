//! The commands `network:…`.

use std::fmt::Write as _;

use clap::Subcommand;

use super::{output::Text, session::Session, table::table};
use crate::operations::{AllowNetwork, ChangedNetwork, DenyNetwork, NetworkReport, ReportNetwork, Result};

/// The commands of what an app may reach.
#[derive(Debug, Subcommand)]
pub(super) enum NetworkCommand {
    /// Show what an app's instances may reach.
    #[command(
        name = "network:report",
        aliases = ["network", "network:list"],
        after_help = "Example: network:report my-app"
    )]
    Report(ReportNetwork),
    /// Let an app's instances reach an address, a block, a name, or this machine (admins only).
    #[command(
        name = "network:allow",
        after_help = "Examples: network:allow my-app host:5432          this machine, as host.paas.internal\n          \
                      network:allow my-app 10.1.2.3:5432\n          network:allow my-app db.example.com:5432\n          \
                      network:allow my-app 10.1.0.0/16"
    )]
    Allow(AllowNetwork),
    /// Take back what network:allow allowed (admins only); connections are cut.
    #[command(name = "network:deny", after_help = "Example: network:deny my-app host:5432")]
    Deny(DenyNetwork),
}

pub(super) async fn run(session: &Session<'_>, command: NetworkCommand) -> Result {
    use NetworkCommand as C;
    match command {
        C::Report(report) => session.answer(report).await,
        C::Allow(allow) => session.answer(allow).await,
        C::Deny(deny) => session.answer(deny).await,
    }
}

impl Text for NetworkReport {
    fn text(&self) -> String {
        let reached = if self.lan { "the Internet and private networks" } else { "the Internet" };
        let mut text = format!("       {} reaches {reached}, and what is allowed:\n", self.app);
        let row = |of: &str, target: &str, addresses: String, by: &str, since: String| {
            [of.to_owned(), target.to_owned(), addresses, by.to_owned(), since]
        };
        let server = self.server.iter();
        let server =
            server.map(|target| row("server", &target.to_string(), String::new(), "network.allow", String::new()));
        let own = self.allowed.iter().map(|allowed| {
            let addresses = allowed.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            row("app", &allowed.target.to_string(), addresses, &allowed.by, allowed.since.to_string())
        });
        let rows: Vec<_> = server.chain(own).collect();
        if rows.is_empty() {
            return text.replace(", and what is allowed:\n", "; nothing else is allowed\n");
        }
        text.push_str(&table(["OF", "TARGET", "ADDRESSES", "BY", "SINCE"], rows));
        text
    }
}

impl Text for ChangedNetwork {
    fn text(&self) -> String {
        let Self { app, target, .. } = self;
        let mut text = match (self.allowed, self.changed) {
            (true, true) => format!("-----> {app} may reach {target}\n"),
            (true, false) => format!("       no change: {app} may reach {target} already\n"),
            (false, _) => format!("-----> {app} may no longer reach {target}\n"),
        };
        for note in &self.notes {
            let _ = writeln!(text, "       {note}");
        }
        text
    }
}
