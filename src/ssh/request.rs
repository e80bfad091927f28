//! The command line of an SSH request.

use crate::model::{AppName, InvalidName};

/// Why a command line is refused; every variant is the user's fault.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The command is too long.
    #[error("the command has {length} bytes, and at most {max} are allowed; send long values on standard input")]
    TooLong {
        /// Its length, bytes.
        length: usize,
        /// The allowed length, bytes.
        max: usize,
    },
    /// The command is not text.
    #[error("the command must be UTF-8 text without NUL bytes")]
    NotText,
    /// A quote is not closed.
    #[error("the command has a quote or backslash that is not closed; quote arguments as for a shell")]
    Unbalanced,
    /// git was given other arguments than one repository.
    #[error("{0} takes one repository; use ssh://HOST:PORT/APP")]
    Repository(&'static str),
    /// git-lfs asked for a place for its objects.
    #[error(
        "LFS objects are not stored here; `git push --no-verify` pushes the pointers alone, and `git lfs migrate export` \
         makes ordinary files of them"
    )]
    Lfs,
    /// The repository's name is not a valid app name.
    #[error(transparent)]
    App(#[from] InvalidName),
}

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequestedCommand {
    Greeting,
    ReceivePack(AppName),
    UploadPack(AppName),
    Command(Vec<String>),
}

pub(super) fn parse(command: &[u8], max: usize) -> Result<RequestedCommand, RequestError> {
    if command.len() > max {
        return Err(RequestError::TooLong { length: command.len(), max });
    }
    let text = std::str::from_utf8(command).ok().filter(|t| !t.contains('\0')).ok_or(RequestError::NotText)?;
    let mut words = shell_words::split(text).map_err(|_| RequestError::Unbalanced)?;
    rejoin_script(text, &mut words);
    let slices: Vec<&str> = words.iter().map(String::as_str).collect();
    match slices.as_slice() {
        [] => Ok(RequestedCommand::Greeting),
        ["git-receive-pack", rest @ ..] | ["git", "receive-pack", rest @ ..] => {
            Ok(RequestedCommand::ReceivePack(app("git-receive-pack", rest)?))
        }
        ["git-upload-pack", rest @ ..] | ["git", "upload-pack", rest @ ..] => {
            Ok(RequestedCommand::UploadPack(app("git-upload-pack", rest)?))
        }
        // The hook of git-lfs asks before a push; its objects go over HTTP, or over this protocol.
        ["git-lfs-authenticate" | "git-lfs-transfer", ..] => Err(RequestError::Lfs),
        _ => Ok(RequestedCommand::Command(words)),
    }
}

/// The client's shell has removed the quotes of `ssh … run APP sh -c 'exit 7'`: then all words after `-c` are the script. If
/// they were quoted for the server, too, they are left as they are.
fn rejoin_script(text: &str, words: &mut Vec<String>) {
    let is_shell = |word: &String| ["sh", "bash", "dash", "ash"].contains(&word.rsplit('/').next().unwrap_or_default());
    let Some(shell) = command_index(words).filter(|&at| is_shell(&words[at])) else { return };
    let takes_script = |option: &String| option.starts_with('-') && !option.starts_with("--") && option.ends_with('c');
    if !words.get(shell + 1).is_some_and(takes_script) || words.len() < shell + 4 {
        return;
    }
    let Some(&start) = word_starts(text).get(shell + 2) else { return };
    let rest = text[start..].trim_end();
    let first = rest.split_ascii_whitespace().next().unwrap_or_default();
    if !first.contains(['\'', '"', '\\']) {
        words.truncate(shell + 2);
        words.push(rest.to_owned());
    }
}

/// Where the user's command begins in the words of a command that runs one: after its names, its options and `--`.
fn command_index(words: &[String]) -> Option<usize> {
    let (mut names, options): (_, &[&str]) = match words.first()?.as_str() {
        "run" | "run:detached" => (1, &["--timeout", "--format"]),
        "enter" => (2, &["--format"]),
        _ => return None,
    };
    let (mut at, mut options_end) = (1, false);
    loop {
        let word = words.get(at)?;
        let (option, value) =
            word.split_once('=').map_or((word.as_str(), None), |(option, value)| (option, Some(value)));
        if !options_end && word == "--" {
            options_end = true;
        } else if !options_end && options.contains(&option) {
            at += usize::from(value.is_none());
        } else if names > 0 {
            names -= 1;
        } else {
            return Some(at);
        }
        at += 1;
    }
}

/// Where the words of a command line begin, as `shell_words` splits it.
fn word_starts(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let (mut quote, mut in_word) = (None, false);
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        if quote.is_none() && matches!(c, ' ' | '\t' | '\n') {
            in_word = false;
            continue;
        }
        if !in_word {
            if c == '#' {
                // A comment up to the end of the line.
                characters.find(|(_, c)| *c == '\n');
                continue;
            }
            if text[at..].starts_with("\\\n") {
                characters.next();
                continue;
            }
            in_word = true;
            starts.push(at);
        }
        match (quote, c) {
            (Some('"') | None, '\\') => drop(characters.next()),
            (Some(open), _) if open == c => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            _ => {}
        }
    }
    starts
}

/// Reads the app's name from a repository path: `app`, `/app` or `~/app`, each with or without `.git`.
fn app(program: &'static str, arguments: &[&str]) -> Result<AppName, RequestError> {
    let [path] = arguments else { return Err(RequestError::Repository(program)) };
    let name = path.strip_prefix("/~/").or_else(|| path.strip_prefix("~/")).unwrap_or(path);
    let name = name.strip_prefix('/').unwrap_or(name);
    let name = name.strip_suffix('/').unwrap_or(name);
    Ok(name.strip_suffix(".git").unwrap_or(name).parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: &str) -> Result<RequestedCommand, String> {
        parse(command.as_bytes(), 1000).map_err(|e| e.to_string())
    }

    #[test]
    fn every_form_of_a_repository_path_names_the_app() {
        for path in ["'my-app'", "'/my-app'", "'/my-app.git'", "'~/my-app'", "'/~/my-app'", "my-app.git", "my-app/"] {
            let app: AppName = "my-app".parse().unwrap();
            assert_eq!(
                read(&format!("git-upload-pack {path}")).unwrap(),
                RequestedCommand::UploadPack(app.clone()),
                "{path}"
            );
            assert_eq!(
                read(&format!("git receive-pack {path}")).unwrap(),
                RequestedCommand::ReceivePack(app),
                "{path}"
            );
        }
        for path in ["'../x'", "'/a/b'", "''", "'-u'", "'.git'", "'//a'", "'a\nb'", "a b", ""] {
            assert!(read(&format!("git-receive-pack {path}")).is_err(), "{path}");
        }
    }

    #[test]
    fn git_lfs_gets_one_line_that_says_how_to_push_without_it() {
        for command in
            ["git-lfs-authenticate 'app.git' upload", "git-lfs-authenticate /app download", "git-lfs-transfer app"]
        {
            let error = read(command).unwrap_err();
            assert!(error.starts_with("LFS objects are not stored here; `git push --no-verify` pushes"), "{error}");
            assert!(!error.contains('\n'));
        }
        assert!(matches!(read("git-lfs-other app"), Ok(RequestedCommand::Command(_))));
    }

    #[test]
    fn words_are_split_as_in_a_shell() {
        let words = |text: &str| match read(text) {
            Ok(RequestedCommand::Command(words)) => words,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(
            words("config:set app A='b c' D=\"e \\\" \\n\"  F=g\\ h ''"),
            ["config:set", "app", "A=b c", "D=e \" \\n", "F=g h", ""]
        );
        assert_eq!(words("a $HOME `id` ; rm * | x"), ["a", "$HOME", "`id`", ";", "rm", "*", "|", "x"]);
        assert_eq!(words("'it'\\''s' 'don'\\''t'"), ["it's", "don't"]);
        assert_eq!(read(" \n\t "), Ok(RequestedCommand::Greeting));
        for bad in ["a 'b", "a \"b", "a \"\\"] {
            assert!(read(bad).unwrap_err().contains("not closed"), "{bad}");
        }
    }

    #[test]
    fn a_script_whose_quotes_the_clients_shell_removed_is_put_together() {
        let words = |text: &str| match read(text) {
            Ok(RequestedCommand::Command(words)) => words,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(words("run app sh -c exit 7"), ["run", "app", "sh", "-c", "exit 7"]);
        assert_eq!(
            words("run app -- /bin/bash -lc echo \"a  b\" | wc "),
            ["run", "app", "--", "/bin/bash", "-lc", "echo \"a  b\" | wc"]
        );
        assert_eq!(words("run app sh -c 'exit 7'"), ["run", "app", "sh", "-c", "exit 7"]);
        assert_eq!(words("run app sh -c 'echo $1' x y"), ["run", "app", "sh", "-c", "echo $1", "x", "y"]);
        assert_eq!(words("run app sh -c ls"), ["run", "app", "sh", "-c", "ls"]);
        assert_eq!(words("run 'a b' sh -c exit 7"), ["run", "a b", "sh", "-c", "exit 7"]);
        assert_eq!(words("config:set app sh -c exit 7"), ["config:set", "app", "sh", "-c", "exit", "7"]);
        assert_eq!(words("run app env -c exit 7"), ["run", "app", "env", "-c", "exit", "7"]);
        // Neither a comment nor a line end that is escaped is a word.
        assert_eq!(words("run app #x\n\\\nsh -c exit 7"), ["run", "app", "sh", "-c", "exit 7"]);
    }

    #[test]
    fn only_a_shell_that_is_the_command_itself_takes_a_script() {
        let words = |text: &str| match read(text) {
            Ok(RequestedCommand::Command(words)) => words,
            other => panic!("{text}: {other:?}"),
        };
        for before in [
            "run app",
            "run app --",
            "run -- app",
            "run --timeout 5 app",
            "run app --timeout 5",
            "run:detached app --timeout=5 --format json --",
            "run --format=json app",
            "enter app web.1",
            "enter app web.1 --",
            "enter app --format json web",
            "run sh",
        ] {
            let mut expected: Vec<_> = before.split(' ').map(str::to_owned).collect();
            expected.extend(["sh", "-c", "exit 7"].map(str::to_owned));
            assert_eq!(words(&format!("{before} sh -c exit 7")), expected);
        }
        for command in [
            "run app grep sh -c foo bar",
            "run app -- timeout sh -c foo bar",
            "run app -x sh -c foo bar",
            "run app -- --timeout 5 sh -c foo bar",
            "run sh -c foo bar",
            "enter app sh -c foo bar",
            "enter app web.1 xargs sh -c foo bar",
            "enter app web.1 --timeout 5 sh -c foo bar",
            "run app --timeout",
            "run",
        ] {
            assert_eq!(words(command), command.split(' ').collect::<Vec<_>>());
        }
    }

    #[test]
    fn commands_that_are_too_long_or_not_text_are_refused() {
        assert!(matches!(parse(&[b'a'; 11], 10), Err(RequestError::TooLong { .. })));
        assert!(matches!(parse(b"a\0b", 10), Err(RequestError::NotText)));
        assert!(matches!(parse(b"a\xff", 10), Err(RequestError::NotText)));
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{assert_message, bytes_near, check, text_near};

    #[test]
    fn requests_are_read_or_refused_in_one_line() {
        let samples = [
            "git-receive-pack '/my-app.git'",
            "git upload-pack ~/a",
            "run app -- /bin/bash -lc echo \"a  b\" | wc ",
            "run --timeout 5 app sh -c exit 7 # x",
            "config:set app A='b c' D=\"e \\\" \\n\"  F=g\\ h ''",
            "enter app web.1 sh -c ls -l",
        ];
        check(bytes_near(&samples), |command| match parse(&command, 200) {
            Ok(_) => assert!(command.len() <= 200 && !command.contains(&0)),
            Err(error) => assert_message(&error),
        });
        check(text_near(&samples), |text| {
            if let Ok(words) = shell_words::split(&text) {
                assert_eq!(word_starts(&text).len(), words.len(), "{words:?}");
            }
        });
    }
}
