//! Tasks: commands that are run once, in the image and with the config vars of a release.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ProcessType;

/// What a task is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// A command that a user runs.
    Run,
    /// A scheduled job.
    Cron,
    /// `scripts.dokku.predeploy` of `app.json`: before a deployed release becomes current.
    Predeploy,
    /// The process type `release`: before a release becomes current.
    Release,
    /// `scripts.postdeploy` of `app.json`: after the first release of an app has become current.
    FirstDeploy,
    /// `scripts.dokku.postdeploy` of `app.json`: after a deployed release has become current.
    Postdeploy,
}

impl TaskKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Run, Self::Cron, Self::Predeploy, Self::Release, Self::FirstDeploy, Self::Postdeploy];

    /// Name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Cron => "cron",
            Self::Predeploy => "predeploy",
            Self::Release => "release",
            Self::FirstDeploy => "first-deploy",
            Self::Postdeploy => "postdeploy",
        }
    }

    /// Whether it is part of the release phase, and run before the release becomes current.
    pub fn is_before_release(self) -> bool {
        match self {
            Self::Predeploy | Self::Release => true,
            Self::Run | Self::Cron | Self::FirstDeploy | Self::Postdeploy => false,
        }
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for TaskKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| text.to_owned())
    }
}

/// Name of a task within its app: `run.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskName {
    /// Its kind.
    pub kind: TaskKind,
    /// Its number, which is unique within the app.
    pub number: u64,
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.kind, self.number))
    }
}

impl std::str::FromStr for TaskName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.rsplit_once('.').and_then(|(kind, number)| {
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            // The database's numbers are signed.
            let number = number.parse().ok().filter(|number| digits && i64::try_from(*number).is_ok())?;
            Some(Self { kind: kind.parse().ok()?, number })
        });
        parsed.ok_or_else(|| "write the name of a task as KIND.NUMBER, for example run.7".to_owned())
    }
}

/// What a task runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskCommand {
    /// A process type of the release.
    Process(ProcessType),
    /// A program and its arguments.
    Words(Vec<String>),
    /// A line for the shell.
    Script(String),
}

impl TaskCommand {
    /// The command that a user gave: a process type, with arguments if there are some, a program, or one line for the shell.
    pub fn of_words(words: Vec<String>, is_process: impl Fn(&ProcessType) -> bool) -> Self {
        match <[String; 1]>::try_from(words) {
            Ok([word]) => match word.parse() {
                Ok(process_type) if is_process(&process_type) => Self::Process(process_type),
                _ => Self::Script(word),
            },
            Err(words) => Self::Words(words),
        }
    }
}

impl fmt::Display for TaskCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(process_type) => write!(f, "{process_type}"),
            Self::Words(words) => f.write_str(&words.join(" ")),
            Self::Script(script) => f.write_str(script),
        }
    }
}

/// What `app.json` has run when a release is deployed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scripts {
    /// `scripts.dokku.predeploy` of `app.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predeploy: Option<String>,
    /// `scripts.dokku.postdeploy` of `app.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postdeploy: Option<String>,
    /// `scripts.postdeploy` of `app.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_deploy: Option<String>,
}

/// What the `app.json` of a release declares besides its process types.
#[cfg(feature = "server")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseManifest {
    /// What is run when it is deployed.
    #[serde(default)]
    pub scripts: Scripts,
    /// Scheduled jobs.
    #[serde(default)]
    pub cron: Vec<super::CronJob>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back() {
        for kind in TaskKind::ALL {
            let name = TaskName { kind, number: 12 };
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for bad in ["", "run", "run.", "run.x", "web.1", ".1", "run.-1", "run.+1", "run.9223372036854775808"] {
            assert!(bad.parse::<TaskName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_word_is_a_process_type_or_a_line_for_the_shell() {
        let of = |words: &[&str]| {
            TaskCommand::of_words(words.iter().map(|word| (*word).to_owned()).collect(), |p| p.as_str() == "console")
        };
        assert_eq!(of(&["console"]), TaskCommand::Process("console".parse().unwrap()));
        assert_eq!(of(&["bash"]), TaskCommand::Script("bash".into()));
        assert_eq!(of(&["echo $A && ls"]), TaskCommand::Script("echo $A && ls".into()));
        assert_eq!(of(&["ls", "-l"]), TaskCommand::Words(vec!["ls".into(), "-l".into()]));
    }
}
