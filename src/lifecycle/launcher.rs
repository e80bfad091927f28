//! The launcher (platform.md, "launcher"): the entrypoint of every app image. It sets up the environment that the layers
//! contribute, and runs the process: as the first process of the container it starts it and is its init ([`init`]), anywhere else
//! it becomes it.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

mod closed_address;
mod ending;
mod init;
mod process_table;
mod program;
#[cfg(test)]
mod properties;
mod signal;

pub use closed_address::CLOSED_ADDRESS;
use init::SignalReceiver;
use rustix::process::Signal;
use serde::Deserialize;

use super::{
    descriptor::Api,
    dirs::Dirs,
    env::{self, Env, Moment},
    exec_d,
    exec_env::{self, EXEC_ENV},
    files,
    line_ends::{self, Remedy},
};
use crate::model::Process;

/// Exit status for errors of the launcher itself, as the specification defines it.
const CANNOT_LAUNCH: u8 = 82;

/// Exit statuses for a command of the caller's that does not exist or cannot be executed, as a shell has them.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Variables that only the launcher gets.
const OWN: [&str; 9] = [
    "CNB_LAYERS_DIR",
    "CNB_APP_DIR",
    "CNB_PROCESS_TYPE",
    "CNB_PLATFORM_API",
    "CNB_DEPRECATION_MODE",
    "CNB_EXEC_ENV",
    STOP_SIGNAL,
    STOP_SECONDS,
    CLOSED_ADDRESS,
];

/// Path of the launcher in every app image.
pub const LAUNCHER: &str = "/cnb/lifecycle/launcher";

/// Variable with the signal that asks the container to end, in the form of `STOPSIGNAL` of a Dockerfile; otherwise `SIGTERM`.
pub const STOP_SIGNAL: &str = "PAAS_STOP_SIGNAL";

/// Variable with the grace period, in seconds: the time from that signal until the engine kills what still runs.
pub const STOP_SECONDS: &str = "PAAS_STOP_SECONDS";

/// Grace period of a container that another platform starts: that of the engine.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// Label of images whose launcher is an init. Before, the engine's init had to be in front of it.
pub const INIT_LABEL: (&str, &str) = ("paas.launcher", "init");

/// Label of images whose launcher waits until [`CLOSED_ADDRESS`] is closed.
pub const WAIT_LABEL: (&str, &str) = ("paas.launcher.waits", "closed-address");

/// Folders of the search path that contain the launcher.
const OWN_PATH: [&str; 2] = ["/cnb/process", "/cnb/lifecycle"];

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    buildpacks: Vec<Buildpack>,
    #[serde(default)]
    processes: Vec<Declared>,
}

#[derive(Debug, Deserialize)]
struct Buildpack {
    id: String,
    #[serde(default)]
    api: String,
}

#[derive(Debug, Deserialize)]
struct Declared {
    #[serde(flatten)]
    process: Process,
    #[serde(default, rename = "buildpack-id")]
    buildpack: String,
    #[serde(default, rename = "exec-env")]
    exec_env: Vec<String>,
}

/// A command and how it is run.
#[derive(Debug, PartialEq, Eq)]
struct Start {
    /// Process type; empty for a command that the caller gives.
    process_type: String,
    command: Vec<String>,
    /// Arguments, which the caller may replace.
    args: Vec<String>,
    direct: bool,
    working_dir: PathBuf,
}

/// Runs the process of this type; without a type, the command that the caller gives.
pub(super) fn run(process_type: Option<&str>, words: &[String]) -> ExitCode {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let env: Env = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    let folder = |name: &str, default: PathBuf| env.get(name).filter(|dir| !dir.is_empty()).map_or(default, Into::into);
    let mut dirs = Dirs::default();
    dirs.layers = folder("CNB_LAYERS_DIR", dirs.layers);
    dirs.workspace = folder("CNB_APP_DIR", dirs.workspace);
    let stop = stop_settings(&env);
    let unusable = env.get(STOP_SIGNAL).filter(|text| signal::parse(text).is_none() && !signal::is_kill(text));
    if let Some(signal) = unusable.filter(|_| is_first_process()) {
        eprintln!(
            " !     no process can be asked to end with the image's STOPSIGNAL {signal}: it will be killed; change it to SIGTERM"
        );
    }
    let start = || {
        closed_address::wait(&env)?;
        launch(&dirs, env, process_type, words)
    };
    let launched = run_launched(start, stop, process_type.is_none());
    launched.unwrap_or_else(|(error, status)| {
        eprintln!(" !     cannot start {}: {error}", process_type.unwrap_or("the process"));
        ExitCode::from(status)
    })
}

/// Runs a command; an error comes with the exit status for it.
fn run_launched(
    command: impl FnOnce() -> Result<Command, String>,
    stop: init::Stop,
    given: bool,
) -> Result<ExitCode, (String, u8)> {
    let own = |error: io::Error| (error.to_string(), CANNOT_LAUNCH);
    // Before programs of the layers run: they may take time.
    let signals = if is_first_process() { Some(SignalReceiver::register(stop.signal).map_err(own)?) } else { None };
    let mut command = command().map_err(|message| (message, CANNOT_LAUNCH))?;
    let script = script_with_crlf(&command);
    if let Some(script) = &script {
        // Seen beside what the shell makes of it.
        eprintln!(" !     {}", line_ends::message(script, Remedy::Convert));
    }
    let cannot_start = |command: &Command, error: io::Error| {
        let status = match error.kind() {
            io::ErrorKind::NotFound if given => NOT_FOUND,
            io::ErrorKind::PermissionDenied if given => NOT_EXECUTABLE,
            _ => CANNOT_LAUNCH,
        };
        let message = match (&script, missing_interpreter(command)) {
            (Some(script), _) => line_ends::message(script, Remedy::Convert),
            (None, Some(interpreter)) => format!(
                "{} is to be run by {interpreter}, which the image does not have",
                command.get_program().display()
            ),
            (None, None) => format!("{}: {error}", command.get_program().display()),
        };
        (message, status)
    };
    match signals {
        Some(signals) if !program::is_init(Path::new(command.get_program())) => {
            let init = init::start(&mut command, stop, signals).map_err(|error| cannot_start(&command, error))?;
            // Its environment is not needed any more.
            drop(command);
            init.run().map(ExitCode::from).map_err(own)
        }
        Some(_) | None => {
            let error = command.exec();
            Err(cannot_start(&command, error))
        }
    }
}

fn is_first_process() -> bool {
    std::process::id() == 1
}

/// The script of a command that has Windows line ends.
fn script_with_crlf(command: &Command) -> Option<PathBuf> {
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
    line_ends::script_with_crlf(Path::new(command.get_program()), &args, folder_of(command))
}

/// The folder in which a command starts.
fn folder_of(command: &Command) -> &Path {
    command.get_current_dir().unwrap_or(Path::new("/"))
}

/// The interpreter that the first line of the program names, if it does not exist.
fn missing_interpreter(command: &Command) -> Option<String> {
    let line = line_ends::first_line(&folder_of(command).join(command.get_program()))?;
    let interpreter = line.trim_start_matches("#!").split_ascii_whitespace().next()?.to_owned();
    (!Path::new(&interpreter).exists()).then_some(interpreter)
}

/// How the container is to be ended.
fn stop_settings(env: &Env) -> init::Stop {
    let signal = env.get(STOP_SIGNAL).and_then(|text| signal::parse(text)).unwrap_or(Signal::TERM);
    let seconds = env.get(STOP_SECONDS).and_then(|text| text.parse().ok());
    init::Stop { signal, grace: seconds.map_or(DEFAULT_GRACE, Duration::from_secs) }
}

fn launch(dirs: &Dirs, mut env: Env, process_type: Option<&str>, words: &[String]) -> Result<Command, String> {
    let config: Config = files::read_toml(&dirs.launch_config())?;
    let exec_env = env.get("CNB_EXEC_ENV").filter(|name| !name.is_empty()).map_or(EXEC_ENV, String::as_str);
    let start = match process_type {
        Some(process_type) => declared(&config, process_type, exec_env, words, &dirs.workspace)?,
        None => given(words, &dirs.workspace)?,
    };
    env.retain(|name, _| !OWN.contains(&name.as_str()));
    if let Some(path) = env.get_mut("PATH") {
        *path = path.split(':').filter(|folder| !OWN_PATH.contains(folder)).collect::<Vec<_>>().join(":");
    }
    let mut all = Vec::new();
    for buildpack in &config.buildpacks {
        let layers = layer_folders(&dirs.layers_of(&buildpack.id))
            .map_err(|e| format!("cannot read the layers of {}: {e}", buildpack.id))?;
        env::add_layers(&mut env, &layers, Moment::Launch(&start.process_type))?;
        all.extend(layers);
    }
    for program in scripts(&all, "exec.d", &start.process_type) {
        exec_d::run(&program, &mut env, &dirs.workspace)?;
    }
    let mut command = if start.direct {
        let mut command = Command::new(find(&start.command[0], &env));
        // Programs of several names look at the one that they are called by.
        command.arg0(&start.command[0]);
        command.args(&start.command[1..]).args(&start.args).current_dir(&start.working_dir);
        command
    } else {
        in_shell(dirs, &start, &scripts(&all, "profile.d", &start.process_type))
    };
    command.env_clear().envs(&env);
    Ok(command)
}

/// A process of the image. The caller's words replace its arguments, or follow them if its buildpack has an API before 0.9.
fn declared(
    config: &Config,
    process_type: &str,
    exec_env: &str,
    words: &[String],
    app: &Path,
) -> Result<Start, String> {
    let found = config.processes.iter().find(|declared| declared.process.process_type.as_str() == process_type);
    let Some(Declared { process, buildpack, exec_env: own }) = found else {
        let known: Vec<_> = config.processes.iter().map(|d| d.process.process_type.as_str()).collect();
        return Err(format!("the image has no process type {process_type}; it has: {}", known.join(", ")));
    };
    if !exec_env::includes(own, exec_env) {
        let own = own.join(", ");
        return Err(format!(
            "the process type {process_type} is for the execution environment {own}, not for {exec_env}: set CNB_EXEC_ENV"
        ));
    }
    let api = config.buildpacks.iter().find(|b| b.id == *buildpack).and_then(|b| Api::parse(&b.api).ok());
    let appended = process.command.len() == 1 && api.is_some_and(|api| api < Api(0, 9));
    let args = match (words.is_empty(), appended) {
        (true, _) => process.args.clone(),
        (false, true) => [process.args.as_slice(), words].concat(),
        (false, false) => words.to_vec(),
    };
    Ok(Start {
        process_type: process_type.to_owned(),
        command: process.command.clone(),
        args,
        direct: process.direct,
        working_dir: process.working_dir.as_ref().map_or_else(|| app.to_owned(), |dir| app.join(dir)),
    })
}

/// A command that is not a process of the image: after `--` it is run as it is, else in a shell.
fn given(words: &[String], app: &Path) -> Result<Start, String> {
    let (direct, words) = match words {
        [first, rest @ ..] if first == "--" => (true, rest),
        words => (false, words),
    };
    let (first, rest) = words.split_first().ok_or("no command is given; write -- COMMAND, or a process type")?;
    let (command, args) = (vec![first.clone()], rest.to_vec());
    Ok(Start { process_type: String::new(), command, args, direct, working_dir: app.to_owned() })
}

/// bash reads the profiles and becomes the command: a script if it has no arguments, else words that bash expands.
fn in_shell(dirs: &Dirs, start: &Start, profiles: &[PathBuf]) -> Command {
    let own = dirs.workspace.join(".profile");
    let profiles = profiles.iter().chain(own.is_file().then_some(&own)).map(|profile| format!(". {}", quoted(profile)));
    let run = if start.args.is_empty() {
        "exec bash -c \"$@\"".to_owned()
    } else {
        let word = |n| format!(r#""$(eval echo \"${{{n}}}\")""#);
        let words: Vec<_> = (0..=start.args.len()).map(word).collect();
        format!(r#"exec bash -c '{}' "$@""#, words.join(" "))
    };
    let script: Vec<_> = profiles.chain([format!("cd {}", quoted(&start.working_dir)), run]).collect();
    let script = script.join("\n");
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &script, "launcher", &start.command.join(" ")]).args(&start.args).current_dir(&dirs.workspace);
    command
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Folders of a buildpack's layers.
fn layer_folders(parent: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(files::names(parent)?.into_iter().map(|name| parent.join(name)).filter(|path| path.is_dir()).collect())
}

/// Files in the layers' folders of this name: layer by layer, those for every process, then those for this type.
fn scripts(layers: &[PathBuf], folder: &str, process_type: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for layer in layers {
        let all = layer.join(folder);
        let own = (!process_type.is_empty()).then(|| all.join(process_type));
        for folder in std::iter::once(all).chain(own) {
            let names = files::names(&folder).unwrap_or_default();
            found.extend(names.into_iter().map(|name| folder.join(name)).filter(|path| path.is_file()));
        }
    }
    found
}

/// Finds a program on the search path of the process, not on the launcher's own.
fn find(program: &str, env: &Env) -> PathBuf {
    if program.contains('/') {
        return program.into();
    }
    let path = env.get("PATH").map_or("/usr/bin:/bin", String::as_str);
    let mut candidates = path.split(':').map(|folder| Path::new(folder).join(program));
    candidates.find(|path| path.is_file()).unwrap_or_else(|| program.into())
}

#[cfg(test)]
mod tests;
