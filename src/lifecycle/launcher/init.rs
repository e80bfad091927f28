//! The first process of a container: it starts the main process, reaps what is orphaned, and ends everything in order.
//!
//! The engine's own init (`docker run --init`) would reap as well, but passes the stop signal to its child only, and ends
//! with it: what a shell, a pipe or a package manager has started is killed unasked. An init that an image brings along
//! (`tini`, `/init` of s6-overlay) stays the first process: the launcher becomes it, see [`super::run`].

use std::{
    io::{self, IsTerminal as _, Read as _},
    os::unix::{net::UnixStream, process::CommandExt as _},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use super::{
    ending::Ending,
    process_table::{self, Id, Table},
    signal::PASSED_ON,
};

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

/// The signals that the launcher gets from now on; without this the kernel discards those for the first process.
pub(super) struct Signals(Received);

impl Signals {
    pub(super) fn receive(stop: Stop) -> io::Result<Self> {
        Received::register(stop.signal).map(Self)
    }
}

/// Starts the command as the main process; the error is that of the start.
pub(super) fn start(command: &mut Command, stop: Stop, Signals(signals): Signals) -> io::Result<Init> {
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
    signals: Received,
    terminal: bool,
    /// How the main process ended.
    status: Option<u8>,
    stop: Stop,
    ending: Option<Progress>,
}

/// An ending that has begun.
struct Progress {
    ending: Ending,
    began: Instant,
    /// When the launcher ends, whatever runs, if it is not the engine that ends the container.
    until: Option<Instant>,
}

impl Progress {
    fn begin(main: Pid, stop: &Stop, by_itself: bool) -> Self {
        let pid = main.as_raw_nonzero().get();
        let main = Table::read().0.get(&pid).map_or(Id { pid, started: 0 }, |process| process.id);
        let began = Instant::now();
        Self { ending: Ending::new(main, stop.grace), began, until: by_itself.then(|| began + stop.grace) }
    }
}

impl Init {
    /// Goes on until nothing runs any more. Returns the exit status of the main process, as a shell has it.
    pub(super) fn run(mut self) -> io::Result<u8> {
        loop {
            self.reap()?;
            let asked = self.signals.asked_to_end();
            if self.ending.is_none() && (asked || self.status.is_some()) {
                self.ending = Some(Progress::begin(self.main, &self.stop, !asked));
            }
            if !self.terminal && self.status.is_none() {
                for signal in self.signals.others() {
                    let _ = kill_process(self.main, signal);
                }
            }
            if let Some(status) = self.go_on()? {
                return Ok(status);
            }
            self.signals.wait(self.ending.is_some().then_some(LOOK_INTERVAL))?;
        }
    }

    /// Reaps all children that have ended.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.main => self.status = Some(exit_status(status)),
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks those whose turn it is. Returns the exit status once nothing runs any more, or the time is over.
    fn go_on(&mut self) -> io::Result<Option<u8>> {
        let Some(progress) = &mut self.ending else { return Ok(None) };
        let table = Table::read();
        if let Some(status) = self.status
            && (!Ending::is_waited_for(&table) || progress.until.is_some_and(|until| Instant::now() >= until))
        {
            return Ok(Some(status));
        }
        let due = progress.ending.due(&table, progress.began.elapsed());
        if !due.is_empty() {
            ask(progress, &table, &due, &self.stop);
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
fn ask(progress: &mut Progress, table: &Table, due: &[Id], stop: &Stop) {
    let passes_on = |id: &Id| {
        process_table::signals(*id)
            .is_some_and(|of| of.caught.contains(stop.signal) || of.blocked.contains(stop.signal))
    };
    let mut held: Vec<Id> = Vec::new();
    if due.iter().any(passes_on) {
        let others = table.0.values().filter(|other| {
            !due.contains(&other.id)
                && !other.stopped
                && !progress.ending.was_asked(other.id)
                && !table.is_foreign(other)
        });
        held.extend(others.map(|other| other.id).filter(|id| send(*id, Signal::STOP)));
        // Of two pending signals the kernel delivers the one with the lower number first.
        let until = Instant::now() + MAX_STOP;
        while !held.iter().all(|id| process_table::has_stopped(*id)) && Instant::now() < until {
            std::thread::sleep(STOP_INTERVAL);
        }
    }
    let mut asked = due.to_vec();
    for id in due {
        let ignores = process_table::signals(*id).is_some_and(|of| of.ignored.contains(stop.signal));
        // A shell has its background processes ignore SIGINT and SIGQUIT.
        send(*id, if ignores { Signal::TERM } else { stop.signal });
        progress.ending.note(*id, progress.began.elapsed());
    }
    let until = Instant::now() + MAX_PASS_ON.min(stop.grace / 3);
    let mut quiet_since = Instant::now();
    while !held.is_empty() && Instant::now() < until {
        // Looked at before the pending signals of those held: what it sent before it ended is seen.
        let states: Vec<_> =
            asked.iter().map(|id| process_table::signals(*id).map(|of| (of, process_table::waits(*id)))).collect();
        held.retain(|id| match process_table::signals(*id) {
            Some(of) if of.pending.asks_to_end() || of.pending.contains(stop.signal) => {
                progress.ending.note(*id, progress.began.elapsed());
                send(*id, Signal::CONT);
                asked.push(*id);
                quiet_since = Instant::now();
                false
            }
            Some(_) => true,
            None => false,
        });
        let busy = states.iter().flatten().any(|(of, waits)| of.pending.contains(stop.signal) || !waits);
        if busy {
            quiet_since = Instant::now();
        }
        let all_ended = states.len() == asked.len() && states.iter().all(Option::is_none);
        if all_ended || quiet_since.elapsed() >= PASSED_ON_AFTER {
            break;
        }
        std::thread::sleep(PASS_ON_INTERVAL);
    }
    for id in held {
        send(id, Signal::CONT);
    }
}

/// Whether the signal was sent.
fn send(id: Id, signal: Signal) -> bool {
    Pid::from_raw(id.pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// The exit status as a shell has it.
fn exit_status(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// The signals that the launcher gets. They interrupt [`Self::wait`].
struct Received {
    wake: UnixStream,
    stop: Arc<AtomicBool>,
    others: Vec<(Signal, Arc<AtomicBool>)>,
}

impl Received {
    fn register(stop: Signal) -> io::Result<Self> {
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
