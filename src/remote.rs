//! Servers elsewhere, for a person's own machine: `paas remote` keeps their addresses, and a command is run over the person's
//! own `ssh`. What is invalid in a command, the server says; only which app is meant is decided here.

mod address;
mod app;
mod environment;
mod error;
mod git_remotes;
mod keep;
mod open;
mod options;
mod place;
mod remotes;
mod ssh;

use crate::commands;

pub use address::RemoteAddress;
pub use environment::Environment;
pub use error::RemoteError;
pub use keep::Keep;
pub use open::{first_url, output, show};
pub use place::{Place, Typed};
pub use remotes::{RemoteName, Remotes};
pub use ssh::RemoteCommand;

impl Environment {
    /// Decides where a command is run, and on which app: on the remote that it names, that `PAAS_REMOTE` names, or, without a
    /// server here, on the default one.
    ///
    /// # Errors
    ///
    /// If there is no such remote, if the file of the remotes cannot be read, or if several apps could be meant.
    pub fn place(&self, typed: Typed, server_is_here: bool) -> Result<Place, RemoteError> {
        let mut definition = commands::definition();
        definition.build();
        let mut typed = options::take(typed, &definition)?;
        let remotes = || Remotes::load(self.remotes_file().ok_or(RemoteError::NoHome)?);
        let remote = match typed.remote.take().or_else(|| self.remote.clone()) {
            Some(name) => Some(remotes()?.named(&name)?),
            None if server_is_here || self.remotes_file().is_none() => None,
            None => remotes()?.default_remote(),
        };
        let Some((name, address)) = remote else {
            return Ok(Place::Here(match typed.app {
                Some(app) => app::insert(typed.words, &app, &definition)?,
                None => typed.words,
            }));
        };
        let (words, notice) = match typed.app {
            Some(app) => (app::insert(typed.words, &app, &definition)?, None),
            None if app::is_lacking(&typed.words, &definition) => {
                match git_remotes::app(&git_remotes::list(&self.folder), &name, &address)? {
                    Some((git_remote, app)) => {
                        let notice = format!("app {app}, to which the git remote {git_remote} leads");
                        (app::insert(typed.words, app.as_str(), &definition)?, Some(notice))
                    }
                    None => (typed.words, None),
                }
            }
            None => (typed.words, None),
        };
        Ok(Place::Remote(RemoteCommand::new(&address, &words, notice)))
    }
}
