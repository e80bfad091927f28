//! Detection: which languages a folder has manifests of, and what a buildpack requires.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use super::answer::{Answer, no, wrong};

/// Files that make a folder a project of a language. `package.json` does not: projects of any language may have one.
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

/// Succeeds if the folder has a manifest of another language than these.
pub(super) fn other_language(folder: &Path, own: &[&str]) -> Answer {
    if let Some(unknown) = own.iter().find(|name| MANIFESTS.iter().all(|(language, _)| language != *name)) {
        return Err(wrong(format!("bp other-language: {unknown:?} is not a known language")));
    }
    let others = MANIFESTS.iter().filter(|(language, _)| !own.contains(language));
    let found = others.flat_map(|(_, files)| *files).any(|file| folder.join(file).is_file());
    if found { Ok(String::new()) } else { Err(no()) }
}

/// Adds a requirement to the build plan (buildpack.md, "Build Plan (TOML)"), which may be optional.
pub(super) fn requires(plan: Option<PathBuf>, name: &str, options: &[&str]) -> Answer {
    let plan = plan.ok_or_else(|| wrong("bp requires: CNB_BUILD_PLAN_PATH is not set; call it in bin/detect"))?;
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
        assert_eq!(other_language(dir.path(), &["go", "rust"]).unwrap_err().status, 1);
        assert_eq!(other_language(dir.path(), &["golang"]).unwrap_err().status, 2);
    }

    #[test]
    fn requirements_may_be_optional() {
        let file = tempfile::NamedTempFile::new().unwrap();
        requires(Some(file.path().into()), "node", &["--optional", "role=assets"]).unwrap();
        let plan: toml::Table = fs::read_to_string(&file).unwrap().parse().unwrap();
        assert_eq!(plan["requires"][0]["name"].as_str(), Some("node"));
        assert_eq!(plan["requires"][0]["metadata"]["role"].as_str(), Some("assets"));
        assert_eq!(plan["or"].as_array().map(Vec::len), Some(1));
        assert_eq!(requires(None, "node", &[]).unwrap_err().status, 2);
        assert_eq!(requires(Some(file.path().into()), "node", &["--maybe"]).unwrap_err().status, 2);
    }
}
