//! What the buildpacks of several languages have in common: whose a folder is, who makes the assets, which program is web.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use super::{Answer, process, wrong};
use crate::model::Line;

/// The files that make a folder a project of a language. Not `package.json`, which projects of any language may have beside.
const MANIFESTS: &[(&str, &[&str])] = &[
    ("ruby", &["Gemfile", "gems.rb", "config.ru"]),
    ("php", &["composer.json"]),
    ("java", &["pom.xml", "build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts", "build.sbt"]),
    ("elixir", &["mix.exs"]),
    ("go", &["go.mod", "go.work"]),
    ("rust", &["Cargo.toml"]),
    ("deno", &["deno.json", "deno.jsonc", "deno.lock"]),
    ("python", &["requirements.txt", "pyproject.toml", "Pipfile", "setup.py", "manage.py"]),
    ("cc", &["CMakeLists.txt", "meson.build"]),
];

/// Status 0 if the folder has a manifest of a language that is none of these.
pub(super) fn other_language(folder: &Path, own: &[&str]) -> Answer {
    if let Some(unknown) = own.iter().find(|name| MANIFESTS.iter().all(|(language, _)| language != *name)) {
        return Err(wrong(format!("bp other-language: {unknown:?} is no language")));
    }
    let others = MANIFESTS.iter().filter(|(language, _)| !own.contains(language));
    let found = others.flat_map(|(_, files)| *files).any(|file| folder.join(file).is_file());
    if found { Ok(String::new()) } else { Err((1, String::new())) }
}

/// Adds a requirement to the build plan (buildpack.md, "Build Plan (TOML)"), or one that need not be met.
pub(super) fn requires(plan: Option<PathBuf>, name: &str, options: &[&str]) -> Answer {
    let plan = plan.ok_or_else(|| wrong("bp requires: there is no CNB_BUILD_PLAN_PATH; call it in bin/detect"))?;
    let (mut metadata, mut optional) = (toml::Table::new(), false);
    for option in options {
        match (*option, option.split_once('=')) {
            ("--optional", _) => optional = true,
            (_, Some((key, value))) => {
                metadata.insert(key.to_owned(), toml::Value::String(value.to_owned()));
            }
            _ => return Err(wrong(format!("bp requires: there is no option {option}"))),
        }
    }
    let mut entry = toml::Table::from_iter([("name".to_owned(), toml::Value::String(name.to_owned()))]);
    entry.insert("metadata".to_owned(), toml::Value::Table(metadata));
    let list = toml::Value::Array(vec![toml::Value::Table(entry)]);
    let mut text = toml::Table::from_iter([("requires".to_owned(), list)]).to_string();
    if optional {
        text.push_str("\n[[or]]\n");
    }
    let write = || std::fs::OpenOptions::new().create(true).append(true).open(&plan)?.write_all(text.as_bytes());
    write().map(|()| String::new()).map_err(|e: std::io::Error| wrong(format!("cannot write {}: {e}", plan.display())))
}

/// Of several programs, the one that is web: the only one, one that is called so, or one whose name all others begin with.
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
    found.map(str::to_owned).ok_or((1, String::new()))
}

/// Adds the program that is web, and each other as a process of its own name.
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
    use std::fs;

    use super::*;

    #[test]
    fn manifests_of_other_languages_count() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("go.mod"), "").unwrap();
        fs::write(dir.path().join("package.json"), "").unwrap();
        assert!(other_language(dir.path(), &["php"]).is_ok());
        assert_eq!(other_language(dir.path(), &["go", "rust"]).unwrap_err().0, 1);
        assert_eq!(other_language(dir.path(), &["golang"]).unwrap_err().0, 2);
    }

    #[test]
    fn requirements_may_be_optional() {
        let file = tempfile::NamedTempFile::new().unwrap();
        requires(Some(file.path().into()), "node", &["--optional", "role=assets"]).unwrap();
        let plan: toml::Table = fs::read_to_string(&file).unwrap().parse().unwrap();
        assert_eq!(plan["requires"][0]["name"].as_str(), Some("node"));
        assert_eq!(plan["requires"][0]["metadata"]["role"].as_str(), Some("assets"));
        assert_eq!(plan["or"].as_array().map(Vec::len), Some(1));
        assert_eq!(requires(None, "node", &[]).unwrap_err().0, 2);
        assert_eq!(requires(Some(file.path().into()), "node", &["--maybe"]).unwrap_err().0, 2);
    }

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
