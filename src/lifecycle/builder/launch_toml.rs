//! `launch.toml` (buildpack.md, "launch.toml"): processes, labels and slices that a buildpack declares.

use std::path::Path;

use serde::Deserialize;

use crate::{
    lifecycle::{
        contributions::{Contributions, DeclaredProcess, Slice},
        descriptor::Api,
        files,
    },
    model::Process,
};

#[derive(Debug, Default, Deserialize)]
struct LaunchToml {
    #[serde(default)]
    processes: Vec<ProcessToml>,
    #[serde(default)]
    labels: Vec<Label>,
    #[serde(default)]
    slices: Vec<Slice>,
}

#[derive(Debug, Deserialize)]
struct ProcessToml {
    #[serde(rename = "type")]
    process_type: String,
    command: Command,
    #[serde(default)]
    args: Vec<String>,
    direct: Option<bool>,
    #[serde(default)]
    default: bool,
    #[serde(rename = "working-dir")]
    working_dir: Option<String>,
    #[serde(default, rename = "exec-env")]
    exec_env: Vec<String>,
}

/// `command` was a string before API 0.9.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Command {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct Label {
    key: String,
    value: String,
}

/// Reads the `launch.toml` in a buildpack's folder of layers, and adds what it declares. Later buildpacks override
/// processes of the same type.
pub(super) fn read(folder: &Path, buildpack: usize, api: Api, contributions: &mut Contributions) -> Result<(), String> {
    let file = folder.join("launch.toml");
    let wrong = |message: &str| format!("{}, {message}", file.display());
    let launch: LaunchToml = files::read_toml(&file)?;
    if launch.processes.iter().filter(|process| process.default).count() > 1 {
        return Err(wrong("key processes.default: only one process can be the default"));
    }
    for declared in launch.processes {
        let exec_env = declared.exec_env.clone();
        let process = process(declared, api).map_err(|e| wrong(&e))?;
        contributions.processes.retain(|other| other.process.process_type != process.process_type);
        if process.default {
            for other in &mut contributions.processes {
                other.process.default = false;
            }
        }
        contributions.processes.push(DeclaredProcess { buildpack, process, exec_env });
    }
    for label in launch.labels {
        contributions.labels.insert(label.key, label.value);
    }
    contributions.slices.extend(launch.slices);
    Ok(())
}

fn process(declared: ProcessToml, api: Api) -> Result<Process, String> {
    let process_type = declared.process_type.parse().map_err(|e| format!("key processes.type: {e}"))?;
    let command = match declared.command {
        Command::One(word) => vec![word],
        Command::Many(words) => words,
    };
    if command.first().is_none_or(String::is_empty) {
        return Err(format!("key processes.command: the command of {process_type} is empty"));
    }
    if command.iter().chain(&declared.args).chain(&declared.working_dir).any(|word| word.contains('\0')) {
        return Err(format!("key processes: command, args or working-dir of {process_type} has a NUL character"));
    }
    // Before API 0.9 a process runs in a shell unless it says otherwise; from then on it never does.
    let direct = api >= Api(0, 9) || declared.direct.unwrap_or(false);
    Ok(Process {
        process_type,
        command,
        args: declared.args,
        direct,
        default: declared.default,
        working_dir: declared.working_dir.filter(|dir| !dir.is_empty()),
    })
}
