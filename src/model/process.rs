//! Processes of an image, and the `Procfile` that declares them.

use super::{InvalidName, ProcessType};

/// A process of an image, as the buildpack specification's `launch.toml` declares it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Process {
    /// Process type.
    #[serde(rename = "type")]
    pub process_type: ProcessType,
    /// Command, with the arguments that are always passed.
    pub command: Vec<String>,
    /// Arguments that the caller can replace.
    #[serde(default)]
    pub args: Vec<String>,
    /// Whether the command is run without a shell.
    #[serde(default)]
    pub direct: bool,
    /// Whether the image runs this process by default.
    #[serde(default)]
    pub default: bool,
    /// Working directory, if it is not the app's folder.
    #[serde(default, rename = "working-dir", skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
}

/// Why a `Procfile` is refused; lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcfileError {
    /// A line is not of the form `type: command`.
    #[error("Procfile line {0}: write it as `type: command`, for example `web: node server.js`")]
    Syntax(usize),
    /// A process type's name is invalid.
    #[error("Procfile line {0}: {1}")]
    Name(usize, InvalidName),
    /// A process type is declared twice.
    #[error("Procfile line {0}: process type {1} is declared twice; keep one of the two lines")]
    Twice(usize, ProcessType),
    /// No process is declared.
    #[error("Procfile declares no process; add a line such as `web: node server.js`, or delete the file")]
    Empty,
    /// The file is too large.
    #[error("Procfile is larger than 64 KiB; shorten it, or move the commands to scripts")]
    TooLarge,
}

/// A parsed `Procfile`: process types and commands, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Procfile(pub Vec<(ProcessType, String)>);

impl Procfile {
    /// Parses the text of a `Procfile`: one `type: command` per line; blank lines and `#` comments are ignored.
    pub fn parse(text: &str) -> Result<Self, ProcfileError> {
        if text.len() > 64 * 1024 {
            return Err(ProcfileError::TooLarge);
        }
        let mut entries: Vec<(ProcessType, String)> = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, command) = line.split_once(':').ok_or(ProcfileError::Syntax(number))?;
            let command = command.trim();
            if command.is_empty() || command.contains('\0') {
                return Err(ProcfileError::Syntax(number));
            }
            let process_type: ProcessType = name.trim().parse().map_err(|e| ProcfileError::Name(number, e))?;
            if entries.iter().any(|(other, _)| *other == process_type) {
                return Err(ProcfileError::Twice(number, process_type));
            }
            entries.push((process_type, command.to_owned()));
        }
        if entries.is_empty() { Err(ProcfileError::Empty) } else { Ok(Self(entries)) }
    }

    /// Whether it declares processes that go on, but none that is exposed.
    pub fn has_only_workers(&self) -> bool {
        let mut running = self.0.iter().filter(|(process_type, _)| !process_type.is_release()).peekable();
        running.peek().is_some() && running.all(|(process_type, _)| !process_type.is_web())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_procfile_keeps_its_order() {
        let Procfile(entries) = Procfile::parse("# hi\r\nweb: node a.js --x=1:2\n\nworker : sh w\n").expect("valid");
        let read: Vec<_> = entries.iter().map(|(t, c)| (t.as_str(), c.as_str())).collect();
        assert_eq!(read, [("web", "node a.js --x=1:2"), ("worker", "sh w")]);
    }

    #[test]
    fn a_procfile_with_workers_alone_is_recognised() {
        for (text, only_workers) in
            [("worker: a", true), ("worker: a\nrelease: b", true), ("release: b", false), ("web: a\nworker: b", false)]
        {
            assert_eq!(Procfile::parse(text).expect(text).has_only_workers(), only_workers, "{text}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(Procfile::parse("web: a\nnonsense"), Err(ProcfileError::Syntax(2)));
        assert_eq!(Procfile::parse("web:"), Err(ProcfileError::Syntax(1)));
        assert_eq!(Procfile::parse("\n#x\n"), Err(ProcfileError::Empty));
        assert!(matches!(Procfile::parse("a: b\na: c"), Err(ProcfileError::Twice(2, _))));
        assert!(matches!(Procfile::parse("we b: c"), Err(ProcfileError::Name(1, _))));
        assert_eq!(Procfile::parse(&"#".repeat(70_000)), Err(ProcfileError::TooLarge));
    }
}
