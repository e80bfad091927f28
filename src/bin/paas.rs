//! The command line: `paas server`, `paas router`, `paas build`, `paas buildpack`, `paas remote`, and every `noun:verb` command of
//! the server, here or elsewhere.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use paas::{
    commands,
    config::Config,
    data_dir, git, local,
    oom_score::OomScore,
    operations::{Failure, FailureKind},
    receive,
    remote::{self, Environment, Keep, Place, Typed},
    router, server,
    socket::{self, SocketError},
};
use tokio_util::sync::CancellationToken;

/// A request through the router allocates about twenty times: with this allocator it takes a tenth less CPU than with
/// glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A git-push deployment server.
#[derive(Parser)]
#[command(name = "paas", version, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Cli {
    /// The configuration file; default: $PAAS_CONFIG, or /etc/paas/paas.toml if it exists.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The remote on which a command is run (`paas remote list`); default: $PAAS_REMOTE, or, without a server here, the default one.
    #[arg(short, long, value_name = "NAME")]
    remote: Option<String>,
    /// The app that a command is about; default on a remote: the one to which a git remote of this folder leads.
    #[arg(short, long, value_name = "APP")]
    app: Option<String>,
    #[command(subcommand)]
    command: CliCommand,
}

const AFTER_HELP: &str = "Every other command, such as `paas apps:list`, is run by the server: `paas help` lists them. \
                          `paas -r prod apps:list` runs it on a server elsewhere.";

#[derive(Subcommand)]
enum CliCommand {
    /// Runs the control plane: SSH, builds, releases, the registry.
    Server,
    /// Runs the data plane: balances the mapped ports to healthy instances.
    Router,
    /// Makes the stack's images, which otherwise the first start of the server does.
    Stack,
    /// Stops this server's instances, while the server is stopped; the next start of the server starts them again.
    Halt,
    /// Removes everything of this server from the engine, while the server is stopped: containers, networks, images, packet filters.
    Purge {
        /// Do so for `paas build` and `paas buildpack` instead, including their folder; the images that they built are kept.
        #[arg(long)]
        local: bool,
    },
    /// Prints the configuration that is in force, with every key.
    Config,
    /// Builds an image from a folder, without a server.
    Build {
        /// The app's folder.
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// A buildpack (an id, a folder, .tgz or .cnb, a git URL, docker://IMAGE); may be repeated, in order.
        #[arg(long, value_name = "BUILDPACK")]
        buildpack: Vec<String>,
        /// Name of the image on the engine; by default, the folder's name.
        #[arg(long, value_name = "NAME")]
        tag: Option<String>,
        /// A variable of the build.
        #[arg(long, value_name = "NAME=VALUE")]
        env: Vec<String>,
        /// Delete the build cache first; no layer of the previous image is reused, either.
        #[arg(long)]
        clear_cache: bool,
    },
    /// Keeps the addresses of servers elsewhere.
    #[command(subcommand)]
    Remote(Keep),
    /// Prints the URL of an app, and opens it if there is a display.
    #[command(after_help = "Example: paas -r prod open my-app")]
    Open {
        /// The app.
        app: Option<String>,
    },
    /// Prints a completion script for a shell.
    #[command(after_help = "Example: source <(paas completions bash)")]
    Completions {
        /// The shell.
        shell: commands::Shell,
    },
    /// Tools for buildpack authors.
    #[command(subcommand)]
    Buildpack(BuildpackCommand),
    #[command(hide = true)]
    Hook,
    #[command(hide = true)]
    GitReader,
    #[command(hide = true)]
    GitImport,
    /// A command that the server runs.
    #[command(external_subcommand)]
    Command(Vec<String>),
}

#[derive(Subcommand)]
enum BuildpackCommand {
    /// Writes the skeleton of a new buildpack, which already works.
    New {
        /// Id of the buildpack, such as acme/elixir.
        id: String,
        /// Folder of the buildpack; by default, the last part of the id.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Builds an app three times with a buildpack, starts the image, and reports.
    Test {
        /// The buildpack's folder.
        folder: PathBuf,
        /// The folder of an app that the buildpack builds.
        #[arg(long)]
        app: PathBuf,
        /// Folders of buildpacks that it refers to, if it is a composite buildpack.
        #[arg(long, value_name = "FOLDER")]
        with: Vec<PathBuf>,
    },
    /// Packages a buildpack with the helper: as one file (NAME.cnb, which `docker load` reads, too) or as a folder.
    Package {
        /// The buildpack's folder.
        folder: PathBuf,
        /// Path of the package: a name that ends in .cnb, or a new folder.
        output: PathBuf,
        /// Folders of buildpacks that it refers to, if it is a composite buildpack.
        #[arg(long, value_name = "FOLDER")]
        with: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let run = match cli.command {
        CliCommand::Hook => return receive::hook::run(),
        CliCommand::GitReader => return git::reader_process::run(),
        CliCommand::GitImport => return git::import_process::run(),
        _ => run(cli),
    };
    match run {
        Ok(code) => code,
        Err(error) => {
            let mut text = error.to_string();
            for cause in error.chain().skip(1).map(ToString::to_string) {
                if !text.contains(&cause) {
                    text = format!("{text}: {cause}");
                }
            }
            eprintln!(" !     {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let given = cli.config.or_else(|| std::env::var_os("PAAS_CONFIG").map(PathBuf::from));
    let required = given.is_some();
    let path = given.clone().unwrap_or_else(|| PathBuf::from("/etc/paas/paas.toml"));
    let is_for_server = matches!(cli.command, CliCommand::Command(_) | CliCommand::Open { .. });
    anyhow::ensure!(
        is_for_server || (cli.remote.is_none() && cli.app.is_none()),
        "this command runs on this machine and is about no app of a server; leave out --remote and --app"
    );
    let command = match cli.command {
        CliCommand::Completions { shell } => return print(&commands::completions(shell, Cli::command())),
        CliCommand::Remote(keep) => return print(&keep.run(&Environment::of_process())?),
        CliCommand::Command(words) => {
            let typed = Typed { remote: cli.remote, app: cli.app, words };
            // Before the configuration is read, which may be another's.
            match Environment::of_process().place(typed, required || server_is_here(&path))? {
                Place::Here(words) => CliCommand::Command(words),
                Place::Remote(command) => return Err(command.run().into()),
            }
        }
        CliCommand::Open { app } => {
            let words = std::iter::once("url".to_owned()).chain(app).collect();
            let typed = Typed { remote: cli.remote, app: cli.app, words };
            return open(given.as_deref(), Environment::of_process().place(typed, required || server_is_here(&path))?);
        }
        command => command,
    };
    let named = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("PAAS_"))?;
        Some((name, value.to_string_lossy().into_owned()))
    };
    let config = Config::load(&path, required, std::env::vars_os().filter_map(named))?;
    if matches!(
        command,
        CliCommand::Server
            | CliCommand::Router
            | CliCommand::Stack
            | CliCommand::Halt
            | CliCommand::Purge { local: false }
    ) {
        data_dir::close_new_files();
    }
    match command {
        CliCommand::Command(words) => {
            let runtime = runtime(1)?;
            let code = runtime.block_on(run_on_server(&socket::path(&config.data_dir), words))?;
            // To drop the runtime would wait for a pending read of standard input, such as a terminal.
            std::process::exit(i32::from(code));
        }
        CliCommand::Config => {
            let mut text = toml::to_string_pretty(&config).context("cannot print the configuration")?;
            text.push_str(Config::UNSET);
            print(&text)
        }
        CliCommand::Server => {
            trace();
            OomScore::Server.apply();
            let runtime = runtime(0)?;
            runtime
                .block_on(async { server::run(Arc::new(config), on_signal()?).await.map_err(anyhow::Error::from) })?;
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Stack => {
            let making = async { server::prepare_stack(&config, on_signal()?).await.map_err(anyhow::Error::from) };
            runtime(0)?.block_on(making)?;
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Halt => {
            runtime(1)?.block_on(server::halt(&config))?;
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Purge { local: false } => {
            runtime(1)?.block_on(server::purge(&config))?;
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Purge { local: true } => {
            eprintln!("       {}", runtime(1)?.block_on(local::purge(&config))?);
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Router => {
            trace();
            OomScore::Router.apply();
            router::raise_priority();
            let runtime = runtime(1)?;
            let shutdown = runtime.block_on(async { on_signal() })?;
            let _guard = runtime.enter();
            router::run(&config, shutdown)?;
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Build { folder, buildpack, tag, env, clear_cache } => {
            let variable = |text: String| {
                let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
                let (name, value) = pair.with_context(|| format!("{text:?} is not of the form NAME=VALUE"))?;
                Ok((name.to_owned(), value.to_owned()))
            };
            let build = local::FolderBuild {
                buildpacks: buildpack.iter().map(|text| local::buildpack_source(text)).collect::<Result<_, _>>()?,
                env: env.into_iter().map(variable).collect::<anyhow::Result<_>>()?,
                folder,
            };
            runtime(0)?.block_on(async {
                local::build(&config, &build, tag, clear_cache, on_signal()?).await.map_err(anyhow::Error::from)
            })?;
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Buildpack(BuildpackCommand::New { id, dir }) => {
            let dir = dir.unwrap_or_else(|| id.rsplit('/').next().unwrap_or(&id).into());
            local::new_buildpack(&id, &dir)?;
            eprintln!(
                "       created the buildpack {}; next: paas buildpack test {0} --app {0}/example",
                dir.display()
            );
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Buildpack(BuildpackCommand::Test { folder, app, with }) => {
            let test = local::BuildpackTest { buildpack: &folder, with: &with, app: &app };
            runtime(0)?
                .block_on(async { local::test(&config, &test, on_signal()?).await.map_err(anyhow::Error::from) })?;
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Buildpack(BuildpackCommand::Package { folder, output, with }) => {
            let package = local::package(&folder, &with, &config.lifecycle(), &output)?;
            for buildpack in package.all {
                eprintln!("       {} ({})", buildpack.about.full_name(), buildpack.digest);
            }
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Hook
        | CliCommand::GitReader
        | CliCommand::GitImport
        | CliCommand::Completions { .. }
        | CliCommand::Remote(_)
        | CliCommand::Open { .. } => {
            unreachable!("answered before the configuration is read")
        }
    }
}

/// Whether a server runs on this machine, or is set up on it.
fn server_is_here(config: &Path) -> bool {
    config.exists() || std::env::var_os("PAAS_DATA_DIR").is_some() || socket::path(&Config::default().data_dir).exists()
}

/// Prints and opens the URL that the command `url` prints, here or on a remote.
fn open(config: Option<&Path>, place: Place) -> anyhow::Result<ExitCode> {
    let mut here = std::process::Command::new(std::env::current_exe()?);
    here.args(config.iter().flat_map(|path| [Path::new("--config"), path])).env_remove("PAAS_REMOTE");
    let output = remote::output(place, here)?;
    if !output.status.success() {
        let status = output.status.code().and_then(|code| u8::try_from(code).ok());
        return Ok(status.map_or(ExitCode::FAILURE, ExitCode::from));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let url = remote::first_url(&printed)?;
    print(&format!("{url}\n"))?;
    remote::show(url)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a command on the server; returns its exit status.
async fn run_on_server(socket: &Path, words: Vec<String>) -> anyhow::Result<u8> {
    let request = words.join(" ");
    match socket::client::run(socket, words).await {
        Ok(code) => Ok(code),
        Err(error) => {
            let streams = commands::Streams {
                stdin: Box::new(tokio::io::empty()),
                stdout: Box::new(socket::client::own(std::io::stdout())?),
                stderr: Box::new(socket::client::own(std::io::stderr())?),
                terminal: None,
            };
            let kind = match error {
                SocketError::NotAllowed { .. } => FailureKind::Denied,
                SocketError::Protocol { .. } => FailureKind::Conflict,
                SocketError::Bind { .. }
                | SocketError::Running { .. }
                | SocketError::NoServer { .. }
                | SocketError::Broken(_)
                | SocketError::Ended => FailureKind::Unavailable,
            };
            let failure = Failure::new(kind, error.to_string());
            Ok(commands::refuse(streams, &request, &failure).await)
        }
    }
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// A runtime with this many worker threads; 0 for one per core.
fn runtime(workers: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if workers > 0 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().context("cannot start the runtime")
}

fn trace() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PAAS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,russh=warn"));
    // It logs what clients of the Model Context Protocol send, which may be secret, and as often as they like.
    let filter = match "rmcp=off".parse() {
        Ok(silent) => filter.add_directive(silent),
        Err(_) => filter,
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// A token that SIGTERM or SIGINT cancels.
fn on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let token = CancellationToken::new();
    let ending = token.clone();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        ending.cancel();
    });
    Ok(token)
}
