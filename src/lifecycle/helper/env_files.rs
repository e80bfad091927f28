//! Files of variables (`.env`) that commands read and a repository rightly lacks.

use std::path::Path;

/// Programs whose operands a command makes, or looks at before it uses them.
const MAKERS: &[&str] = &["cp", "mv", "ln", "touch", "rm", "test", "[", "[["];

/// The files with variables (`.env`, `config/.env.production`) that shell commands name, that are not in the folder, and that the
/// commands do not make or look for themselves, one per line.
pub(super) fn env_files(folder: &Path, commands: &str) -> String {
    let simple: Vec<Vec<&str>> = commands
        .split([';', '&', '|', '(', ')', '`', '\n'])
        .map(|command| command.split([' ', '\t', '"', '\'', '<']).filter(|word| !word.is_empty()).collect())
        .collect();
    let mut files: Vec<&str> = Vec::new();
    for command in &simple {
        let mut named: Vec<&str> = command.iter().map(|word| file_of(word)).filter(|file| is_env_file(file)).collect();
        let is_env_cmd = command.iter().any(|word| word.rsplit('/').next() == Some("env-cmd"))
            && !command.iter().any(|word| word.starts_with("-f") || word.starts_with("--file"));
        if is_env_cmd {
            named.push(".env");
        }
        for file in named {
            let is_missing = !folder.join(file).exists() && folder.join(file).parent().is_some_and(Path::is_dir);
            if is_missing && !files.contains(&file) && !simple.iter().any(|command| makes(command, file)) {
                files.push(file);
            }
        }
    }
    files.join("\n")
}

/// The file in a word, which may be an option with it.
fn file_of(word: &str) -> &str {
    ["--env-file=", "--env="].iter().find_map(|option| word.strip_prefix(option)).unwrap_or(word)
}

fn is_env_file(file: &str) -> bool {
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    let is_plain = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let is_within = folder.is_empty()
        || folder
            .split('/')
            .enumerate()
            .all(|(i, part)| (i == 0 && part == ".") || (!part.is_empty() && is_plain(part)));
    let mut parts = name.split('.');
    is_within
        && parts.next() == Some("")
        && parts.next() == Some("env")
        && parts.all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase()))
}

/// Whether a simple command makes the file, or looks whether it is there: `[ -f .env ] || cp .env.example .env`.
fn makes(command: &[&str], file: &str) -> bool {
    let file = file.trim_start_matches("./");
    let is_it = |word: &str| word.trim_start_matches("./") == file;
    let is_redirected = command.iter().enumerate().any(|(i, word)| {
        word.starts_with('>')
            && (is_it(word.trim_start_matches('>'))
                || (word.ends_with('>') && command.get(i + 1).is_some_and(|next| is_it(next))))
    });
    let made = command.iter().position(|word| MAKERS.contains(word));
    is_redirected || made.is_some_and(|at| command.iter().skip(at + 1).any(|word| is_it(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_files_with_variables_are_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("config")).unwrap();
        std::fs::write(folder.path().join(".env.test"), "").unwrap();
        for (commands, files) in [
            ("node --env-file=.env src/server.js", ".env"),
            (
                "acme && node --env-file=./config/.env.production a.js; node --env-file=.env b.js",
                "./config/.env.production\n.env",
            ),
            ("env-cmd node a.js", ".env"),
            ("env-cmd -f .env.local node a.js", ".env.local"),
            ("env-cmd --file .env.test node a.js", ""),
            ("sh -c \"set -a; . .env; node a.js\"", ".env"),
            ("[ -f .env ] || cp .env.example .env; node --env-file=.env a.js", ""),
            ("node --env-file-if-exists=.env a.js", ""),
            ("test -f .env && . ./.env", ""),
            ("printenv >.env && node --env-file=./.env a.js", ""),
            ("printenv >> .env; node --env-file=.env a.js", ""),
            ("if [[ -f .env ]]; then . ./.env; else node a.js; fi", ""),
            (
                "export `cat .env`; node_modules/.bin/env-cmd -f x node a.js <config/.env.local",
                ".env\nconfig/.env.local",
            ),
            ("rm -f .env; node a.js", ""),
            ("cp a b; node --env-file=.env a.js", ".env"),
            (
                "node --env-file=/etc/.env --env-file=../.env --env-file=nowhere/.env --env-file=.env.example.d/x a.js",
                "",
            ),
            ("node .envrc .ENV .env.Local .env. a.js", ""),
        ] {
            assert_eq!(env_files(folder.path(), commands), files, "{commands}");
        }
    }
}
