//! Versions that a project names in files of version managers.

use std::path::Path;

use serde_json::Value;

use super::{
    answer::{Answer, Refusal, no, wrong},
    documents::{Syntax, document},
};
use crate::lifecycle::files;

/// Files of mise, in the order in which they are read.
const MISE_FILES: &[&str] = &["mise.toml", ".mise.toml", "mise/config.toml", ".mise/config.toml", ".config/mise.toml"];

/// The first version that the files name, or `.tool-versions` and mise's files for the tools, and the file that names it, with a
/// tab between.
pub(super) fn named_version(folder: &Path, words: &[&str]) -> Answer {
    let split = words.iter().position(|word| *word == "--tool").unwrap_or(words.len());
    let (own, tools) = (&words[..split], words.get(split + 1..).unwrap_or_default());
    for file in own {
        if let Some(version) = read(folder, file)?.as_deref().and_then(first_word) {
            return Ok(format!("{}\t{file}", plain(version, tools)));
        }
    }
    if tools.is_empty() {
        return Err(no());
    }
    let file = ".tool-versions";
    if let Some(version) = read(folder, file)?.as_deref().and_then(|text| of_tool(text, tools)) {
        return Ok(format!("{}\t{file}", plain(version, tools)));
    }
    for file in MISE_FILES {
        let Some(text) = read(folder, file)? else { continue };
        let settings = document(Syntax::Toml, file, &text)?;
        let named = tools.iter().find_map(|tool| settings.get("tools")?.get(tool)).and_then(of_mise);
        let version = match named {
            Some(Value::String(version)) => version.clone(),
            Some(Value::Number(version)) if version.is_f64() => {
                return Err(wrong(format!(
                    "{file}: a version is a number there, of which 1.20 and 1.2 are the same: put it in quotation marks"
                )));
            }
            Some(Value::Number(version)) => version.to_string(),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => continue,
        };
        return Ok(format!("{}\t{file}", plain(&version, tools)));
    }
    Err(no())
}

fn read(folder: &Path, file: &str) -> Result<Option<String>, Refusal> {
    let path = folder.join(file);
    if path.is_dir() { Ok(None) } else { files::read_text(&path).map_err(wrong) }
}

/// The words of a line outside of comments.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace().take_while(|word| !word.starts_with('#'))
}

fn first_word(text: &str) -> Option<&str> {
    text.lines().find_map(|line| words(line).next())
}

/// The first version that `.tool-versions` has for one of the tools.
fn of_tool<'a>(text: &'a str, tools: &[&str]) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut words = words(line);
        tools.contains(&words.next()?).then(|| words.next())?
    })
}

/// The version in what mise has for a tool: itself, the first of a list, or the key `version` of a table.
fn of_mise(value: &Value) -> Option<&Value> {
    match value {
        Value::Array(list) => of_mise(list.first()?),
        Value::Object(table) => of_mise(table.get("version")?),
        Value::String(_) | Value::Number(_) | Value::Null | Value::Bool(_) => Some(value),
    }
}

/// A version without what managers and people put around it: quotation marks, `prefix:`, the tool's name, a `v`.
fn plain<'a>(written: &'a str, tools: &[&str]) -> &'a str {
    let mut version = written.trim_matches(['"', '\'']);
    for prefix in ["latest:", "prefix:"] {
        version = version.strip_prefix(prefix).unwrap_or(version);
    }
    let begins_with_digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let named =
        tools.iter().filter_map(|tool| version.strip_prefix(tool)).map(|rest| rest.strip_prefix('-').unwrap_or(rest));
    for candidate in named.chain([version]) {
        let candidate = candidate.strip_prefix(['v', 'V']).unwrap_or(candidate);
        if begins_with_digit(candidate) {
            return candidate;
        }
    }
    version
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What the arguments find in a folder with this file.
    fn found(file: &str, text: &str, words: &[&str]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        named_version(dir.path(), words).ok().map(|found| found.replace('\t', " of "))
    }

    #[test]
    fn a_file_names_a_version() {
        for (text, version) in [
            ("v22.1.0\r\n", "22.1.0"),
            ("# the team's\n\n  22.x # until May\n", "22.x"),
            ("\"3.3\"\n", "3.3"),
            ("'3.3'", "3.3"),
            ("node-v20", "20"),
            ("lts/jod\n", "lts/jod"),
            ("vivid", "vivid"),
        ] {
            assert_eq!(found(".v", text, &[".none", ".v", "--tool", "node"]), Some(format!("{version} of .v")));
        }
        for text in ["", "\n# 22\n"] {
            assert_eq!(found(".v", text, &[".v"]), None);
        }
    }

    #[test]
    fn a_tool_has_a_version_in_a_file_of_all_tools() {
        let all = "# tools\r\nruby 3.3.4 3.1.0\r\nnodejs latest:22\r\npython ref:main # x\r\nelixir # none\r\n";
        for (tool, version) in [
            ("ruby", Some("3.3.4")),
            ("nodejs", Some("22")),
            ("python", Some("ref:main")),
            ("elixir", None),
            ("php", None),
        ] {
            let expected = version.map(|version| format!("{version} of .tool-versions"));
            assert_eq!(found(".tool-versions", all, &["--tool", tool]), expected);
        }
        let mise = "[tools]\nnode = { version = \"22\", os = [\"linux\"] }\nruby = [\"ruby-3.3\", \"3.1\"]\nphp = \"prefix:8.2\"\ngo = 22\n";
        for (tool, version) in
            [("node", Some("22")), ("ruby", Some("3.3")), ("php", Some("8.2")), ("go", Some("22")), ("deno", None)]
        {
            let expected = version.map(|version| format!("{version} of .config/mise.toml"));
            assert_eq!(found(".config/mise.toml", mise, &["--tool", "none", tool]), expected);
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mise.toml"), "[tools").unwrap();
        let refusal = named_version(dir.path(), &["--tool", "node"]).unwrap_err();
        assert_eq!(refusal.status, 2);
        assert!(refusal.text.contains("mise.toml is not valid"), "{}", refusal.text);
        for tools in ["python = 3.10", "python = { version = 3.10 }", "python = [3.10]"] {
            fs::write(dir.path().join("mise.toml"), format!("[tools]\n{tools}\n")).unwrap();
            let refusal = named_version(dir.path(), &["--tool", "python"]).unwrap_err();
            assert!(refusal.status == 2 && refusal.text.contains("in quotation marks"), "{}", refusal.text);
        }
        assert_eq!(named_version(dir.path(), &[]).unwrap_err().status, 1);
    }
}
