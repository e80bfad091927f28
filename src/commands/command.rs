//! All commands, in the order in which `help` lists them.

use clap::{Parser, Subcommand};

use super::{
    access::AccessCommand, apps::AppsCommand, bindings::BindingsCommand, buildpacks::BuildpacksCommand,
    builds::BuildsCommand, checks::ChecksCommand, config_vars::ConfigCommand, cron::CronCommand, disk::DiskCommand,
    events::EventsCommand, git::GitCommand, images::ImagesCommand, links::LinksCommand, logs::LogsCommand,
    network::NetworkCommand, output::Format, ports::PortsCommand, ps::PsCommand, quota::QuotaCommand,
    registry::RegistryCommand, releases::ReleasesCommand, resource::ResourceCommand, run::RunCommand,
    ssh_keys::SshKeysCommand, stacks::StacksCommand, storage::StorageCommand, tokens::TokensCommand,
    users::UsersCommand, webhooks::WebhooksCommand,
};
use crate::operations::{ListPeriodic, ShowUrls, ShowVersion, WhoAmI};

/// A command and its arguments.
#[derive(Debug, Parser)]
#[command(name = "paas", no_binary_name = true, disable_help_subcommand = true, disable_version_flag = true)]
pub(super) struct CommandLine {
    #[command(subcommand)]
    pub(super) command: Command,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(super) format: Format,
}

/// Each variant is a command or the commands of a noun. The first line of a command's doc comment is its help.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the commands, or explain those of a noun.
    #[command(name = "help", after_help = "Examples: help ps\n          help ps:scale")]
    Help {
        /// A noun such as `ps`, or a command such as `ps:scale`.
        topic: Option<String>,
    },
    /// Print the server's version.
    #[command(name = "version", after_help = "Example: version --format json")]
    Version(ShowVersion),
    /// Print the name of the caller, and what kind of user that is.
    #[command(name = "whoami", after_help = "Example: whoami")]
    WhoAmI(WhoAmI),
    #[command(flatten)]
    Apps(AppsCommand),
    #[command(flatten)]
    Links(LinksCommand),
    #[command(flatten)]
    Stacks(StacksCommand),
    #[command(flatten)]
    Access(AccessCommand),
    #[command(flatten)]
    Config(ConfigCommand),
    #[command(flatten)]
    Bindings(BindingsCommand),
    #[command(flatten)]
    Ps(PsCommand),
    #[command(flatten)]
    Resource(ResourceCommand),
    #[command(flatten)]
    Checks(ChecksCommand),
    #[command(flatten)]
    Run(RunCommand),
    #[command(flatten)]
    Cron(CronCommand),
    /// Print the logs of an app's instances.
    #[command(name = "logs", after_help = "Examples: logs my-app -t -p web\n          logs my-app --since 10m -q")]
    Logs(LogsCommand),
    #[command(flatten)]
    Ports(PortsCommand),
    #[command(flatten)]
    Network(NetworkCommand),
    #[command(flatten)]
    Storage(StorageCommand),
    #[command(flatten)]
    Git(GitCommand),
    #[command(flatten)]
    Builds(BuildsCommand),
    #[command(flatten)]
    Webhooks(WebhooksCommand),
    #[command(flatten)]
    Registry(RegistryCommand),
    #[command(flatten)]
    Images(ImagesCommand),
    #[command(flatten)]
    Releases(ReleasesCommand),
    #[command(flatten)]
    SshKeys(SshKeysCommand),
    #[command(flatten)]
    Tokens(TokensCommand),
    /// Serve a client of the Model Context Protocol on the standard streams; its tools are the operations.
    #[command(
        name = "mcp",
        after_help = "Example: a client gets the command `ssh` with the arguments -p 2222 paas@HOST mcp, and no terminal (-t)."
    )]
    Mcp,
    #[command(flatten)]
    Users(UsersCommand),
    #[command(flatten)]
    Quota(QuotaCommand),
    #[command(flatten)]
    Events(EventsCommand),
    #[command(flatten)]
    Buildpacks(BuildpacksCommand),
    /// List what the server does from time to time, with the last run and its result.
    #[command(name = "periodic:list", alias = "periodic", after_help = "Example: periodic:list")]
    Periodic(ListPeriodic),
    #[command(flatten)]
    Disk(DiskCommand),
    /// Print the app's URLs.
    #[command(name = "url", alias = "urls", after_help = "Example: url my-app")]
    Url(ShowUrls),
}
