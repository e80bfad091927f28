//! Commands, `noun:verb` as in Dokku, for SSH and the local socket. Each noun has a file.

mod apps;
mod buildpacks;
mod builds;
mod command;
mod config_vars;
mod context;
mod error;
mod git;
mod help;
mod logs;
mod output;
mod parse;
mod ports;
mod ps;
mod releases;
mod session;
mod ssh_keys;
mod stacks;
mod suggestion;

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    deploy::{DeployError, Deployer},
    instances::{Instances, RolloutError},
    model::Line,
    progress,
    store::Store,
};
use command::Command;
use context::Context;
use error::{CommandError, Result};
use output::Output;
use parse::Parsed;
use session::Session;

pub use session::{Caller, Streams};

/// All commands; cheap to clone.
#[derive(Clone)]
pub struct Commands {
    context: Context,
}

impl Commands {
    /// Makes the commands; they act on these.
    pub fn new(config: Arc<Config>, store: Store, deployer: Deployer, instances: Instances) -> Self {
        Self { context: Context { config, store, deployer, instances } }
    }

    /// The text that a login without a command prints.
    pub fn greeting(&self, caller: &Caller) -> String {
        let kind = if caller.admin { "an admin key" } else { "a developer key" };
        format!(
            "You are {}, {kind} of this paas server. There is no shell here.\n\
             `git remote add paas ssh://paas@{}:{}/APP`, then `git push paas main` deploys; `help` lists the commands.\n",
            caller.name,
            self.context.config.hostname,
            self.context.config.ssh.listen.port()
        )
    }

    /// Runs a command; returns its exit status: 0, 1 if it failed, 2 if its words are invalid.
    pub async fn run(&self, caller: &Caller, words: Vec<String>, streams: Streams, hangup: CancellationToken) -> u8 {
        let out = Output::new(streams.stdout, streams.stderr);
        let command = match parse::parse(words) {
            Parsed::Command(command) => *command,
            Parsed::Help(text) => {
                out.text(&text).await;
                return 0;
            }
            Parsed::Invalid(message) => {
                out.trouble(&message).await;
                return 2;
            }
        };
        let session_out = out.clone();
        let act = |progress| async move {
            let stdin = Mutex::new(streams.stdin);
            let mut session = Session { caller, stdin, out: session_out, progress, hangup };
            let result = self.act(&mut session, command).await;
            if let Err(error) = &result {
                explain(error, &session.out).await;
            }
            result
        };
        let out = &out;
        let print = |line| async move {
            match line {
                Line::Trouble(text) => out.trouble(&text).await,
                other => out.line(&other.to_string()).await,
            }
        };
        u8::from(progress::relay(act, print).await.is_err())
    }

    async fn act(&self, session: &mut Session<'_>, command: Command) -> Result {
        let context = &self.context;
        match command {
            Command::Help { topic } => {
                session.out.text(&help::help(topic.as_deref()).map_err(CommandError::Refused)?).await;
                Ok(())
            }
            Command::Version => {
                session.out.line(concat!("paas ", env!("CARGO_PKG_VERSION"))).await;
                Ok(())
            }
            Command::Whoami => {
                let kind = if session.caller.admin { "admin" } else { "developer" };
                session.out.line(&format!("{} ({kind})", session.caller.name)).await;
                Ok(())
            }
            Command::Apps(command) => apps::run(context, session, command).await,
            Command::Stacks(command) => stacks::run(context, session, command).await,
            Command::Config(command) => config_vars::run(context, session, command).await,
            Command::Ps(command) => ps::run(context, session, command).await,
            Command::Logs { app, tail, num, ps } => logs::logs(context, session, app, tail, num, ps).await,
            Command::Releases(command) => releases::run(context, session, command).await,
            Command::Ports(command) => ports::run(context, session, command).await,
            Command::SshKeys(command) => ssh_keys::run(context, session, command).await,
            Command::Git(command) => git::run(context, session, command).await,
            Command::Builds(command) => builds::run(context, session, command).await,
            Command::Buildpacks(command) => buildpacks::run(context, session, command).await,
            Command::Url { app, format } => apps::url(context, session, app, format).await,
        }
    }
}

/// Prints why a command failed, with the last log lines of a failed instance.
async fn explain(error: &CommandError, out: &Output) {
    if let CommandError::Deploy(DeployError::AlreadyReported(_)) = error {
        return;
    }
    let (CommandError::Rollout(rollout) | CommandError::Deploy(DeployError::Rollout(rollout))) = error else {
        return out.trouble(&error.to_string()).await;
    };
    if let RolloutError::Unhealthy { instance, log, .. } = rollout
        && !log.is_empty()
    {
        out.trouble(&format!("last output of {instance}:")).await;
        for line in log {
            out.trouble(&format!("  {}", Line::sanitize(line))).await;
        }
    }
    out.trouble(&rollout.to_string()).await;
}
