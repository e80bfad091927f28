//! A person at a terminal.

use std::{
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use super::waiting::eventually;

/// A terminal as a person has one.
pub struct Person {
    script: Child,
    screen: mpsc::Receiver<String>,
    seen: String,
}

impl Person {
    /// Runs a command in a terminal of 33 rows and 101 columns.
    pub fn at_terminal(command: &Command) -> Self {
        let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
        let variables = command.get_envs().filter_map(|(name, value)| Some(format!("{}={}", text(name), text(value?))));
        let words = std::iter::once(command.get_program()).chain(command.get_args()).map(text);
        let words: Vec<_> = std::iter::once("env".to_owned()).chain(variables).chain(words).collect();
        let line = format!("tty; stty rows 33 cols 101; exec {}", shell_words::join(words));
        let mut script = Command::new("script");
        script.args(["-qefc", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = script.env("SHELL", "/bin/sh").env("TERM", "xterm-256color").spawn().unwrap();
        let mut output = script.stdout.take().unwrap();
        let (sender, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut piece) {
                let _ = sender.send(String::from_utf8_lossy(&piece[..length]).into_owned());
            }
        });
        Self { script, screen, seen: String::new() }
    }

    /// Types these keys.
    pub fn types(&mut self, keys: &str) {
        self.script.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen shows this; returns what it showed before that.
    pub fn sees(&mut self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some((before, after)) = self.seen.split_once(text) {
                let (before, after) = (before.to_owned(), after.to_owned());
                self.seen = after;
                return before;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(piece) => self.seen += &piece,
                Err(_) => panic!("{text:?} does not appear, but {:?}", self.seen),
            }
        }
    }

    /// Waits for the end of the command; returns its exit status.
    pub fn leaves(mut self) -> i32 {
        eventually("the terminal is left", || self.script.try_wait().unwrap()).code().unwrap()
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
