//! The commands `apps:link`, `apps:unlink` and `apps:links`.

use std::fmt::Write as _;

use clap::Subcommand;

use super::{output::Text, session::Session, table::table};
use crate::operations::{ChangedLink, LinkApps, LinkList, ListLinks, Result, UnlinkApps};

/// The commands of links between apps.
#[derive(Debug, Subcommand)]
pub(super) enum LinksCommand {
    /// Let an app's instances reach another app, by an internal name.
    #[command(
        name = "apps:link",
        after_help = "Example: apps:link shop api          shop reaches api at api.paas.internal, with the ports of api"
    )]
    Link(LinkApps),
    /// Take back what apps:link did; connections are cut.
    #[command(name = "apps:unlink", after_help = "Example: apps:unlink shop api")]
    Unlink(UnlinkApps),
    /// List the apps that an app reaches, and those that reach it.
    #[command(name = "apps:links", after_help = "Example: apps:links shop")]
    List(ListLinks),
}

pub(super) async fn run(session: &Session<'_>, command: LinksCommand) -> Result {
    use LinksCommand as C;
    match command {
        C::Link(link) => session.answer(link).await,
        C::Unlink(unlink) => session.answer(unlink).await,
        C::List(list) => session.answer(list).await,
    }
}

impl Text for ChangedLink {
    fn text(&self) -> String {
        let Self { app, to, .. } = self;
        let mut text = match (self.linked, self.changed) {
            (true, true) => format!("-----> {app} reaches {to}\n"),
            (true, false) => format!("       no change: {app} reaches {to} already\n"),
            (false, _) => format!("-----> {app} no longer reaches {to}\n"),
        };
        for line in self.urls.iter().chain(&self.notes) {
            let _ = writeln!(text, "       {line}");
        }
        text
    }
}

impl Text for LinkList {
    fn text(&self) -> String {
        let rows = |from: bool| {
            let links = if from { &self.from } else { &self.to };
            links.iter().map(move |link| {
                let (source, target) = if from { (&link.app, &self.app) } else { (&self.app, &link.app) };
                let urls = link.urls.join(" ");
                [source.to_string(), target.to_string(), urls, link.by.clone(), link.since.to_string()]
            })
        };
        if self.to.is_empty() && self.from.is_empty() {
            return format!("       {} has no links\n", self.app);
        }
        table(["FROM", "TO", "URL", "BY", "SINCE"], rows(false).chain(rows(true)))
    }
}
