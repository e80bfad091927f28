//! What a client's command line asks for.

use crate::model::{AppName, InvalidName};

/// Why a command line is refused; each is the user's.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Longer than is allowed.
    #[error("the command has {length} bytes, and {most} are allowed: send what is long on standard input")]
    TooLong {
        /// Its bytes.
        length: usize,
        /// The most.
        most: usize,
    },
    /// Not text.
    #[error("the command is not text in UTF-8 without NUL bytes")]
    NotText,
    /// A quote that does not end.
    #[error("the command has a quote or backslash that is not closed: quote arguments as for a shell")]
    Unbalanced,
    /// git with other arguments than one repository.
    #[error("{0} takes one repository: use ssh://HOST:PORT/APP")]
    Repository(&'static str),
    /// The repository's name is no app name.
    #[error(transparent)]
    App(#[from] InvalidName),
}

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    Greeting,
    ReceivePack(AppName),
    UploadPack(AppName),
    Command(Vec<String>),
}

pub(super) fn parse(command: &[u8], most: usize) -> Result<Act, RequestError> {
    if command.len() > most {
        return Err(RequestError::TooLong { length: command.len(), most });
    }
    let text = std::str::from_utf8(command).ok().filter(|t| !t.contains('\0')).ok_or(RequestError::NotText)?;
    let words = shell_words::split(text).map_err(|_| RequestError::Unbalanced)?;
    let as_text: Vec<&str> = words.iter().map(String::as_str).collect();
    match as_text.as_slice() {
        [] => Ok(Act::Greeting),
        ["git-receive-pack", rest @ ..] | ["git", "receive-pack", rest @ ..] => {
            Ok(Act::ReceivePack(app("git-receive-pack", rest)?))
        }
        ["git-upload-pack", rest @ ..] | ["git", "upload-pack", rest @ ..] => {
            Ok(Act::UploadPack(app("git-upload-pack", rest)?))
        }
        _ => Ok(Act::Command(words)),
    }
}

/// `app`, `/app`, `~/app`, each with or without `.git`.
fn app(what: &'static str, rest: &[&str]) -> Result<AppName, RequestError> {
    let [path] = rest else { return Err(RequestError::Repository(what)) };
    let name = path.strip_prefix("/~/").or_else(|| path.strip_prefix("~/")).unwrap_or(path);
    let name = name.strip_prefix('/').unwrap_or(name);
    let name = name.strip_suffix('/').unwrap_or(name);
    Ok(name.strip_suffix(".git").unwrap_or(name).parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: &str) -> Result<Act, String> {
        parse(command.as_bytes(), 1000).map_err(|e| e.to_string())
    }

    #[test]
    fn every_spelling_of_a_repository_is_the_app() {
        for path in ["'my-app'", "'/my-app'", "'/my-app.git'", "'~/my-app'", "'/~/my-app'", "my-app.git", "my-app/"] {
            let app: AppName = "my-app".parse().unwrap();
            assert_eq!(read(&format!("git-upload-pack {path}")).unwrap(), Act::UploadPack(app.clone()), "{path}");
            assert_eq!(read(&format!("git receive-pack {path}")).unwrap(), Act::ReceivePack(app), "{path}");
        }
        for path in ["'../x'", "'/a/b'", "''", "'-u'", "'.git'", "'//a'", "'a\nb'", "a b", ""] {
            assert!(read(&format!("git-receive-pack {path}")).is_err(), "{path}");
        }
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        let words = |text: &str| match read(text) {
            Ok(Act::Command(words)) => words,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(
            words("config:set app A='b c' D=\"e \\\" \\n\"  F=g\\ h ''"),
            ["config:set", "app", "A=b c", "D=e \" \\n", "F=g h", ""]
        );
        assert_eq!(words("a $HOME `id` ; rm * | x"), ["a", "$HOME", "`id`", ";", "rm", "*", "|", "x"]);
        assert_eq!(words("'it'\\''s' 'don'\\''t'"), ["it's", "don't"]);
        assert_eq!(read(" \n\t "), Ok(Act::Greeting));
        for bad in ["a 'b", "a \"b", "a \"\\"] {
            assert!(read(bad).unwrap_err().contains("not closed"), "{bad}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        assert!(matches!(parse(&[b'a'; 11], 10), Err(RequestError::TooLong { .. })));
        assert!(matches!(parse(b"a\0b", 10), Err(RequestError::NotText)));
        assert!(matches!(parse(b"a\xff", 10), Err(RequestError::NotText)));
    }
}
