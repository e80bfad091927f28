//! The commands `ports:…`.

use clap::Subcommand;

use super::{output::Text, session::Session, table::table};
use crate::operations::{
    AddPorts, ChangedPorts, ClearPorts, ListPorts, Mapping, PortRow, RemovePorts, Result, SetPorts,
};

/// The commands of port mappings.
#[derive(Debug, Subcommand)]
pub(super) enum PortsCommand {
    /// List port mappings.
    #[command(name = "ports:list", aliases = ["ports", "ports:report"], after_help = "Example: ports:list my-app")]
    List(ListPorts),
    /// Replace the port mappings.
    #[command(name = "ports:set", after_help = "Example: ports:set my-app http:8080:5000")]
    Set(SetPorts),
    /// Add port mappings.
    #[command(name = "ports:add", after_help = "Example: ports:add my-app tcp:9000:9000")]
    Add(AddPorts),
    /// Remove port mappings.
    #[command(name = "ports:remove", after_help = "Example: ports:remove my-app tcp:9000:9000")]
    Remove(RemovePorts),
    /// Replace the port mappings with the app's default one.
    #[command(name = "ports:clear", after_help = "Example: ports:clear my-app")]
    Clear(ClearPorts),
}

pub(super) async fn run(session: &Session<'_>, command: PortsCommand) -> Result {
    use PortsCommand as C;
    match command {
        C::List(list) => session.answer(list).await,
        C::Set(set) => session.answer(set).await,
        C::Add(add) => session.answer(add).await,
        C::Remove(remove) => session.answer(remove).await,
        C::Clear(clear) => session.answer(clear).await,
    }
}

impl Text for Vec<PortRow> {
    fn text(&self) -> String {
        ports(self)
    }
}

impl Text for ChangedPorts {
    fn text(&self) -> String {
        ports(&self.ports)
    }
}

fn ports(ports: &[PortRow]) -> String {
    let rows = ports.iter().map(|port| {
        let Mapping { scheme, host, container } = &port.mapping;
        [scheme.as_str().to_owned(), host.to_string(), container.to_string(), port.url.clone()]
    });
    table(["SCHEME", "HOST PORT", "CONTAINER PORT", "URL"], rows)
}
