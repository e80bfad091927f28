//! The buildpack lifecycle: what runs in the build container, and as the launcher in every app image. It has no engine and
//! no database, only its container and its standard streams. It follows the Cloud Native Buildpacks specification
//! (buildpack.md and platform.md of buildpacks/spec), and trusts nothing that a buildpack wrote.

pub mod apt;
mod bindings;
mod builder;
mod buildpack;
mod cache;
pub mod checksum;
mod clock;
mod container;
mod contributions;
pub mod descriptor;
mod detector;
mod dirs;
mod dockerfile;
mod downloads;
mod env;
mod exec_d;
mod exec_env;
mod exporter;
mod failure;
mod files;
mod helper;
mod init;
mod launcher;
mod launcher_layers;
mod layer_tar;
mod line_ends;
mod output;
mod plan;
mod program_env;
mod programs;
#[cfg(test)]
mod properties;
pub mod protocol;
mod sbom;
mod shells;
mod source;
mod text_files;
mod waiting;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

pub use bindings::{BINDING_ROOT, BINDINGS_FOLDER};
pub use exec_env::in_production;
pub use helper::FailureRules;
pub use launcher::{CLOSED_ADDRESS, INIT_LABEL, LAUNCHER, STOP_SECONDS, STOP_SIGNAL, WAIT_LABEL};
pub use launcher_layers::launcher_layer;
pub use line_ends::convert_scripts_of_buildpack;
pub use source::{MAX_DEPTH, unpack, unpack_layer};

/// Runs what the program's name or its first argument asks for: the build, the helper or the launcher.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let program = arguments.next().map(PathBuf::from).unwrap_or_default();
    let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let rest: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    match (name.as_str(), rest.first().map(String::as_str)) {
        ("bp", _) => helper::run(&rest),
        ("lifecycle", Some("helper")) => helper::run(&rest[1..]),
        ("lifecycle", Some("build")) => container::run(),
        ("lifecycle", _) => {
            eprintln!("usage: lifecycle build | lifecycle helper VERB …");
            ExitCode::from(2)
        }
        ("launcher", _) => launcher::run(None, &rest),
        (process_type, _) => launcher::run(Some(process_type), &rest),
    }
}

#[cfg(test)]
mod tests;
