//! Commands as child processes, and their output.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

/// Exit status and output of a command.
#[derive(Debug)]
pub struct CommandOutput {
    pub ok: bool,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl CommandOutput {
    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(self.ok, "failed with {:?}\n--- out\n{}\n--- err\n{}", self.code, self.out, self.err);
        self
    }

    /// Fails the test unless the command failed.
    #[track_caller]
    pub fn failure(self) -> Self {
        assert!(!self.ok, "succeeded\n--- out\n{}\n--- err\n{}", self.out, self.err);
        self
    }

    /// Fails the test unless the command printed this text, on stdout or stderr.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.all().contains(text), "does not print {text:?}\n--- out\n{}\n--- err\n{}", self.out, self.err);
        self
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    /// Each line of standard output as a JSON value.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.out.lines().map(line).collect()
    }

    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        Self {
            ok: output.status.success(),
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

pub fn repository_root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).into()
}

/// The static binary that runs in containers.
pub fn lifecycle() -> PathBuf {
    repository_root().join("target/static/x86_64-unknown-linux-gnu/release/lifecycle")
}

pub fn run(command: &mut Command) -> CommandOutput {
    run_with(command, "")
}

pub fn run_with(command: &mut Command, stdin: impl AsRef<[u8]>) -> CommandOutput {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin.as_ref());
    output(child)
}

/// Waits for a child whose output is piped.
pub fn output(child: Child) -> CommandOutput {
    child.wait_with_output().unwrap().into()
}

/// `kill -9` of a process and all of its group.
pub fn kill_group(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
}
