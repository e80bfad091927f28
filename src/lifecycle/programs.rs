//! Runs programs of buildpacks: each in a process group of its own, its output passed on line by line.

use std::{
    io::{self, BufRead as _, BufReader, Read},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{dirs::Dirs, env::Env};

/// Longest line of output that is passed on whole, in bytes.
const MAX_LINE_BYTES: u64 = 16 * 1024;

/// Process groups that run, so that all can be killed at once.
#[derive(Clone, Default)]
pub(super) struct ProcessGroups {
    running: Arc<Mutex<Vec<Pid>>>,
    /// No process of the container is anybody else's: those that left their group can be killed, too.
    own_container: Arc<AtomicBool>,
}

impl ProcessGroups {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<Pid>) -> T) -> T {
        act(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Declares that all processes of the container belong to the build.
    pub(super) fn own_container(&self) {
        self.own_container.store(true, Ordering::Relaxed);
    }

    /// Starts a program in a process group of its own.
    fn start(&self, command: &mut Command) -> io::Result<(Child, Option<Pid>)> {
        // Under the lock, so that nothing is started while leftovers are killed.
        self.with(|running| {
            let child = command.process_group(0).spawn()?;
            let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            running.extend(group);
            Ok((child, group))
        })
    }

    /// Kills what a program left behind: it must not go on in the next phase, nor hold its output open.
    fn end(&self, group: Pid) {
        self.with(|running| {
            let _ = kill_process_group(group, Signal::KILL);
            running.retain(|other| *other != group);
            if running.is_empty() && self.own_container.load(Ordering::Relaxed) {
                // All processes but the first one and this one (kill(2), -1).
                let _ = kill_process_group(Pid::INIT, Signal::KILL);
            }
        });
    }

    pub(super) fn kill(&self) {
        self.with(|running| {
            for group in running.iter() {
                let _ = kill_process_group(*group, Signal::KILL);
            }
        });
    }
}

/// Runs a program to its end, in the app's folder, and passes each line of its output to `show`. Returns its exit status;
/// 128 and more for signals.
pub(super) fn run(
    program: &Path,
    arguments: &[&Path],
    env: &Env,
    dirs: &Dirs,
    groups: &ProcessGroups,
    show: &(dyn Fn(&str) + Sync),
) -> io::Result<i32> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(env).current_dir(&dirs.workspace);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, group) = groups.start(&mut command)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let status = std::thread::scope(|scope| {
        if let Some(stdout) = stdout {
            scope.spawn(move || read_lines(stdout, show));
        }
        if let Some(stderr) = stderr {
            scope.spawn(move || read_lines(stderr, show));
        }
        let status = child.wait();
        if let Some(group) = group {
            groups.end(group);
        }
        status
    })?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

fn read_lines(output: impl Read, show: &(dyn Fn(&str) + Sync)) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match output.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                // A progress bar overwrites itself: only its last state is shown.
                show(text.trim_end_matches(['\n', '\r']).rsplit('\r').next().unwrap_or_default());
            }
        }
    }
}

/// Why a program that exists cannot be started.
pub(super) fn start_error(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return "the interpreter that its first line names does not exist (or that line ends in a carriage return)"
            .to_owned();
    }
    error.to_string()
}

#[cfg(test)]
mod properties {
    use std::sync::Mutex;

    use proptest::sample::Index;

    use super::*;
    use crate::properties::{Arriving, bytes_near, check, cuts};

    #[test]
    fn lines_are_the_same_however_the_output_arrives() {
        let read = |output: &[u8], cuts: &[Index]| {
            let lines = Mutex::new(Vec::new());
            read_lines(Arriving::new(output, cuts), &|line| lines.lock().unwrap().push(line.to_owned()));
            lines.into_inner().unwrap()
        };
        check((bytes_near(&["a\r\nb\n", "10 %\r20 %\rdone\n", "no end"]), cuts()), |(output, cuts)| {
            let lines = read(&output, &[]);
            assert_eq!(read(&output, &cuts), lines);
            assert!(lines.iter().all(|line| !line.contains(['\n', '\r'])));
        });
    }
}
