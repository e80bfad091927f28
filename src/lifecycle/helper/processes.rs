//! Processes of the image, and which of several programs is the web process.

use std::{fs, path::Path};

use super::{
    answer::{Answer, no, wrong},
    options::check_options,
};
use crate::{lifecycle::files, model::Line};

/// Adds a process to `launch.toml`.
pub(super) fn process(layers: &Path, process_type: &str, options: &[&str]) -> Answer {
    let at =
        options.iter().position(|option| *option == "--").ok_or_else(|| wrong("bp process: -- COMMAND is missing"))?;
    let (options, command) = (&options[..at], &options[at + 1..]);
    check_options("process", options, &["--shell", "--default"], &["--dir"])?;
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

/// Chooses the web process among programs: the only one, one with a usual name, or one whose name begins all others.
pub(super) fn web_of(options: &[&str]) -> Answer {
    let (mut first, mut last, mut names) = ("", "", Vec::new());
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match *option {
            "--first" => first = options.next().copied().unwrap_or_default(),
            "--last" => last = options.next().copied().unwrap_or_default(),
            other if other.starts_with("--") => return Err(wrong(format!("bp web-of: there is no option {other}"))),
            name => names.push(name),
        }
    }
    names.sort_by_key(|name| (name.len(), *name));
    let shortest = names.first().copied().unwrap_or_default();
    let says_so = |name: &&str| {
        ["web", "server", "api"].iter().any(|end| name.strip_suffix(end).is_some_and(|rest| rest.ends_with(['-', '_'])))
    };
    let by_end = names.iter().copied().find(says_so).unwrap_or_default();
    let common = if names.iter().all(|name| name.starts_with(shortest)) { shortest } else { "" };
    let ranked = [first, "web", "server", "www", "http", "api", "app", "backend", last, by_end, common];
    let found = ranked.into_iter().find(|name| !name.is_empty() && names.contains(name));
    found.map(str::to_owned).ok_or_else(no)
}

/// Adds the web process, and each other program as a process with its own name.
pub(super) fn programs(layers: &Path, web: &str, names: &[&str]) -> Answer {
    process(layers, "web", &["--default", "--", web])?;
    let mut lines = vec![Line::Detail(format!("web runs: {web}")).to_string()];
    for name in names {
        let process_type = name.to_lowercase().replace('_', "-");
        if *name != web && process_type != "web" {
            process(layers, &process_type, &["--", name])?;
            lines.push(Line::Detail(format!("{process_type} runs: {name}")).to_string());
        }
    }
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_program_is_web() {
        let web = |words: &[&str]| web_of(words).ok();
        assert_eq!(web(&["shop"]).as_deref(), Some("shop"));
        assert_eq!(web(&["worker", "server"]).as_deref(), Some("server"));
        assert_eq!(web(&["--first", "worker", "worker", "server"]).as_deref(), Some("worker"));
        assert_eq!(web(&["--first", "", "--last", "shop", "shop", "migrate"]).as_deref(), Some("shop"));
        assert_eq!(web(&["shop-worker", "shop-web", "my-shop-web"]).as_deref(), Some("shop-web"));
        assert_eq!(web(&["shop-worker", "shop"]).as_deref(), Some("shop"));
        assert_eq!(web(&["worker", "migrate"]), None);
        assert_eq!(web(&[]), None);
    }

    #[test]
    fn every_program_is_a_process() {
        let dir = tempfile::tempdir().unwrap();
        let lines = programs(dir.path(), "shop", &["shop", "Send_Mail", "web"]).unwrap();
        assert_eq!(lines.lines().count(), 2, "{lines}");
        let launch: toml::Table = fs::read_to_string(dir.path().join("launch.toml")).unwrap().parse().unwrap();
        let types: Vec<_> =
            launch["processes"].as_array().unwrap().iter().map(|p| p["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["web", "send-mail"]);
    }
}
