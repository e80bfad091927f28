//! The first process of a container: it starts the main process, reaps what is orphaned, and ends everything in order.
//!
//! The engine's own init (`docker run --init`) would reap as well, but passes the stop signal to its child only, and ends
//! with it: what a shell, a pipe or a package manager has started is killed unasked. An init that an image brings along
//! (`tini`, `/init` of s6-overlay) stays the first process: the launcher becomes it, see [`super::run`].

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal as _, Read as _},
    os::unix::{net::UnixStream, process::CommandExt as _},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::{
    ending::Ending,
    process_table::{self, Id, Process, Table},
    signal::PASSED_ON,
};
use crate::lifecycle::init::exit_status;

/// How often the processes are looked at while they end: those whose parent is not the launcher end unnoticed.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How often it is looked whether a process passes the signal on.
const PASS_ON_INTERVAL: Duration = Duration::from_millis(5);
/// How often it is looked whether processes are stopped, and how long at most: one may wait for a disk.
const STOP_INTERVAL: Duration = Duration::from_millis(1);
const MAX_STOP: Duration = Duration::from_millis(500);
/// A process that has done nothing for so long after the signal does not pass it on.
const PASSED_ON_AFTER: Duration = Duration::from_millis(100);
/// Longest wait for a process that is busy and may pass the signal on.
const MAX_PASS_ON: Duration = Duration::from_secs(1);

/// How a container is to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stop {
    /// The signal with which the engine asks it to end, and its processes are asked.
    pub(super) signal: Signal,
    /// Time from the signal until the engine kills what still runs.
    pub(super) grace: Duration,
}

/// Starts the command as the main process; the error is that of the start.
pub(super) fn start(command: &mut Command, stop: Stop, signals: SignalReceiver) -> io::Result<Init> {
    // In the foreground of a terminal the kernel sends its signals to all processes of the launcher's group.
    let terminal = io::stdin().is_terminal();
    if !terminal {
        command.process_group(0);
    }
    let main = Pid::from_child(&command.spawn()?);
    Ok(Init { main, status: None, stop, ending: None, signals, terminal })
}

/// The launcher after the start of the main process.
pub(super) struct Init {
    main: Pid,
    signals: SignalReceiver,
    terminal: bool,
    /// How the main process ended.
    status: Option<u8>,
    stop: Stop,
    ending: Option<EndingState>,
}

/// An ending that has begun.
struct EndingState {
    ending: Ending,
    began: Instant,
    /// When the launcher ends, whatever runs, if it is not the engine that ends the container.
    until: Option<Instant>,
    /// Who was stopped when the ending began.
    stopped: BTreeSet<Id>,
}

impl EndingState {
    fn begin(main: Pid, stop: &Stop, by_itself: bool) -> Self {
        let pid = main.as_raw_nonzero().get();
        let table = Table::read();
        let main = table.0.get(&pid).map_or(Id { pid, started: 0 }, |process| process.id);
        let stopped = table.0.values().filter(|process| process.stopped).map(|process| process.id).collect();
        let began = Instant::now();
        Self { ending: Ending::new(main, stop.grace), began, until: by_itself.then(|| began + stop.grace), stopped }
    }

    /// Continues those who have stopped themselves since, as `su` does when its child is held.
    fn continue_stopped(&self, table: &Table) {
        for process in table.0.values().filter(|process| process.stopped && !self.stopped.contains(&process.id)) {
            send(process.id, Signal::CONT);
        }
    }
}

impl Init {
    /// Goes on until nothing runs any more. Returns the exit status of the main process, as a shell has it.
    pub(super) fn run(mut self) -> io::Result<u8> {
        loop {
            self.reap()?;
            let asked = self.signals.asked_to_end();
            if self.ending.is_none() && (asked || self.status.is_some()) {
                self.ending = Some(EndingState::begin(self.main, &self.stop, !asked));
            }
            if !self.terminal && self.status.is_none() {
                for signal in self.signals.others() {
                    let _ = kill_process(self.main, signal);
                }
            }
            if let Some(status) = self.continue_ending()? {
                return Ok(status);
            }
            self.signals.wait(self.ending.is_some().then_some(LOOK_INTERVAL))?;
        }
    }

    /// Reaps all children that have ended.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.main && self.status.is_none() => {
                    // Later the pid may be that of another process.
                    self.status = Some(exit_status(status));
                }
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks those whose turn it is. Returns the exit status once nothing runs any more, or the time is over.
    fn continue_ending(&mut self) -> io::Result<Option<u8>> {
        let Some(state) = &mut self.ending else { return Ok(None) };
        let table = Table::read();
        state.continue_stopped(&table);
        if let Some(status) = self.status
            && (!table.has_own_processes() || state.until.is_some_and(|until| Instant::now() >= until))
        {
            return Ok(Some(status));
        }
        let due = state.ending.due(&table, state.began.elapsed());
        if !due.is_empty() {
            ask(state, &table, &due, &self.stop);
            self.reap()?;
        }
        Ok(None)
    }
}

/// Sends the signal to processes, and notes to whom they pass it on.
///
/// npm sends it to the shell of its script, `trap` in a script sends it to whomever it likes: those must not get it again. No
/// interface of the kernel says which signals a process has had, but it says which are pending. So all others are held
/// (`SIGSTOP`) until those who were asked wait for something: meanwhile a signal that is sent to a process stays pending, and it
/// is let go and noted at once. A process that does not catch the signal cannot pass it on, and holds nobody up.
///
/// The parent of a process may be told that it was stopped: `fg` in a shell would return, and `su` stops itself. So the jobs of
/// a process are not held, nor is what runs below them, and who has stopped itself is continued afterwards
/// ([`EndingState::continue_stopped`]). A job to which a shell with job control passes the signal on therefore gets it again, if
/// it still runs after the shell had its chance.
fn ask(state: &mut EndingState, table: &Table, due: &[Id], stop: &Stop) {
    let passes_on = |id: &Id| {
        process_table::signals(*id)
            .is_some_and(|of| of.caught.contains(stop.signal) || of.blocked.contains(stop.signal))
    };
    let held = if due.iter().any(passes_on) { hold_others(state, table, due) } else { Vec::new() };
    send_stop_signal(state, due, stop.signal);
    for id in watch_held(state, held, due, stop) {
        send(id, Signal::CONT);
    }
}

/// Holds all processes that were not asked before, and are not asked now, but for jobs.
fn hold_others(state: &EndingState, table: &Table, due: &[Id]) -> Vec<Id> {
    let is_in_job = |process: &Process| {
        table.is_job(process) || table.ancestors(process).into_iter().any(|above| table.is_job(above))
    };
    let others = table.0.values().filter(|other| {
        let is_held_up = other.stopped || table.is_foreign(other) || is_in_job(other);
        !is_held_up && !due.contains(&other.id) && !state.ending.was_asked(other.id)
    });
    let held: Vec<_> = others.map(|other| other.id).filter(|id| send(*id, Signal::STOP)).collect();
    // Of two pending signals the kernel delivers the one with the lower number first.
    let until = Instant::now() + MAX_STOP;
    while !held.iter().all(|id| process_table::has_stopped(*id)) && Instant::now() < until {
        std::thread::sleep(STOP_INTERVAL);
    }
    held
}

fn send_stop_signal(state: &mut EndingState, due: &[Id], signal: Signal) {
    for id in due {
        let ignores = process_table::signals(*id).is_some_and(|of| of.ignored.contains(signal));
        // A shell has its background processes ignore SIGINT and SIGQUIT.
        send(*id, if ignores { Signal::TERM } else { signal });
        state.ending.record_asked(*id, state.began.elapsed());
    }
}

/// Lets go of the held processes to which the signal is passed on, until those that were asked have nothing to do. Returns
/// those that are still held.
fn watch_held(state: &mut EndingState, mut held: Vec<Id>, due: &[Id], stop: &Stop) -> Vec<Id> {
    let mut asked = due.to_vec();
    let until = Instant::now() + MAX_PASS_ON.min(stop.grace / 3);
    let mut quiet_since = Instant::now();
    while !held.is_empty() && Instant::now() < until {
        // Looked at before the pending signals of those held: what it sent before it ended is seen.
        let seen: Vec<_> = asked
            .iter()
            .map(|id| process_table::signals(*id).map(|of| (of, process_table::all_threads_sleep(*id))))
            .collect();
        held.retain(|id| match process_table::signals(*id) {
            Some(of) if of.pending.asks_to_end() || of.pending.contains(stop.signal) => {
                state.ending.record_asked(*id, state.began.elapsed());
                send(*id, Signal::CONT);
                asked.push(*id);
                quiet_since = Instant::now();
                false
            }
            Some(_) => true,
            None => false,
        });
        let busy = seen.iter().flatten().any(|(of, sleeps)| of.pending.contains(stop.signal) || !sleeps);
        if busy {
            quiet_since = Instant::now();
        }
        let all_ended = seen.len() == asked.len() && seen.iter().all(Option::is_none);
        if all_ended || quiet_since.elapsed() >= PASSED_ON_AFTER {
            break;
        }
        std::thread::sleep(PASS_ON_INTERVAL);
    }
    held
}

/// Whether the signal was sent.
fn send(id: Id, signal: Signal) -> bool {
    Pid::from_raw(id.pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// The signals that the launcher gets from its registration on; without this the kernel discards those for the first process.
/// They interrupt [`Self::wait`].
pub(super) struct SignalReceiver {
    wake: UnixStream,
    stop: Arc<AtomicBool>,
    others: Vec<(Signal, Arc<AtomicBool>)>,
}

impl SignalReceiver {
    pub(super) fn register(stop: Signal) -> io::Result<Self> {
        let (wake, notify) = UnixStream::pair()?;
        let register = |signal: Signal| {
            let flag = Arc::new(AtomicBool::new(false));
            // The flag first: it is set when the other end is woken.
            signal_hook::flag::register(signal.as_raw(), Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(signal.as_raw(), notify.try_clone()?)?;
            io::Result::Ok(flag)
        };
        register(Signal::CHILD)?;
        let asked = register(stop)?;
        let others = PASSED_ON.into_iter().filter(|signal| *signal != stop);
        let others = others.map(|signal| Ok((signal, register(signal)?))).collect::<io::Result<_>>()?;
        Ok(Self { wake, stop: asked, others })
    }

    fn asked_to_end(&self) -> bool {
        self.stop.swap(false, Ordering::SeqCst)
    }

    fn others(&self) -> impl Iterator<Item = Signal> + '_ {
        self.others.iter().filter(|(_, flag)| flag.swap(false, Ordering::SeqCst)).map(|(signal, _)| *signal)
    }

    /// Waits for a signal; at most for this time.
    fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.wake.set_read_timeout(limit)?;
        match self.wake.read(&mut [0; 64]) {
            Err(e)
                if !matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) =>
            {
                Err(e)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Lines},
        process::{Child, ChildStdout, Stdio},
    };

    use super::*;

    const STOP: Stop = Stop { signal: Signal::TERM, grace: Duration::from_secs(9) };
    /// Says so when it has got the signal.
    const CHILD: &str = "trap 'echo asked; exit' TERM; echo child $$; while :; do sleep 0.1; done";

    /// A shell with this trap, whose child is [`CHILD`].
    struct Family {
        shell: Child,
        ids: [Id; 2],
        table: Table,
        printed: Lines<BufReader<ChildStdout>>,
    }

    impl Family {
        fn start(trap: &str) -> Self {
            let script = format!("trap '{trap}' TERM; sh -c \"$0\" & p=$!; while :; do wait $p; done");
            Self::of(Command::new("/bin/sh").args(["-c", &script, CHILD]))
        }

        /// Starts a command that starts [`CHILD`].
        fn of(command: &mut Command) -> Self {
            let mut shell = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut printed = BufReader::new(shell.stdout.take().unwrap()).lines();
            let child = printed.next().unwrap().unwrap();
            let child = child.strip_prefix("child ").unwrap().parse().unwrap();
            // Of these two only: the machine has other processes.
            let processes = [shell.id().cast_signed(), child].map(|pid| process_table::process(pid).unwrap());
            let ids = [processes[0].id, processes[1].id];
            Self { shell, ids, table: Table(processes.map(|process| (process.id.pid, process)).into()), printed }
        }

        fn state(&self) -> EndingState {
            let ending = Ending::new(self.ids[0], STOP.grace);
            EndingState { ending, began: Instant::now(), until: None, stopped: BTreeSet::new() }
        }

        /// Asks the shell to end.
        fn ask(&self) -> EndingState {
            let mut state = self.state();
            ask(&mut state, &self.table, &[self.ids[0]], &STOP);
            state
        }

        /// Continues those who have stopped until both have ended.
        fn end(&mut self, state: &EndingState) {
            let until = Instant::now() + Duration::from_secs(20);
            while self.shell.try_wait().unwrap().is_none() {
                assert!(Instant::now() < until, "it does not end");
                let processes = self.ids.iter().filter_map(|id| process_table::process(id.pid));
                state.continue_stopped(&Table(processes.map(|process| (process.id.pid, process)).collect()));
                std::thread::sleep(LOOK_INTERVAL);
            }
        }
    }

    impl Drop for Family {
        fn drop(&mut self) {
            for id in self.ids {
                send(id, Signal::KILL);
            }
            let _ = self.shell.wait();
        }
    }

    #[test]
    fn a_process_to_which_the_signal_is_passed_on_is_let_go_and_recorded() {
        let mut family = Family::start("kill $p; sleep 0.2; exit");
        let state = family.ask();
        assert!(family.ids.into_iter().all(|id| state.ending.was_asked(id)));
        assert_eq!(family.printed.next().unwrap().unwrap(), "asked", "it was let go");
    }

    #[test]
    fn a_process_to_which_nothing_is_passed_on_is_let_go() {
        let mut family = Family::start(":");
        let state = family.ask();
        assert_eq!(family.ids.map(|id| state.ending.was_asked(id)), [true, false]);
        assert!(!process_table::has_stopped(family.ids[1]));
        send(family.ids[1], Signal::TERM);
        assert_eq!(family.printed.next().unwrap().unwrap(), "asked");
    }
    /// A parent of [`CHILD`] that passes the signal on.
    const PARENT: &str = "
import os, signal, sys
is_ready, ready = os.pipe()
child = os.fork()
if child == 0:
    os.close(ready)
    os.read(is_ready, 1)
    if sys.argv[2] == 'job': os.setpgid(0, 0)
    os.execvp('sh', ['sh', '-c', sys.argv[1]])
signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
os.close(ready)
while os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1]): os.kill(os.getpid(), signal.SIGSTOP)
";

    #[test]
    fn a_job_is_not_held() {
        let mut family = Family::of(Command::new("python3").args(["-c", PARENT, CHILD, "job"]));
        assert_eq!(hold_others(&family.state(), &family.table, &[family.ids[0]]), []);
        let state = family.ask();
        family.end(&state);
        assert_eq!(family.printed.next().unwrap().unwrap(), "asked");
    }

    #[test]
    fn a_parent_that_stops_with_its_child_is_continued() {
        let mut family = Family::of(Command::new("python3").args(["-c", PARENT, CHILD, "no job"]));
        let state = family.ask();
        family.end(&state);
        assert_eq!(family.printed.next().unwrap().unwrap(), "asked");
    }
}
