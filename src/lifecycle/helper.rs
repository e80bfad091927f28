//! `bp`, the helper that buildpacks in shell may use for what shell does badly. Each verb is one short function:
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
//! | `said FILE PATTERN…` | prints what the first pattern that fits a line finds: its first group that is not empty, or all |
//! | `other-language OWN…` | status 0 if the folder has a manifest of a language that is none of these |
//! | `requires NAME [--optional] [KEY=VALUE…]` | adds a requirement to the build plan, with metadata |
//! | `web-of [--first NAME] [--last NAME] NAME…` | prints the program that is web, or status 1 |
//! | `programs LAYERS WEB [NAME…]` | adds the web program, and the others as processes of their names |
//! | `step TEXT`, `header TEXT`, `detail TEXT`, `trouble TEXT` | prints in the grammar of pushes |

mod debian;
mod languages;
mod said;

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use nodejs_semver::{Range, Version};
use sha2::Digest as _;

use super::{checksum::Checksum, downloads, files};
use crate::model::{Digest, Line, Procfile};

/// What a verb prints, or why it fails: with status 1 if that is an answer, too, and 2 if not.
type Answer = Result<String, (u8, String)>;

fn wrong(text: impl Into<String>) -> (u8, String) {
    (2, text.into())
}

/// Runs a verb.
pub(super) fn run(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let answer = match words.as_slice() {
        ["json", file, key, default @ ..] => {
            value(file, key, default.first(), |text| serde_json::from_str(text).map_err(|e| e.to_string()))
        }
        ["toml", file, key, default @ ..] => {
            value(file, key, default.first(), |text| files::parse_toml(text).map(files::json_of))
        }
        ["yaml", file, key, default @ ..] => {
            value(file, key, default.first(), |text| serde_norway::from_str(text).map_err(|e| one_line(&e)))
        }
        ["fetch", url, checksum, file] => fetch(url, checksum, file),
        ["apt", words @ ..] => debian::apt(words),
        ["semver-max", range] => semver_max(range),
        ["layer", layers, name, options @ ..] => layer(Path::new(layers), name, options),
        ["env", layers, name, options @ ..] => env(Path::new(layers), name, options),
        ["process", layers, process_type, options @ ..] => process(Path::new(layers), process_type, options),
        ["hash", names @ ..] => hash(names),
        ["procfile", file] => procfile(file),
        ["said", file, patterns @ ..] => said::said(file, patterns),
        ["other-language", own @ ..] => languages::other_language(Path::new("."), own),
        ["requires", name, options @ ..] => {
            languages::requires(std::env::var_os("CNB_BUILD_PLAN_PATH").map(PathBuf::from), name, options)
        }
        ["web-of", options @ ..] => languages::web_of(options),
        ["programs", layers, web, names @ ..] => languages::programs(Path::new(layers), web, names),
        ["step", text @ ..] => Ok(Line::Step(text.join(" ")).to_string()),
        ["header", text @ ..] => Ok(Line::Header(text.join(" ")).to_string()),
        ["detail", text @ ..] => Ok(Line::Detail(text.join(" ")).to_string()),
        ["trouble", text @ ..] => Ok(Line::Trouble(text.join(" ")).to_string()),
        [verb, ..] => Err(wrong(format!("bp: no such verb, or too few words: {verb}"))),
        [] => Err(wrong("bp: a verb is missing")),
    };
    match answer {
        Ok(text) if text.is_empty() => ExitCode::SUCCESS,
        Ok(text) => match writeln!(io::stdout(), "{text}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err((status, text)) => {
            if !text.is_empty() {
                let _ = writeln!(io::stderr(), "{}", Line::Trouble(Line::sanitize(&text)));
            }
            ExitCode::from(status)
        }
    }
}

fn text_of(file: &str) -> Result<Option<String>, (u8, String)> {
    files::read_text(Path::new(file)).map_err(wrong)
}

fn value(
    file: &str,
    key: &str,
    default: Option<&&str>,
    parse: impl Fn(&str) -> Result<serde_json::Value, String>,
) -> Answer {
    let document = match text_of(file)? {
        Some(text) => parse(&text).map_err(|e| wrong(format!("{file} is not valid: {e}")))?,
        None => serde_json::Value::Null,
    };
    let found = key.split('.').try_fold(&document, |value, part| value.get(part));
    match (found, default) {
        (Some(serde_json::Value::String(text)), _) => Ok(text.clone()),
        (Some(value), _) if !value.is_null() => Ok(value.to_string()),
        (_, Some(default)) => Ok((*default).to_owned()),
        (_, None) => Err((1, String::new())),
    }
}

fn one_line(error: &impl std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn fetch(url: &str, checksum: &str, file: &str) -> Answer {
    let checksum: Checksum = checksum.parse().map_err(wrong)?;
    downloads::fetch(url, &checksum, Path::new(file), &temporary()).map(|()| String::new()).map_err(wrong)
}

fn temporary() -> PathBuf {
    std::env::temp_dir()
}

fn semver_max(range: &str) -> Answer {
    let range: Range = range.parse().map_err(|_| wrong(format!("{range:?} is not a version range that npm knows")))?;
    let mut text = String::new();
    io::stdin().take(64 << 20).read_to_string(&mut text).map_err(|e| wrong(e.to_string()))?;
    let versions: Vec<String> = match serde_json::from_str(&text) {
        Ok(versions) => versions,
        Err(_) => text.lines().map(|line| line.trim().trim_matches('"').to_owned()).collect(),
    };
    let fitting =
        versions.iter().filter_map(|v| v.parse::<Version>().ok()).filter(|v| !v.is_prerelease() && range.satisfies(v));
    fitting.max().map(|v| v.to_string()).ok_or((1, String::new()))
}

fn layer_name(name: &str) -> Result<&str, (u8, String)> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && !name.starts_with('.');
    // Their files of settings would be those of the buildpack.
    let reserved = matches!(name, "build" | "launch" | "store");
    if plain && !name.is_empty() && !reserved {
        Ok(name)
    } else {
        Err(wrong(format!("{name:?} is no name for a layer")))
    }
}

/// Refuses a slip of the keyboard: these options stand alone, those take a value.
fn known(verb: &str, options: &[&str], alone: &[&str], valued: &[&str]) -> Result<(), (u8, String)> {
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if valued.contains(option) {
            options.next();
        } else if !alone.contains(option) {
            return Err(wrong(format!("bp {verb}: there is no option {option}")));
        }
    }
    Ok(())
}

fn layer(layers: &Path, name: &str, options: &[&str]) -> Answer {
    let name = layer_name(name)?;
    let has = |option: &str| options.contains(&option);
    known("layer", options, &["--launch", "--build", "--cache"], &["--key"])?;
    let key = options.iter().position(|option| *option == "--key").and_then(|at| options.get(at + 1));
    let key = key.ok_or_else(|| wrong("bp layer: --key KEY is missing"))?;
    let (folder, file) = (layers.join(name), layers.join(format!("{name}.toml")));
    let failed = |e: io::Error| wrong(format!("cannot write the layer {name}: {e}"));
    let old: toml::Table = files::read_toml(&file).map_err(wrong)?;
    let old_key = old.get("metadata").and_then(|metadata| metadata.get("key")).and_then(toml::Value::as_str);
    // A layer that is only launched need not be here: the previous image has it.
    let there = folder.is_dir() || (file.exists() && has("--launch") && !has("--build") && !has("--cache"));
    let keep = there && old_key == Some(key);
    if !keep {
        if folder.exists() {
            files::remove_tree(&folder).map_err(failed)?;
        }
        fs::create_dir_all(&folder).map_err(failed)?;
    }
    let types = [("launch", has("--launch")), ("build", has("--build")), ("cache", has("--cache"))];
    let types = toml::Table::from_iter(types.map(|(name, on)| (name.to_owned(), toml::Value::Boolean(on))));
    let mut metadata = match old.get("metadata") {
        Some(toml::Value::Table(metadata)) if keep => metadata.clone(),
        _ => toml::Table::new(),
    };
    metadata.insert("key".to_owned(), toml::Value::String((*key).to_owned()));
    let new = toml::Table::from_iter([
        ("types".to_owned(), toml::Value::Table(types)),
        ("metadata".to_owned(), toml::Value::Table(metadata)),
    ]);
    fs::write(&file, new.to_string()).map_err(failed)?;
    Ok(if keep { "keep" } else { "remake" }.to_owned())
}

fn env(layers: &Path, name: &str, options: &[&str]) -> Answer {
    let name = layer_name(name)?;
    let (mut folder, mut suffix, mut pair) = ("env", "override", None);
    for option in options {
        match *option {
            "--launch" => folder = "env.launch",
            "--build" => folder = "env.build",
            "--append" => suffix = "append",
            "--prepend" => suffix = "prepend",
            "--default" => suffix = "default",
            other if other.starts_with("--") => return Err(wrong(format!("bp env: there is no option {other}"))),
            other => pair = other.split_once('='),
        }
    }
    let (variable, value) = pair.ok_or_else(|| wrong("bp env: VAR=VALUE is missing"))?;
    if variable.is_empty() || variable.contains(['/', '.']) {
        return Err(wrong(format!("bp env: {variable:?} is no name for a variable")));
    }
    let folder = layers.join(name).join(folder);
    let write = || {
        fs::create_dir_all(&folder)?;
        if matches!(suffix, "append" | "prepend") {
            fs::write(folder.join(format!("{variable}.delim")), ":")?;
        }
        fs::write(folder.join(format!("{variable}.{suffix}")), value)
    };
    write().map(|()| String::new()).map_err(|e| wrong(format!("cannot write {}: {e}", folder.display())))
}

fn process(layers: &Path, process_type: &str, options: &[&str]) -> Answer {
    let at =
        options.iter().position(|option| *option == "--").ok_or_else(|| wrong("bp process: -- COMMAND is missing"))?;
    let (options, command) = (&options[..at], &options[at + 1..]);
    known("process", options, &["--shell", "--default"], &["--dir"])?;
    if command.is_empty() {
        return Err(wrong("bp process: the command is missing"));
    }
    let words =
        |words: &[&str]| toml::Value::Array(words.iter().map(|w| toml::Value::String((*w).to_owned())).collect());
    let script = command.join(" ");
    let (command, args) =
        if options.contains(&"--shell") { (&["bash", "-c", &script][..], &[][..]) } else { command.split_at(1) };
    let mut entry = toml::Table::new();
    entry.insert("type".to_owned(), toml::Value::String(process_type.to_owned()));
    entry.insert("command".to_owned(), words(command));
    entry.insert("args".to_owned(), words(args));
    entry.insert("default".to_owned(), toml::Value::Boolean(options.contains(&"--default")));
    if let Some(dir) = options.iter().position(|option| *option == "--dir").and_then(|at| options.get(at + 1)) {
        entry.insert("working-dir".to_owned(), toml::Value::String((*dir).to_owned()));
    }
    let file = layers.join("launch.toml");
    let mut launch: toml::Table = files::read_toml(&file).map_err(wrong)?;
    let processes = launch.entry("processes").or_insert_with(|| toml::Value::Array(Vec::new()));
    if let toml::Value::Array(processes) = processes {
        processes.push(toml::Value::Table(entry));
    }
    fs::write(&file, launch.to_string()).map_err(|e| wrong(format!("cannot write {}: {e}", file.display())))?;
    Ok(String::new())
}

fn hash(names: &[&str]) -> Answer {
    let mut sum = sha2::Sha256::new();
    for name in names {
        sum.update(name.len().to_le_bytes());
        sum.update(name);
        match fs::read(name) {
            Ok(bytes) => {
                sum.update((bytes.len() as u64 + 1).to_le_bytes());
                sum.update(bytes);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => sum.update(0u64.to_le_bytes()),
            Err(e) => return Err(wrong(format!("cannot read {name}: {e}"))),
        }
    }
    Ok(Digest::from_sha256(&sum.finalize().into()).hex().to_owned())
}

fn procfile(file: &str) -> Answer {
    let text = text_of(file)?.ok_or_else(|| wrong(format!("{file} is not there")))?;
    let Procfile(entries) = Procfile::parse(&text).map_err(|e| (1, e.to_string()))?;
    let lines: Vec<_> = entries.iter().map(|(process_type, command)| format!("{process_type}\t{command}")).collect();
    Ok(lines.join("\n"))
}
