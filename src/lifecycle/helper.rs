//! `bp`, the helper for buildpacks in shell: does what shell does badly. `docs/buildpacks.md` describes its verbs.

mod answer;
mod apt_env;
mod binding;
mod debian;
mod documents;
mod elf;
mod env_files;
mod explain;
mod files;
mod languages;
mod layers;
mod libraries;
mod named_version;
mod nginx_types;
mod node_program;
mod options;
mod pattern;
mod processes;
mod progress;
mod versions;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

pub use self::explain::FailureRules;
use self::{
    answer::{Answer, Refusal, wrong},
    documents::{Syntax, value},
};
use crate::model::Line;

/// Runs a verb.
pub(super) fn run(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (answer, status) = match words.as_slice() {
        ["explain", words @ ..] => match explain::explain(words) {
            Ok(explained) => (Ok(explained.text), explained.status),
            Err(refusal) => (Err(refusal), 0),
        },
        words => (answer(words), 0),
    };
    match answer {
        Ok(text) if text.is_empty() => ExitCode::from(status),
        Ok(text) => match writeln!(io::stdout(), "{text}") {
            Ok(()) => ExitCode::from(status),
            Err(_) => ExitCode::FAILURE,
        },
        Err(Refusal { status, text }) => {
            if !text.is_empty() {
                let _ = writeln!(io::stderr(), "{}", Line::Trouble(Line::sanitize(&text)));
            }
            ExitCode::from(status)
        }
    }
}

fn answer(words: &[&str]) -> Answer {
    match words {
        ["json", file, key, default @ ..] => value(Syntax::Json, file, key, default.first()),
        ["toml", file, key, default @ ..] => value(Syntax::Toml, file, key, default.first()),
        ["yaml", file, key, default @ ..] => value(Syntax::Yaml, file, key, default.first()),
        ["fetch", url, checksum, file] => files::fetch(url, checksum, file),
        ["apt", words @ ..] => debian::apt(words),
        ["apt-env", layers, name, options @ ..] => apt_env::apt_env(Path::new(layers), name, options),
        ["libraries", words @ ..] => libraries::libraries(words),
        ["named-version", words @ ..] => named_version::named_version(Path::new("."), words),
        ["node-program"] => node_program::node_program(Path::new(".")),
        ["nginx-types"] => Ok(nginx_types::nginx_types()),
        ["semver-max", range] => versions::semver_max(range),
        ["layer", layers, name, options @ ..] => layers::layer(Path::new(layers), name, options),
        ["env", layers, name, options @ ..] => layers::env(Path::new(layers), name, options),
        ["process", layers, process_type, options @ ..] => processes::process(Path::new(layers), process_type, options),
        ["binding", binding_type] => {
            let platform = std::env::var_os("CNB_PLATFORM_DIR").map(PathBuf::from);
            binding::binding(&platform.unwrap_or_else(|| Path::new("/platform").to_owned()), binding_type)
        }
        ["env-files", commands] => Ok(env_files::env_files(Path::new("."), commands)),
        ["hash", names @ ..] => files::hash(names),
        ["procfile", file] => files::procfile(file),
        ["other-language", own @ ..] => languages::other_language(Path::new("."), own),
        ["requires", name, options @ ..] => {
            languages::requires(std::env::var_os("CNB_BUILD_PLAN_PATH").map(PathBuf::from), name, options)
        }
        ["web-of", options @ ..] => processes::web_of(options),
        ["progress", words @ ..] => progress::progress(words),
        ["programs", layers, web, names @ ..] => processes::programs(Path::new(layers), web, names),
        ["step", text @ ..] => Ok(Line::Step(text.join(" ")).to_string()),
        ["header", text @ ..] => Ok(Line::Header(text.join(" ")).to_string()),
        ["detail", text @ ..] => Ok(Line::Detail(text.join(" ")).to_string()),
        ["trouble", text @ ..] => Ok(Line::Trouble(text.join(" ")).to_string()),
        [verb, ..] => Err(wrong(format!("bp: there is no verb {verb}, or it lacks words"))),
        [] => Err(wrong("bp: the verb is missing")),
    }
}
