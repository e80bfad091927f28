//! The buildpack lifecycle: what runs inside the build container, and as launcher in every app image. No engine, no
//! database: it sees its container, its standard streams and nothing else. Follows the Cloud Native Buildpacks
//! specification (buildpack.md and platform.md of buildpacks/spec), and trusts nothing that a buildpack wrote.

pub mod apt;
mod builder;
mod buildpack;
mod cache;
pub mod checksum;
mod container;
pub mod descriptor;
mod detector;
mod downloads;
mod env;
mod exec_d;
mod exporter;
mod files;
mod helper;
mod launcher;
mod layer_tar;
mod output;
mod plan;
pub mod protocol;
mod sbom;
mod source;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

pub use exporter::launcher_layers;
use protocol::Phase;
pub use source::unpack;

/// Why a build ends without an image: one line, and the phase it was in.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// In which phase.
    pub phase: Phase,
    /// What is wrong and what to do.
    pub message: String,
}

impl Failure {
    fn new(phase: Phase, message: impl Into<String>) -> Self {
        Self { phase, message: message.into() }
    }

    /// For use with `map_err`: an operation on a path that failed.
    fn io(phase: Phase, act: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |e| Self::new(phase, format!("cannot {act} {path}: {e}"))
    }
}

/// Where everything is; the same in every container, and elsewhere in tests.
#[derive(Debug, Clone)]
struct Dirs {
    layers: PathBuf,
    workspace: PathBuf,
    platform: PathBuf,
    tmp: PathBuf,
    buildpacks: PathBuf,
    lifecycle: PathBuf,
}

impl Default for Dirs {
    fn default() -> Self {
        Self {
            layers: "/layers".into(),
            workspace: "/workspace".into(),
            platform: "/platform".into(),
            tmp: "/tmp".into(),
            buildpacks: "/cnb/buildpacks".into(),
            lifecycle: "/cnb/lifecycle/lifecycle".into(),
        }
    }
}

/// Runs the face that the program's name or its first word asks for.
pub fn main(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let program = words.next().map(PathBuf::from).unwrap_or_default();
    let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let rest: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
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
