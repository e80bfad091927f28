//! The launcher (buildpack.md, "Phase #4: Launch"): the entrypoint of every app image.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use serde::Deserialize;

use super::{
    Dirs,
    env::{self, Env, Moment},
    exporter, files,
};
use crate::model::Process;

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    buildpacks: Vec<Buildpack>,
    #[serde(default)]
    processes: Vec<Process>,
}

#[derive(Debug, Deserialize)]
struct Buildpack {
    id: String,
}

/// Becomes the process of this type; without a type, the one that the words name, or the words themselves.
pub(super) fn run(process_type: Option<&str>, words: &[String]) -> ExitCode {
    let error = match launch(&Dirs::default(), process_type, words) {
        Ok(mut command) => command.exec().to_string(),
        Err(message) => message,
    };
    eprintln!(" !     cannot start {}: {error}", process_type.unwrap_or("the process"));
    ExitCode::from(127)
}

fn launch(dirs: &Dirs, process_type: Option<&str>, words: &[String]) -> Result<Command, String> {
    let config: Config = files::read_toml(&dirs.layers.join(exporter::METADATA))?;
    let named = process_type.or_else(|| words.first().map(String::as_str).filter(|_| words.len() == 1));
    let process = config.processes.iter().find(|process| named == Some(process.process_type.as_str()));
    let process = match (process, process_type) {
        (Some(process), _) => process.clone(),
        (None, Some(wanted)) => {
            let known: Vec<_> = config.processes.iter().map(|process| process.process_type.as_str()).collect();
            return Err(format!("the image has no process type {wanted}; it has: {}", known.join(", ")));
        }
        (None, None) if words.is_empty() => return Err("no process type and no command is given".to_owned()),
        (None, None) => given(words)?,
    };
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let mut env: Env = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    let layers = layer_folders(dirs, &config).map_err(|e| format!("cannot read the layers: {e}"))?;
    for layer in &layers {
        let moment = Moment::Launch(process.process_type.as_str());
        env::add_layer(&mut env, layer, moment).map_err(|e| format!("cannot read {}: {e}", layer.display()))?;
    }
    let overriding = process_type.map_or(&[][..], |_| words);
    let arguments = if overriding.is_empty() { &process.args[..] } else { overriding };
    let mut command = if process.direct {
        let program = find(&process.command[0], &env);
        let mut command = Command::new(program);
        command.args(&process.command[1..]).args(arguments);
        command
    } else {
        // bash replaces itself by the last command of its script, so that the app gets the signals.
        let mut script = String::new();
        for profile in profiles(dirs, &layers, process.process_type.as_str()) {
            let quoted = profile.display().to_string().replace('\'', r"'\''");
            script.push_str(&[". '", &quoted, "'\n"].concat());
        }
        script.push_str(&process.command.join(" "));
        let mut command = Command::new("/bin/bash");
        command.args(["-c", &script, "bash"]).args(arguments);
        command
    };
    let folder = process.working_dir.as_ref().map_or_else(|| dirs.workspace.clone(), |dir| dirs.workspace.join(dir));
    command.env_clear().envs(&env).current_dir(folder);
    Ok(command)
}

/// A command that is no process of the image: run as it stands, with the image's environment.
fn given(words: &[String]) -> Result<Process, String> {
    let process_type = "command".parse().map_err(|e: crate::model::InvalidName| e.to_string())?;
    let (command, args) = (vec![words[0].clone()], words[1..].to_vec());
    Ok(Process { process_type, command, args, direct: true, default: false, working_dir: None })
}

/// The layers' folders, buildpack by buildpack.
fn layer_folders(dirs: &Dirs, config: &Config) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for buildpack in &config.buildpacks {
        let parent = exporter::layers_of(&dirs.layers, &buildpack.id);
        folders.extend(files::names(&parent)?.into_iter().map(|name| parent.join(name)).filter(|path| path.is_dir()));
    }
    Ok(folders)
}

/// Scripts that a shell process reads first.
fn profiles(dirs: &Dirs, layers: &[PathBuf], process_type: &str) -> Vec<PathBuf> {
    let mut scripts = Vec::new();
    for layer in layers {
        for folder in [layer.join("profile.d"), layer.join("profile.d").join(process_type)] {
            let names = files::names(&folder).unwrap_or_default();
            scripts.extend(names.into_iter().map(|name| folder.join(name)).filter(|path| path.is_file()));
        }
    }
    scripts.extend(Some(dirs.workspace.join(".profile")).filter(|path| path.is_file()));
    scripts
}

/// The program that the search path of the process means, not the launcher's own.
fn find(program: &str, env: &Env) -> PathBuf {
    if program.contains('/') {
        return program.into();
    }
    let path = env.get("PATH").map_or("/usr/bin:/bin", String::as_str);
    let candidates =
        path.split(':').filter(|folder| *folder != "/cnb/process").map(|folder| Path::new(folder).join(program));
    candidates.into_iter().find(|path| path.is_file()).unwrap_or_else(|| program.into())
}
