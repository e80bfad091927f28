//! From a command to the program and arguments that run it in a container of an app. The launcher sets up the environment that the
//! buildpacks' layers contribute.

use crate::{
    lifecycle::LAUNCHER,
    model::{ProcessType, TaskCommand},
    store::{ProcessSpec, Release},
};

/// Program and arguments of a container, and variables that the launcher needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Launch {
    /// Program.
    pub entrypoint: Vec<String>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables, as `NAME=value`.
    pub env: Vec<String>,
}

/// The shell of a release's image.
pub fn shell_of(release: &Release) -> TaskCommand {
    TaskCommand::Words(vec![if release.own_user() { "/bin/sh" } else { "bash" }.to_owned()])
}

/// The process type of a release that a command runs.
pub fn process_type<'a>(command: &TaskCommand, release: &'a Release) -> Option<&'a ProcessType> {
    let name = match command {
        TaskCommand::Process(name) => name.as_str(),
        TaskCommand::Words(words) => words.first()?,
        TaskCommand::Script(_) => return None,
    };
    release.processes.iter().map(|spec| &spec.process.process_type).find(|declared| declared.as_str() == name)
}

/// How a release runs a command.
pub fn launch(command: &TaskCommand, release: &Release) -> Launch {
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
    match &command[..] {
        // A line of the Procfile: the arguments follow its last word.
        [program, option, script] if spec.process.direct && option == "-c" && is_shell(program) => {
            shell(&format!("{script} {}", shell_words::join(words)), release)
        }
        _ if spec.process.direct => program(&[command, words].concat(), release),
        _ => shell(&format!("{} {}", command.join(" "), shell_words::join(words)), release),
    }
}

fn is_shell(program: &str) -> bool {
    ["bash", "sh"].contains(&program.rsplit('/').next().unwrap_or_default())
}

/// How a release runs a program with arguments.
pub fn program(words: &[String], release: &Release) -> Launch {
    // The image of a Dockerfile may lack bash.
    if release.own_user() {
        return Launch { arguments: [&["--".to_owned()], words].concat(), ..launcher(release) };
    }
    // As a script of quoted words: so the shell reads the profiles of the layers.
    shell(&shell_words::join(words), release)
}

fn shell(script: &str, release: &Release) -> Launch {
    // The shell would read a script that begins like an option as one.
    let script = &if script.starts_with('-') { format!(" {script}") } else { script.to_owned() };
    let arguments = if release.own_user() {
        ["--", "/bin/sh", "-c", script].map(str::to_owned).to_vec()
    } else {
        vec![script.to_owned()]
    };
    Launch { arguments, ..launcher(release) }
}

fn launcher(release: &Release) -> Launch {
    let folder = release.processes.iter().find_map(|spec| spec.process.working_dir.as_ref());
    let env = folder.filter(|_| release.own_user()).map(|folder| format!("CNB_APP_DIR={folder}"));
    Launch { entrypoint: vec![LAUNCHER.to_owned()], arguments: Vec::new(), env: env.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Bindings, Digest, Exposure, Process, ReleaseManifest},
        store::{ReleaseKind, ReleaseState},
    };

    fn release(command: &[&str], direct: bool, own_user: bool) -> Release {
        let process_type: ProcessType = "console".parse().unwrap();
        let health_checks = Vec::new();
        let process = Process {
            process_type,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            args: vec!["default".into()],
            direct,
            default: false,
            working_dir: Some("/srv".into()),
        };
        let exposes = Exposure::Nothing;
        Release {
            number: 1,
            kind: ReleaseKind::Push,
            state: ReleaseState::Released,
            image: Digest::of(b"image"),
            branch: None,
            commit: None,
            build: None,
            config: std::collections::BTreeMap::new(),
            bindings: Bindings::new(),
            processes: vec![ProcessSpec { process, exposes, health_checks, default_quantity: 0, port: 8080, own_user }],
            manifest: ReleaseManifest::default(),
            description: String::new(),
            created_by: String::new(),
            created_at: 0,
        }
    }

    fn line(command: &TaskCommand, release: &Release) -> String {
        let Launch { entrypoint, arguments, env } = launch(command, release);
        [env, entrypoint, arguments].concat().join("|")
    }

    #[test]
    fn words_are_kept_apart_whatever_runs_them() {
        let words = TaskCommand::Words(vec!["ls".into(), "a b".into()]);
        let script = TaskCommand::Script("ls | wc".into());
        let built = release(&["run"], false, false);
        assert_eq!(line(&words, &built), "/cnb/lifecycle/launcher|ls 'a b'");
        assert_eq!(line(&script, &built), "/cnb/lifecycle/launcher|ls | wc");
        let own = release(&["run"], true, true);
        assert_eq!(line(&words, &own), "CNB_APP_DIR=/srv|/cnb/lifecycle/launcher|--|ls|a b");
        assert_eq!(line(&script, &own), "CNB_APP_DIR=/srv|/cnb/lifecycle/launcher|--|/bin/sh|-c|ls | wc");
    }

    #[test]
    fn arguments_follow_the_command_of_a_process_type() {
        let named = TaskCommand::Process("console".parse().unwrap());
        let words = TaskCommand::Words(vec!["console".into(), "a b".into()]);
        for (command, direct, expected) in [
            (&["rails c"][..], false, "rails c 'a b'"),
            (&["bash", "-c", "rails c"][..], true, "rails c 'a b'"),
            (&["rails", "c"][..], true, "rails c 'a b'"),
        ] {
            let release = release(command, direct, false);
            assert_eq!(line(&named, &release), "/cnb/process/console");
            assert_eq!(line(&words, &release), format!("/cnb/lifecycle/launcher|{expected}"));
        }
    }
}
