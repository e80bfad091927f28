//! From the command of a task to the program and arguments of its container. The launcher sets up the environment that the
//! buildpacks' layers contribute.

use crate::{
    model::{ProcessType, TaskCommand},
    store::{ProcessSpec, Release},
};

/// The launcher of every app image.
const LAUNCHER: &str = "/cnb/lifecycle/launcher";

/// Program and arguments of a container, and variables that the launcher needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Launch {
    pub(super) entrypoint: Vec<String>,
    pub(super) arguments: Vec<String>,
    pub(super) env: Vec<String>,
}

/// How a release runs a command.
pub(super) fn launch(command: &TaskCommand, release: &Release) -> Launch {
    let of_type = |name: &ProcessType| release.processes.iter().find(|spec| spec.process.process_type == *name);
    match command {
        TaskCommand::Process(name) => {
            Launch { entrypoint: vec![format!("/cnb/process/{name}")], arguments: Vec::new(), env: Vec::new() }
        }
        TaskCommand::Words(words) => {
            let process = words.first().and_then(|word| word.parse().ok()).and_then(|name| of_type(&name));
            match process {
                Some(spec) => with_arguments(spec, &words[1..], release),
                None => program(words, release),
            }
        }
        TaskCommand::Script(script) => shell(script, release),
    }
}

/// A process type of the release, with arguments that the caller gives.
fn with_arguments(spec: &ProcessSpec, words: &[String], release: &Release) -> Launch {
    let command = &spec.process.command;
    if spec.process.direct {
        return program(&[command, words].concat(), release);
    }
    shell(&format!("{} {}", command.join(" "), shell_words::join(words)), release)
}

fn program(words: &[String], release: &Release) -> Launch {
    if own_image(release) {
        return Launch { arguments: [&["--".to_owned()], words].concat(), ..launcher(release) };
    }
    // As a script of quoted words: so the shell reads the profiles of the layers.
    shell(&shell_words::join(words), release)
}

fn shell(script: &str, release: &Release) -> Launch {
    let arguments = if own_image(release) {
        ["--", "/bin/sh", "-c", script].map(str::to_owned).to_vec()
    } else {
        vec![script.to_owned()]
    };
    Launch { arguments, ..launcher(release) }
}

/// Whether a Dockerfile made the image: it may lack bash, and has its own working directory.
fn own_image(release: &Release) -> bool {
    release.processes.iter().any(|spec| spec.own_user)
}

fn launcher(release: &Release) -> Launch {
    let folder = release.processes.iter().find_map(|spec| spec.process.working_dir.as_ref());
    let env = folder.filter(|_| own_image(release)).map(|folder| format!("CNB_APP_DIR={folder}"));
    Launch { entrypoint: vec![LAUNCHER.to_owned()], arguments: Vec::new(), env: env.into_iter().collect() }
}
