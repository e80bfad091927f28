//! Windows line ends (CRLF) in scripts. To the kernel and to shells the carriage return is a part of the last word: `#!/bin/sh`
//! names a program that does not exist, `set -e` an unknown option.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::shells::{file_name, is_shell};

/// Largest script, in bytes; a larger file is left alone.
const MAX_SCRIPT_BYTES: u64 = 1 << 20;
/// Longest first line that names an interpreter, in bytes: what the kernel reads.
const MAX_FIRST_LINE: u64 = 256;

/// Files with commands, which may name scripts.
const COMMAND_FILES: [&str; 10] = [
    ".profile",
    "GNUmakefile",
    "Makefile",
    "Procfile",
    "app.json",
    "composer.json",
    "deno.json",
    "package.json",
    "project.toml",
    "pyproject.toml",
];
const SHELL_EXTENSIONS: [&str; 4] = ["bash", "ksh", "sh", "zsh"];

/// What is to be done, or was done, about a script with Windows line ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Remedy {
    /// The user is to convert it.
    Convert,
    /// It was converted.
    Converted,
}

/// What is said of a script with Windows line ends.
pub(super) fn message(script: &Path, remedy: Remedy) -> String {
    let script = script.display();
    let remedy = match remedy {
        Remedy::Convert => {
            "convert it to LF, and commit a .gitattributes with a line such as: *.sh text eol=lf".to_owned()
        }
        Remedy::Converted => format!(
            "they were converted. To have git do so, commit a .gitattributes with the line: {script} text eol=lf"
        ),
    };
    format!("{script} has Windows line ends (CRLF), with which it does not run: {remedy}")
}

/// The script of a command that has Windows line ends: the program itself, or what a shell is to read. A relative path begins
/// in this folder.
pub(super) fn script_with_crlf(program: &Path, args: &[String], folder: &Path) -> Option<PathBuf> {
    if first_line(&folder.join(program)).is_some_and(|line| line.ends_with('\r')) {
        return Some(program.to_owned());
    }
    let is_option = |arg: &&String| arg.starts_with(['-', '+']);
    let script = args.iter().find(|arg| !is_option(arg))?;
    // With `-c`, also as `-ec`, the word is a command.
    let is_command = |arg: &String| arg.starts_with('-') && !arg.starts_with("--") && arg.ends_with('c');
    let reads_file = program.to_str().is_some_and(is_shell) && !args.iter().take_while(is_option).any(is_command);
    let script = folder.join(script);
    (reads_file && has_crlf(&script)).then_some(script)
}

/// The first line of a script, without its end; `None` if the file is no script.
pub(super) fn first_line(path: &Path) -> Option<String> {
    let file = open(path)?;
    let mut head = Vec::new();
    file.take(MAX_FIRST_LINE).read_to_end(&mut head).ok()?;
    let line = head.split(|byte| *byte == b'\n').next()?;
    line.starts_with(b"#!").then(|| String::from_utf8_lossy(line).into_owned())
}

/// Converts the scripts of a buildpack that came from somebody's repository. Returns a line about each for its author.
pub fn convert_scripts_of_buildpack(folder: &Path) -> io::Result<Vec<String>> {
    let converted = convert_scripts(folder)?;
    Ok(converted.iter().map(|script| message(script, Remedy::Converted)).collect())
}

/// Converts the line ends of an app's scripts that would not run otherwise: of shell scripts (by their names, or by the
/// interpreter that the first line names), of other programs whose first line names the interpreter with a carriage return,
/// also those that are not executable but named in a file with commands, and of what such a file or another script has a shell
/// read. Returns their paths in the folder, in order.
pub(super) fn convert_scripts(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut scripts = Scripts::default();
    scripts.search(folder)?;
    scripts.with_crlf.extend(inside(folder, ".profile").filter(|path| has_crlf(path)));
    let commands =
        COMMAND_FILES.iter().filter_map(|name| inside(folder, name)).chain(scripts.of_shells.iter().cloned());
    let mut unread: Vec<PathBuf> = commands.collect();
    let mut read: BTreeSet<PathBuf> = unread.iter().cloned().collect();
    while let Some(path) = unread.pop() {
        let Some(text) = text_of(&path) else { continue };
        let text = String::from_utf8_lossy(&text);
        let of_shell = scripts_of(&text).filter_map(|name| inside(folder, name)).collect::<BTreeSet<_>>();
        let programs = words_of(&text).filter(|word| word.contains('/')).filter_map(|name| inside(folder, name));
        scripts.with_crlf.extend(programs.filter(|path| interpreter_ends_with_cr(path) && has_crlf(path)));
        scripts.with_crlf.extend(of_shell.iter().filter(|path| has_crlf(path)).cloned());
        unread.extend(of_shell.into_iter().filter(|script| read.insert(script.clone())));
    }
    for path in &scripts.with_crlf {
        let text = fs::read(path)?;
        fs::write(path, converted(&text))?;
    }
    Ok(scripts.with_crlf.iter().filter_map(|path| path.strip_prefix(folder).ok()).map(Path::to_owned).collect())
}

/// The scripts of an app.
#[derive(Default)]
struct Scripts {
    of_shells: BTreeSet<PathBuf>,
    /// Those that would not run.
    with_crlf: BTreeSet<PathBuf>,
}

impl Scripts {
    /// Finds those that tell by their name or first line what runs them.
    fn search(&mut self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                self.search(&path)?;
            } else if kind.is_file() {
                let interpreter = first_line(&path);
                let of_shell = has_shell_extension(&path) || interpreter.as_ref().is_some_and(|line| is_of_shell(line));
                let program = || entry.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o100 != 0);
                let may_fail = of_shell || interpreter.is_some_and(|line| line.ends_with('\r')) && program();
                // One with a few such line ends may have them in a text.
                if may_fail && text_of(&path).is_some_and(|text| first_end_is_crlf(&text)) {
                    self.with_crlf.insert(path.clone());
                }
                if of_shell {
                    self.of_shells.insert(path);
                }
            }
        }
        Ok(())
    }
}

fn has_shell_extension(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| SHELL_EXTENSIONS.contains(&extension))
}

fn first_end_is_crlf(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').next().is_some_and(|line| line.len() < text.len() && line.ends_with(b"\r"))
}

fn interpreter_ends_with_cr(path: &Path) -> bool {
    first_line(path).is_some_and(|line| line.ends_with('\r'))
}

/// `#!/bin/sh`, `#!/usr/bin/env bash`.
fn is_of_shell(first_line: &str) -> bool {
    let words = first_line.trim_start_matches("#!").split_ascii_whitespace();
    words.take(2).any(is_shell)
}

/// The words of a command, without its quotes and operators, and without the escapes of quotes in JSON and TOML.
fn words_of(command: &str) -> impl Iterator<Item = &str> {
    let separators =
        |c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')' | '\'' | '"' | '`' | '\\' | ',');
    command.split(separators).filter(|word| !word.is_empty())
}

/// The words of a command that may be scripts: what a shell reads, and programs of the app.
fn scripts_of(command: &str) -> impl Iterator<Item = &str> {
    let mut after_shell = false;
    words_of(command).filter(move |word| {
        let script = (after_shell && !word.starts_with('-')) || word.starts_with("./");
        let reads_script = is_shell(word) || matches!(file_name(word), "." | "source");
        after_shell = reads_script || (after_shell && word.starts_with('-'));
        script
    })
}

/// The path of a file of the folder; `None` if it leads elsewhere.
fn inside(folder: &Path, name: &str) -> Option<PathBuf> {
    let path = folder.join(name).canonicalize().ok()?;
    path.starts_with(folder.canonicalize().ok()?).then(|| folder.join(name.trim_start_matches("./")))
}

/// Whether a script has lines that end with CRLF.
fn has_crlf(path: &Path) -> bool {
    text_of(path).is_some_and(|text| text.windows(2).any(|two| two == b"\r\n"))
}

/// The content of a script; `None` if it is too large for one, or binary.
fn text_of(path: &Path) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    open(path)?.take(MAX_SCRIPT_BYTES + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= MAX_SCRIPT_BYTES && !text.contains(&0)).then_some(text)
}

/// Opens a regular file; a pipe would be waited for.
fn open(path: &Path) -> Option<fs::File> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    fs::File::open(path).ok()
}

fn converted(text: &[u8]) -> Vec<u8> {
    let ends = |at: usize| text[at] == b'\r' && text.get(at + 1) == Some(&b'\n');
    (0..text.len()).filter(|at| !ends(*at)).map(|at| text[at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, mode: u32, text: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn scripts_that_would_not_run_are_converted_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let procfile = "web: sh -e ./start.sh\r\nworker: FOO=1 ./run && bash 'bin/job.sh'\r\nother: python3 data.py\r\ntask: bin/task\r\n";
        write(dir.path(), "Procfile", 0o644, procfile);
        write(dir.path(), "package.json", 0o644, r#"{"scripts": {"start": "sh \"bin/serve\" && node ."}}"#);
        write(dir.path(), "app.json", 0o644, r#"{"scripts": {"dokku": {"predeploy": "bash bin/migrate"}}}"#);
        let text = "set -e\r\necho a\r b\r\n";
        for (name, mode, text) in [
            ("start.sh", 0o644, text),
            ("bin/job.sh", 0o644, text),
            ("bin/task", 0o644, "#!/usr/bin/env ruby\r\nputs\r\n"),
            ("run", 0o755, text),
            (".profile", 0o644, text),
            ("gradlew", 0o755, "#!/usr/bin/env bash\r\nexit\r\n"),
            ("lib/helper", 0o644, "#!/bin/sh\r\nexit\r\n"),
            ("tool.py", 0o755, "#!/usr/bin/env python3\r\nprint()\r\n"),
            ("bin/serve", 0o644, text),
            ("bin/migrate", 0o644, ". bin/settings\nsh lib/more\n"),
            ("bin/settings", 0o644, "A=1\r\n"),
            ("lib/more", 0o644, "B=1\r\n"),
            ("ci/unnamed.sh", 0o644, text),
        ] {
            write(dir.path(), name, mode, text);
        }
        let left = [
            ("data.py", 0o644, "#!/usr/bin/env python3\r\nprint()\r\n"),
            ("data.csv", 0o755, "a\r\n"),
            ("fine.sh", 0o755, "#!/bin/sh\necho 'a\r\n'\n"),
            ("binary", 0o755, "#!/bin/sh\r\n\0\r\n"),
        ]
        .map(|(name, mode, text)| (write(dir.path(), name, mode, text), text));
        let converted = convert_scripts(dir.path()).unwrap();
        let names: Vec<_> = converted.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                ".profile",
                "bin/job.sh",
                "bin/serve",
                "bin/settings",
                "bin/task",
                "ci/unnamed.sh",
                "gradlew",
                "lib/helper",
                "lib/more",
                "run",
                "start.sh",
                "tool.py"
            ]
        );
        assert_eq!(fs::read_to_string(dir.path().join("start.sh")).unwrap(), "set -e\necho a\r b\n");
        assert_eq!(fs::metadata(dir.path().join("gradlew")).unwrap().permissions().mode() & 0o777, 0o755);
        for (path, text) in left {
            assert_eq!(fs::read_to_string(path).unwrap(), text);
        }
        assert!(convert_scripts(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_procfile_reaches_no_file_outside_the_app() {
        let dir = tempfile::tempdir().unwrap();
        let outside = write(dir.path(), "outside.sh", 0o644, "a\r\n");
        let app = dir.path().join("app");
        write(&app, "Procfile", 0o644, "web: sh ../outside.sh\nworker: sh link.sh\n");
        std::os::unix::fs::symlink(&outside, app.join("link.sh")).unwrap();
        assert!(convert_scripts(&app).unwrap().is_empty());
        // Nor is one read that is a link to such a file: on the server it could be any file.
        fs::remove_file(app.join("Procfile")).unwrap();
        std::os::unix::fs::symlink(write(dir.path(), "Procfile", 0o644, "web: sh run\n"), app.join("Procfile"))
            .unwrap();
        write(&app, "run", 0o644, "a\r\n");
        assert!(convert_scripts(&app).unwrap().is_empty());
    }

    #[test]
    fn the_script_of_a_command_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let program = write(dir.path(), "entrypoint.sh", 0o755, "#!/bin/sh\r\nexec true\r\n");
        let plain = write(dir.path(), "plain.sh", 0o644, "exec true\r\n");
        let find = |program: &str, args: &[&str]| {
            let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
            script_with_crlf(Path::new(program), &args, dir.path())
        };
        assert_eq!(find(program.to_str().unwrap(), &["x"]), Some(program));
        assert_eq!(find("/bin/sh", &["-e", "plain.sh"]), Some(plain));
        assert_eq!(find("./plain.sh", &["x"]), None, "it names no interpreter");
        assert_eq!(find("./entrypoint.sh", &[]), Some("./entrypoint.sh".into()), "in the folder");
        assert_eq!(find("/bin/sh", &["plain.sh", "--sync"]), Some(dir.path().join("plain.sh")));
        assert_eq!(find("/bin/bash", &["--norc", "plain.sh"]), Some(dir.path().join("plain.sh")));
        assert_eq!(find("/bin/sh", &["-c", "plain.sh"]), None);
        assert_eq!(find("/bin/sh", &["-ec", "plain.sh"]), None);
        assert_eq!(find("/bin/cat", &["plain.sh"]), None);
        assert_eq!(find("/bin/sh", &[]), None);
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{bytes_near, check, text_near};

    #[test]
    fn only_returns_before_line_ends_are_removed() {
        check(bytes_near(&["#!/bin/sh\r\nset -e\r\n", "a\r b\n\r\r\n"]), |text| {
            let without_returns = |text: &[u8]| text.iter().copied().filter(|byte| *byte != b'\r').collect::<Vec<_>>();
            let (ends, converted) = (text.windows(2).filter(|two| two == b"\r\n").count(), converted(&text));
            assert_eq!(converted.len(), text.len() - ends);
            assert_eq!(without_returns(&converted), without_returns(&text));
        });
    }

    #[test]
    fn scripts_of_a_command_are_words_of_it() {
        check(text_near(&["sh -e ./start.sh", "FOO=1 ./run && bash 'bin/job.sh'", ". ./x; source y"]), |command| {
            let words: Vec<_> = words_of(&command).collect();
            assert!(scripts_of(&command).all(|script| words.contains(&script)));
        });
    }
}
