//! `paas remote …`: keeps the addresses of servers.

use super::{
    address::RemoteAddress,
    environment::Environment,
    error::RemoteError,
    remotes::{RemoteName, Remotes},
};

/// What becomes of the addresses of servers.
#[derive(Debug, clap::Subcommand)]
pub enum Keep {
    /// Adds a server. The first one is the default.
    #[command(after_help = "Example: paas remote add prod ssh://paas@HOST:2222")]
    Add {
        /// Name of the remote.
        name: RemoteName,
        /// Address: `ssh://[USER@]HOST[:PORT]`
        address: RemoteAddress,
    },
    /// Lists the servers; the default one has a star.
    #[command(after_help = "Example: paas remote list")]
    List {
        /// Print the names alone.
        #[arg(long)]
        names: bool,
    },
    /// Removes a server.
    #[command(after_help = "Example: paas remote remove prod")]
    Remove {
        /// Name of the remote.
        name: String,
    },
    /// Chooses the server of commands that name none.
    #[command(after_help = "Example: paas remote default prod")]
    Default {
        /// Name of the remote.
        name: String,
    },
}

impl Keep {
    /// Does it; returns what is to be printed.
    pub fn run(self, environment: &Environment) -> Result<String, RemoteError> {
        let mut remotes = Remotes::load(environment.remotes_file().ok_or(RemoteError::NoHome)?)?;
        let line = |(name, address, is_default): (&RemoteName, &RemoteAddress, bool)| {
            format!("{} {name:<16} {address}\n", if is_default { '*' } else { ' ' })
        };
        match self {
            Self::Add { name, address } => remotes.add(name, address)?,
            Self::Remove { name } => remotes.remove(&name)?,
            Self::Default { name } => remotes.set_default(&name)?,
            Self::List { names: true } => {
                let names: Vec<_> = remotes.all().map(|(name, ..)| format!("{name}\n")).collect();
                return Ok(names.concat());
            }
            Self::List { names: false } => return Ok(remotes.all().map(line).collect::<Vec<_>>().concat()),
        }
        Ok(String::new())
    }
}
