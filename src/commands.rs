//! Commands, `noun:verb` as Dokku says them; both doors call them. One file for each noun.

mod apps;
mod buildpacks;
mod builds;
mod config_vars;
mod git;
mod line;
mod logs;
mod output;
mod ports;
mod ps;
mod releases;
mod ssh_keys;
mod stacks;

use std::sync::Arc;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    sync::Mutex,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    deploy::{BuildpackPosition, DeployError, Deployer},
    instances::{Instances, InstancesError, RolloutError},
    keys::KeyError,
    model::{AppName, InvalidName, Line},
    progress::{self, Progress},
    store::{App, KeyId, Store, StoreError},
};
use line::{Command, Parsed};
use output::Output;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key's name, or "local".
    pub name: String,
    /// The key; none on the local socket.
    pub key: Option<KeyId>,
    /// Whether everything is allowed.
    pub admin: bool,
}

impl Caller {
    /// Whether this app is the caller's to act on: admins act on all, others on what they made.
    pub fn may_use(&self, app: &App) -> bool {
        self.admin || (self.key.is_some() && app.owner == self.key)
    }
}

/// Where a command reads and writes.
pub struct Streams {
    /// What the client sends.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Results.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// Trouble.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
    /// Whether a person sits at a terminal.
    pub tty: bool,
}

/// Why a command failed: one line for the person who gave it.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Deploy(#[from] DeployError),
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    #[error(transparent)]
    Instances(#[from] InstancesError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("only an admin key may do this")]
    NotAdmin,
    #[error("{0}")]
    Refused(String),
    #[error("cannot read {path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("cannot read what was sent: {0}")]
    Input(#[source] std::io::Error),
}

type Result<T = (), E = CommandError> = std::result::Result<T, E>;

/// A command under way: who asks, and where it answers.
struct Session<'a> {
    caller: &'a Caller,
    stdin: Mutex<Box<dyn AsyncRead + Send + Unpin>>,
    out: Output,
    progress: Progress,
    hangup: CancellationToken,
}

impl Session<'_> {
    fn only_admin(&self) -> Result {
        if self.caller.admin { Ok(()) } else { Err(CommandError::NotAdmin) }
    }

    /// One line, or everything, that the client sends; bounded.
    async fn read_input(&mut self, most: u64) -> Result<String> {
        let mut text = Vec::new();
        self.stdin.get_mut().take(most).read_to_end(&mut text).await.map_err(CommandError::Input)?;
        String::from_utf8(text).map_err(|_| CommandError::Refused("what was sent is not text".to_owned()))
    }

    async fn read_line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while line.len() < 256 {
            match self.stdin.get_mut().read_u8().await {
                Ok(b'\n' | b'\r') | Err(_) => break,
                Ok(byte) => line.push(byte),
            }
        }
        Ok(String::from_utf8_lossy(&line).trim().to_owned())
    }
}

/// All commands; cheap to clone.
#[derive(Clone)]
pub struct Commands {
    config: Arc<Config>,
    store: Store,
    deployer: Deployer,
    instances: Instances,
}

impl Commands {
    /// Over the stages that they act on.
    pub fn new(config: Arc<Config>, store: Store, deployer: Deployer, instances: Instances) -> Self {
        Self { config, store, deployer, instances }
    }

    /// What a login without a command prints.
    pub fn greeting(&self, caller: &Caller) -> String {
        let kind = if caller.admin { "an admin key" } else { "a developer key" };
        format!(
            "You are {}, {kind} of this paas server. There is no shell here.\n\
             `git remote add paas ssh://paas@{}:{}/APP`, then `git push paas main` deploys; `help` lists the commands.\n",
            caller.name,
            self.config.hostname,
            self.config.ssh.listen.port()
        )
    }

    /// Runs a command; returns its exit status: 0, 1 when it failed, 2 when its words are off.
    pub async fn run(&self, caller: &Caller, words: Vec<String>, streams: Streams, hangup: CancellationToken) -> u8 {
        let out = Output::new(streams.stdout, streams.stderr);
        let command = match line::parse(words) {
            Parsed::Command(command) => *command,
            Parsed::Text(text) => {
                out.text(&text).await;
                return 0;
            }
            Parsed::Wrong(message) => {
                out.trouble(&message).await;
                return 2;
            }
        };
        let session_out = out.clone();
        let act = |progress| async move {
            let stdin = Mutex::new(streams.stdin);
            let mut session = Session { caller, stdin, out: session_out, progress, hangup };
            let acted = self.act(&mut session, command).await;
            if let Err(error) = &acted {
                explain(error, &session.out).await;
            }
            acted
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
        use Command as C;
        match command {
            C::Help { topic } => {
                session.out.text(&line::help(topic.as_deref()).map_err(CommandError::Refused)?).await;
                Ok(())
            }
            C::Version => {
                session.out.line(concat!("paas ", env!("CARGO_PKG_VERSION"))).await;
                Ok(())
            }
            C::Whoami => {
                let kind = if session.caller.admin { "admin" } else { "developer" };
                session.out.line(&format!("{} ({kind})", session.caller.name)).await;
                Ok(())
            }
            C::AppsCreate { app } => apps::create(self, session, app).await,
            C::AppsList { format } => apps::list(self, session, format).await,
            C::AppsInfo { app, format } => apps::info(self, session, app, format).await,
            C::AppsDestroy { app, force, confirm } => apps::destroy(self, session, app, force, confirm).await,
            C::AppsStack { app, stack, default } => stacks::choose(self, session, app, stack, default).await,
            C::AppsRebase { app, all, stack } => stacks::rebase(self, session, app, all, stack).await,
            C::StacksList { format } => stacks::list(self, session, format).await,
            C::StacksCreate { name, run_image, build_image } => {
                stacks::create(self, session, name, run_image, build_image).await
            }
            C::StacksUpdate { name } => stacks::update(self, session, name).await,
            C::StacksRemove { name } => stacks::remove(self, session, name).await,
            C::StacksReport { name, format } => stacks::report(self, session, name, format).await,
            C::ConfigSet { app, pairs, no_restart, encoded, build } => {
                config_vars::set(self, session, app, pairs, !no_restart, encoded, build).await
            }
            C::ConfigGet { app, name } => config_vars::get(self, session, app, name).await,
            C::ConfigUnset { app, names, no_restart } => {
                config_vars::unset(self, session, app, names, !no_restart).await
            }
            C::ConfigList { app, format } => config_vars::list(self, session, app, format).await,
            C::PsScale { app, quantities, format } => ps::scale(self, session, app, quantities, format).await,
            C::PsReport { app, format } => ps::report(self, session, app, format).await,
            C::PsRestart { app } => ps::restart(self, session, app).await,
            C::PsRebuild { app } => ps::rebuild(self, session, app).await,
            C::PsStop { app } => ps::set_stopped(self, session, app, true).await,
            C::PsStart { app } => ps::set_stopped(self, session, app, false).await,
            C::Logs { app, tail, num, ps } => logs::logs(self, session, app, tail, num, ps).await,
            C::ReleasesList { app, num, format } => releases::list(self, session, app, num, format).await,
            C::ReleasesRollback { app, release } => releases::rollback(self, session, app, release).await,
            C::PortsList { app, format } => ports::list(self, session, app, format).await,
            C::PortsSet { app, mappings } => ports::change(self, session, app, ports::Change::Set(mappings)).await,
            C::PortsAdd { app, mappings } => ports::change(self, session, app, ports::Change::Add(mappings)).await,
            C::PortsRemove { app, mappings } => {
                ports::change(self, session, app, ports::Change::Remove(mappings)).await
            }
            C::PortsClear { app } => ports::change(self, session, app, ports::Change::Set(Vec::new())).await,
            C::SshKeysAdd { name, admin } => ssh_keys::add(self, session, name, admin).await,
            C::SshKeysList { format } => ssh_keys::list(self, session, format).await,
            C::SshKeysRemove { name } => ssh_keys::remove(self, session, name).await,
            C::GitSet { app, property, value } => git::set(self, session, app, &property, &value).await,
            C::GitReport { app, format } => git::report(self, session, app, format).await,
            C::BuildsList { app, num, format } => builds::list(self, session, app, num, format).await,
            C::BuildsLog { app, number } => builds::log(self, session, app, number).await,
            C::BuildsInfo { app, number, format } => builds::info(self, session, app, number, format).await,
            C::BuildsSet { app, property, value } => builds::set(self, session, app, &property, value).await,
            C::BuildsClearCache { app } => builds::clear_cache(self, session, app).await,
            C::BuildpacksInstalled { format } => buildpacks::installed(self, session, format).await,
            C::BuildpacksInstall { source } => buildpacks::install(self, session, source).await,
            C::BuildpacksUninstall { name } => buildpacks::uninstall(self, session, name).await,
            C::BuildpacksList { app, format } => buildpacks::list(self, session, app, format).await,
            C::BuildpacksReport { app, format } => buildpacks::report(self, session, app, format).await,
            C::BuildpacksAdd { app, source, index } => {
                let position = index.map_or(BuildpackPosition::Last, BuildpackPosition::Before);
                buildpacks::choose(self, session, app, source, position).await
            }
            C::BuildpacksSet { app, source, index } => {
                let position = index.map_or(BuildpackPosition::Only, BuildpackPosition::InPlaceOf);
                buildpacks::choose(self, session, app, source, position).await
            }
            C::BuildpacksRemove { app, source } => buildpacks::remove(self, session, app, Some(source)).await,
            C::BuildpacksClear { app } => buildpacks::remove(self, session, app, None).await,
            C::Url { app, format } => apps::url(self, session, app, format).await,
        }
    }

    /// The app, if it is there and the caller's to act on; what is somebody else's looks like what is not there.
    async fn app(&self, session: &Session<'_>, name: AppName) -> Result<App> {
        let found = self.store.find_app(name.clone()).await?;
        found.filter(|app| session.caller.may_use(app)).ok_or_else(|| {
            CommandError::Refused(format!("there is no app named {name}, or it is not yours; apps:list shows yours"))
        })
    }

    /// The apps that the caller may act on.
    async fn apps(&self, session: &Session<'_>) -> Result<Vec<App>> {
        let apps = self.store.apps().await?;
        Ok(apps.into_iter().filter(|app| !app.destroying && session.caller.may_use(app)).collect())
    }
}

/// Says why a command failed, with what a failed instance said last.
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
