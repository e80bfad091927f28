//! The first process of a build container: it starts the lifecycle proper, and reaps what is orphaned.
//!
//! The engine's own init would hold the container's streams as well, and any process of the build could open them under
//! `/proc` and write frames to the server. This one cannot be opened, and does not keep them.

use std::{
    fs::File,
    process::{Command, ExitCode},
};

use rustix::{
    process::{Pid, WaitOptions, WaitStatus, wait},
    stdio::{dup2_stdin, dup2_stdout},
};

/// Runs the lifecycle in a process of its own. Returns its exit status; 128 and more for signals.
pub(super) fn run() -> ExitCode {
    let Ok(main) = start() else { return ExitCode::FAILURE };
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == main => return ExitCode::from(exit_status(status)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

fn start() -> std::io::Result<Pid> {
    let child = Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).spawn()?;
    // The input must end, and the output be closed, with that process.
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    Ok(Pid::from_child(&child))
}

/// The exit status of a process, as a shell has it: 128 and more for signals.
pub(super) fn exit_status(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
