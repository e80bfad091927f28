//! All commands, in the order in which `help` lists them.

use clap::{Parser, Subcommand};

use super::{
    apps::AppsCommand, buildpacks::BuildpacksCommand, builds::BuildsCommand, config_vars::ConfigCommand,
    git::GitCommand, output::Format, ports::PortsCommand, ps::PsCommand, releases::ReleasesCommand,
    ssh_keys::SshKeysCommand, stacks::StacksCommand,
};
use crate::model::{AppName, ProcessType};

/// A command and its arguments.
#[derive(Debug, Parser)]
#[command(name = "paas", no_binary_name = true, disable_help_subcommand = true, disable_version_flag = true)]
pub(super) struct CommandLine {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Each variant is a command or the commands of a noun. The first line of a command's doc comment is its help.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the commands, or explain those of a noun.
    #[command(name = "help")]
    Help {
        /// A noun such as `ps`, or a command such as `ps:scale`.
        topic: Option<String>,
    },
    /// Print the server's version.
    #[command(name = "version")]
    Version,
    /// Print the name of the caller's key, and whether it is an admin key.
    #[command(name = "whoami")]
    Whoami,
    #[command(flatten)]
    Apps(AppsCommand),
    #[command(flatten)]
    Stacks(StacksCommand),
    #[command(flatten)]
    Config(ConfigCommand),
    #[command(flatten)]
    Ps(PsCommand),
    /// Print the logs of an app's instances.
    #[command(name = "logs", after_help = "Example: logs my-app -t -p web")]
    Logs {
        app: AppName,
        /// Continue with new lines as they are written.
        #[arg(short, long)]
        tail: bool,
        /// Number of past lines.
        #[arg(short, long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
        num: u32,
        /// Only lines of this process type; `release` shows releases, and `router` requests that no instance answered.
        #[arg(short, long, value_name = "TYPE")]
        ps: Option<ProcessType>,
    },
    #[command(flatten)]
    Releases(ReleasesCommand),
    #[command(flatten)]
    Ports(PortsCommand),
    #[command(flatten)]
    SshKeys(SshKeysCommand),
    #[command(flatten)]
    Git(GitCommand),
    #[command(flatten)]
    Builds(BuildsCommand),
    #[command(flatten)]
    Buildpacks(BuildpacksCommand),
    /// Print the app's URLs.
    #[command(name = "url", alias = "urls", after_help = "Example: url my-app")]
    Url {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}
