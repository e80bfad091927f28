//! `bp`, the helper for buildpacks in shell (`docs/buildpacks.md`). Its verbs:
//!
//! | verb | does |
//! | --- | --- |
//! | `json FILE KEY.PATH [DEFAULT]`, `toml …`, `yaml …` | prints a value: strings as they are, others as JSON; status 1 if missing |
//! | `semver-max RANGE` | reads versions (a JSON array, or one a line), prints the highest that an npm range allows |
//! | `layer LAYERS NAME [--launch] [--build] [--cache] --key KEY` | prints `keep` if the layer was restored with this key, else empties it and prints `remake` |
//! | `env LAYERS NAME [--launch|--build] [--append|--prepend|--default] VAR=VALUE` | writes an environment file of a layer |
//! | `process LAYERS TYPE [--default] [--shell] [--dir DIR] -- COMMAND ARGS…` | adds a process to `launch.toml` |
//! | `fetch URL CHECKSUM FILE` | downloads into FILE, or takes it from what builds of the server share |
//! | `apt LAYERS NAME [--run|--build] [--suite=NAME] PACKAGE…` | unpacks Debian packages, with what they need and the image lacks, into a layer |
//! | `apt --candidate [--daily=LAYERS] [--suite=NAME] PACKAGE…` | prints each package with the version that would come |
//! | `hash FILE…` | prints one SHA-256 over names and contents; a missing file counts as such |
//! | `procfile FILE` | prints `type<TAB>command` for each line |
//! | `explain LOG RULES [NAME=VALUE…]` | prints why a tool failed, by the first rule that fits its log; status 1 if none does |
//! | `explain --check RULES…` | runs the examples of rules |
//! | `other-language OWN…` | status 0 if the folder has a manifest of a language that is none of these |
//! | `requires NAME [--optional] [KEY=VALUE…]` | adds a requirement to the build plan, with metadata |
//! | `web-of [--first NAME] [--last NAME] NAME…` | prints the program that is web, or status 1 |
//! | `programs LAYERS WEB [NAME…]` | adds the web program, and the others as processes of their names |
//! | `step TEXT`, `header TEXT`, `detail TEXT`, `trouble TEXT` | prints in the grammar of pushes |

mod answer;
mod debian;
mod documents;
mod explain;
mod files;
mod languages;
mod layers;
mod options;
mod processes;
mod versions;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

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
        ["semver-max", range] => versions::semver_max(range),
        ["layer", layers, name, options @ ..] => layers::layer(Path::new(layers), name, options),
        ["env", layers, name, options @ ..] => layers::env(Path::new(layers), name, options),
        ["process", layers, process_type, options @ ..] => processes::process(Path::new(layers), process_type, options),
        ["hash", names @ ..] => files::hash(names),
        ["procfile", file] => files::procfile(file),
        ["other-language", own @ ..] => languages::other_language(Path::new("."), own),
        ["requires", name, options @ ..] => {
            languages::requires(std::env::var_os("CNB_BUILD_PLAN_PATH").map(PathBuf::from), name, options)
        }
        ["web-of", options @ ..] => processes::web_of(options),
        ["programs", layers, web, names @ ..] => processes::programs(Path::new(layers), web, names),
        ["step", text @ ..] => Ok(Line::Step(text.join(" ")).to_string()),
        ["header", text @ ..] => Ok(Line::Header(text.join(" ")).to_string()),
        ["detail", text @ ..] => Ok(Line::Detail(text.join(" ")).to_string()),
        ["trouble", text @ ..] => Ok(Line::Trouble(text.join(" ")).to_string()),
        [verb, ..] => Err(wrong(format!("bp: there is no verb {verb}, or it lacks words"))),
        [] => Err(wrong("bp: the verb is missing")),
    }
}
