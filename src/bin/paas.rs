//! The command line: `paas server`, `paas router`, `paas build`, `paas buildpack`, and every `noun:verb` that the server answers.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use paas::{api, config::Config, local, receive, router, server};
use tokio_util::sync::CancellationToken;

/// A request through the router allocates some twenty times: this allocator takes a tenth less CPU than glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A git-push deployment server.
#[derive(Parser)]
#[command(name = "paas", version, disable_help_subcommand = true, after_help = AFTER)]
struct Line {
    /// The configuration file; default: $PAAS_CONFIG, or /etc/paas/paas.toml if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    face: Face,
}

const AFTER: &str =
    "Everything else, such as `paas apps:list`, is answered by the running server: `paas help` lists it.";

#[derive(Subcommand)]
enum Face {
    /// Runs the control plane: SSH, builds, releases, the registry.
    Server,
    /// Runs the data plane: balances the mapped ports to healthy instances.
    Router,
    /// Makes the stack's images, which the first start of the server would do otherwise.
    Stack,
    /// Stops this server's instances while the server is stopped; its next start brings them back.
    Halt,
    /// Removes all that this server has on the engine, while it is stopped: containers, networks, images, packet filters.
    Purge {
        /// What `paas build` and `paas buildpack` have there instead, and their folder; images that they made stay.
        #[arg(long)]
        local: bool,
    },
    /// Prints the configuration that is in force, with every key.
    Config,
    /// Makes an image of a folder, without a server.
    Build {
        /// The app's folder.
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// A buildpack (an id, a folder, .tgz or .cnb, a git URL, docker://IMAGE); several in their order.
        #[arg(long, value_name = "BUILDPACK")]
        buildpack: Vec<String>,
        /// What the image is called on the engine; the folder's name without it.
        #[arg(long, value_name = "NAME")]
        tag: Option<String>,
        /// A variable of the build.
        #[arg(long, value_name = "NAME=VALUE")]
        env: Vec<String>,
        /// Forget what the builds before have cached.
        #[arg(long)]
        clear_cache: bool,
    },
    /// For authors of buildpacks.
    #[command(subcommand)]
    Buildpack(Author),
    #[command(hide = true)]
    Hook,
    /// Whatever the running server answers.
    #[command(external_subcommand)]
    Command(Vec<String>),
}

#[derive(Subcommand)]
enum Author {
    /// Writes the skeleton of a new buildpack, which works as it is.
    New {
        /// Its id, such as acme/elixir.
        id: String,
        /// Its folder; the last part of the id without it.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Builds an app with it three times, starts what came out, and reports.
    Test {
        /// The buildpack's folder.
        folder: PathBuf,
        /// The folder of an app that it builds.
        #[arg(long)]
        app: PathBuf,
        /// Folders of buildpacks that it names, if it is a composite one.
        #[arg(long, value_name = "FOLDER")]
        with: Vec<PathBuf>,
    },
    /// Makes one file (NAME.cnb, which `docker load` reads, too) or one folder of it, with the helper inside.
    Package {
        /// The buildpack's folder.
        folder: PathBuf,
        /// What is made: a name that ends in .cnb, or a new folder.
        output: PathBuf,
        /// Folders of buildpacks that it names, if it is a composite one.
        #[arg(long, value_name = "FOLDER")]
        with: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let line = Line::parse();
    if matches!(line.face, Face::Hook) {
        return receive::hook::run();
    }
    match run(line) {
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

fn run(line: Line) -> anyhow::Result<ExitCode> {
    let given = line.config.or_else(|| std::env::var_os("PAAS_CONFIG").map(PathBuf::from));
    let required = given.is_some();
    let path = given.unwrap_or_else(|| PathBuf::from("/etc/paas/paas.toml"));
    let named = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("PAAS_"))?;
        Some((name, value.to_string_lossy().into_owned()))
    };
    let config = Config::load(&path, required, std::env::vars_os().filter_map(named))?;
    match line.face {
        Face::Command(words) => {
            let code = runtime(1)?.block_on(api::client::run(&api::socket_path(&config.data_dir), words))?;
            // Not by returning: a read of standard input may be pending, and the runtime would wait for it.
            std::process::exit(i32::from(code));
        }
        Face::Config => {
            use std::io::Write as _;
            let mut text = toml::to_string_pretty(&config).context("cannot print the configuration")?;
            text.push_str(Config::UNSET);
            std::io::stdout().write_all(text.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Face::Server => {
            trace();
            let runtime = runtime(0)?;
            runtime
                .block_on(async { server::run(Arc::new(config), on_signal()?).await.map_err(anyhow::Error::from) })?;
            Ok(ExitCode::SUCCESS)
        }
        Face::Stack => {
            let making = async { server::prepare_stack(&config, on_signal()?).await.map_err(anyhow::Error::from) };
            runtime(0)?.block_on(making)?;
            Ok(ExitCode::SUCCESS)
        }
        Face::Halt => {
            runtime(1)?.block_on(server::halt(&config))?;
            Ok(ExitCode::SUCCESS)
        }
        Face::Purge { local: false } => {
            runtime(1)?.block_on(server::purge(&config))?;
            Ok(ExitCode::SUCCESS)
        }
        Face::Purge { local: true } => {
            eprintln!("       {}", runtime(1)?.block_on(local::purge(&config))?);
            Ok(ExitCode::SUCCESS)
        }
        Face::Router => {
            trace();
            let runtime = runtime(1)?;
            let shutdown = runtime.block_on(async { on_signal() })?;
            let _guard = runtime.enter();
            router::run(&config, shutdown)?;
            Ok(ExitCode::SUCCESS)
        }
        Face::Build { folder, buildpack, tag, env, clear_cache } => {
            let variable = |text: String| {
                let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
                let (name, value) = pair.with_context(|| format!("{text:?} is no NAME=VALUE"))?;
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
        Face::Buildpack(Author::New { id, dir }) => {
            let dir = dir.unwrap_or_else(|| id.rsplit('/').next().unwrap_or(&id).into());
            local::new_buildpack(&id, &dir)?;
            eprintln!("       {} is a buildpack now; next: paas buildpack test {0} --app {0}/example", dir.display());
            Ok(ExitCode::SUCCESS)
        }
        Face::Buildpack(Author::Test { folder, app, with }) => {
            let test = local::BuildpackTest { buildpack: &folder, with: &with, app: &app };
            runtime(0)?
                .block_on(async { local::test(&config, &test, on_signal()?).await.map_err(anyhow::Error::from) })?;
            Ok(ExitCode::SUCCESS)
        }
        Face::Buildpack(Author::Package { folder, output, with }) => {
            let package = local::package(&folder, &with, &config.lifecycle(), &output)?;
            for buildpack in package.all {
                eprintln!("       {} ({})", buildpack.about.full_name(), buildpack.digest);
            }
            Ok(ExitCode::SUCCESS)
        }
        Face::Hook => unreachable!("answered before the configuration is read"),
    }
}

/// A runtime with this many workers; 0 for one a core.
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
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// Ends at SIGTERM or SIGINT.
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
