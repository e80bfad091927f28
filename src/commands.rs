//! Commands, `noun:verb` as in Dokku, for SSH and the local socket: they make operations of words, and text or JSON of
//! results. Each noun has a file.

mod access;
mod apps;
mod bindings;
mod buildpacks;
mod builds;
mod checks;
mod command;
mod completions;
mod config_vars;
mod cron;
mod disk;
mod elsewhere;
mod env_file;
mod events;
mod git;
mod help;
mod images;
mod links;
mod logs;
mod mcp;
mod network;
mod output;
mod parse;
mod periodic;
mod ports;
#[cfg(test)]
mod properties;
mod ps;
mod quota;
mod registry;
mod releases;
mod resource;
mod run;
mod session;
mod ssh_keys;
mod stacks;
mod storage;
mod suggestion;
mod table;
mod tokens;
mod users;
mod webhooks;

use std::sync::Arc;

use clap::CommandFactory as _;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    operations::{Caller, Failure, Operations, Result, Version},
};
use command::Command;
use output::{Format, Output, Text};
use parse::Parsed;
use run::RunCommand;
use session::Session;

pub use completions::{Shell, completions};
pub use session::{ClientTerminal, Streams};

/// The definitions of all commands.
pub fn definition() -> clap::Command {
    command::CommandLine::command()
}

/// All commands; cheap to clone.
#[derive(Clone)]
pub struct Commands {
    config: Arc<Config>,
    operations: Operations,
}

impl Commands {
    /// The commands for these operations.
    pub fn new(config: Arc<Config>, operations: Operations) -> Self {
        Self { config, operations }
    }

    /// The text that a login without a command prints.
    pub fn greeting(&self, caller: &Caller) -> String {
        let kind = match caller {
            Caller { admin: true, .. } => "an admin",
            Caller { machine: true, .. } => "a machine user",
            Caller { .. } => "a user",
        };
        format!(
            "You are {}, {kind} of this paas server. There is no shell here.\n\
             `git remote add paas ssh://paas@{}:{}/APP`, then `git push paas main` deploys; `help` lists the commands.\n",
            caller.name(),
            self.config.hostname,
            self.config.ssh.listen.port()
        )
    }

    /// Runs a command; returns its exit status: 0, or that of the kind of failure.
    pub async fn run(&self, caller: &Caller, words: Vec<String>, streams: Streams, hangup: CancellationToken) -> u8 {
        let (format, parsed) = parse::parse(words);
        if let Parsed::Command(command) = &parsed
            && let Command::Mcp = **command
        {
            return self.serve_mcp(caller, streams, &hangup).await;
        }
        let out = Output::new(streams.stdout, streams.stderr, format, streams.terminal.is_some());
        let result = match parsed {
            Parsed::Command(command) => {
                let (stdin, terminal) = (Mutex::new(streams.stdin), streams.terminal);
                let session =
                    Session { operations: &self.operations, caller, stdin, terminal, out: out.clone(), hangup };
                if let Command::Run(command) = *command {
                    return run_task(&session, command).await;
                }
                act(&session, *command).await
            }
            Parsed::Help(text) => {
                out.help(&text).await;
                Ok(())
            }
            Parsed::Invalid(message) => Err(Failure::invalid(message)),
        };
        let Err(failure) = result else { return 0 };
        out.failure(&failure).await;
        failure.kind.exit_status()
    }

    /// Serves a client of the Model Context Protocol, which has standard output to itself; returns the exit status.
    async fn serve_mcp(&self, caller: &Caller, streams: Streams, hangup: &CancellationToken) -> u8 {
        let Streams { stdin, stdout, stderr, terminal } = streams;
        let out = Output::new(Box::new(tokio::io::sink()), stderr, Format::Text, terminal.is_some());
        let streams = Streams { stdin, stdout, stderr: Box::new(tokio::io::sink()), terminal };
        let Err(failure) = mcp::serve(self.operations.clone(), caller.clone(), streams, hangup).await else { return 0 };
        out.failure(&failure).await;
        failure.kind.exit_status()
    }
}

/// Runs a command whose exit status may be one of the user's.
async fn run_task(session: &Session<'_>, command: RunCommand) -> u8 {
    let passes_status = command.passes_status();
    match run::run(session, command).await {
        Ok(status) => status,
        Err(failure) => {
            session.out.failure(&failure).await;
            if passes_status { run::OWN_FAILURE } else { failure.kind.exit_status() }
        }
    }
}

/// Prints why a request is refused that is no command, or that reaches no server; returns its exit status. As JSON, if
/// `request` asks for that.
pub async fn refuse(streams: Streams, request: &str, failure: &Failure) -> u8 {
    let words: Vec<_> = request.split_whitespace().map(str::to_owned).collect();
    let terminal = streams.terminal.is_some();
    let out = Output::new(streams.stdout, streams.stderr, parse::requested_format(&words), terminal);
    out.failure(failure).await;
    failure.kind.exit_status()
}

impl Text for Version {
    fn text(&self) -> String {
        format!("paas {}\n", self.version)
    }
}

async fn act(session: &Session<'_>, command: Command) -> Result {
    match command {
        Command::Help { topic } => {
            session.out.help(&help::help(topic.as_deref()).map_err(Failure::not_found)?).await;
            Ok(())
        }
        Command::Version(show) => session.answer(show).await,
        Command::Apps(command) => apps::run(session, command).await,
        Command::Links(command) => links::run(session, command).await,
        Command::Stacks(command) => stacks::run(session, command).await,
        Command::Releases(command) => releases::run(session, command).await,
        Command::Buildpacks(command) => buildpacks::run(session, command).await,
        Command::Config(command) => config_vars::run(session, command).await,
        Command::Bindings(command) => bindings::run(session, command).await,
        Command::Ps(command) => ps::run(session, command).await,
        Command::Resource(command) => resource::run(session, command).await,
        Command::Run(command) => run::run(session, command).await.map(drop),
        Command::Checks(command) => checks::run(session, command).await,
        Command::Cron(command) => cron::run(session, command).await,
        // `Commands::run` has served it.
        Command::Mcp => Ok(()),
        Command::Periodic(list) => session.answer(list).await,
        Command::Disk(command) => disk::run(session, command).await,
        Command::Logs(command) => logs::run(session, command).await,
        Command::Ports(command) => ports::run(session, command).await,
        Command::Network(command) => network::run(session, command).await,
        Command::Git(command) => git::run(session, command).await,
        Command::Builds(command) => builds::run(session, command).await,
        Command::Storage(command) => storage::run(session, command).await,
        Command::Webhooks(command) => webhooks::run(session, command).await,
        Command::Registry(command) => registry::run(session, command).await,
        Command::Images(command) => images::run(session, command).await,
        Command::WhoAmI(who) => session.answer(who).await,
        Command::Access(command) => access::run(session, command).await,
        Command::SshKeys(command) => ssh_keys::run(session, command).await,
        Command::Tokens(command) => tokens::run(session, command).await,
        Command::Users(command) => users::run(session, command).await,
        Command::Quota(command) => quota::run(session, command).await,
        Command::Events(command) => events::run(session, command).await,
        Command::Url(show) => session.answer(show).await,
    }
}
