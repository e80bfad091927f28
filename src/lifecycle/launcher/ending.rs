//! In which order the processes of a container are asked to end.
//!
//! The main process gets the stop signal first. As soon as it has ended, or a third of the grace period later when it is a
//! shell or a package manager, which pass nothing on as a rule, the others get it: each process once, and only when nobody
//! above it can be expected to tell it. So a supervisor ends its own workers, a `Celery` worker lets its pool finish,
//! wherever they are in the tree. A process that reads what another one prints ends at the end of its input, as a rule: it gets
//! the signal a third of the grace period after that one has ended. Killed earlier, `| cat` would lose the last lines.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use super::process_table::{Id, Process, Table};

/// Who was asked to end, and when; times are those since the ending began.
#[derive(Debug)]
pub(super) struct Ending {
    main: Id,
    /// How long a shell, a package manager or a process whose input has ended has to end by itself.
    patience: Duration,
    asked: BTreeMap<Id, Duration>,
    /// When a process was last seen to read what another one prints.
    readers: BTreeMap<Id, Duration>,
}

impl Ending {
    pub(super) fn new(main: Id, grace: Duration) -> Self {
        Self { main, patience: grace / 3, asked: BTreeMap::new(), readers: BTreeMap::new() }
    }

    /// Records that a process has got the signal, whoever sent it.
    pub(super) fn record_asked(&mut self, id: Id, now: Duration) {
        self.asked.insert(id, now);
    }

    pub(super) fn was_asked(&self, id: Id) -> bool {
        self.asked.contains_key(&id)
    }

    /// The processes that are to get the signal now.
    pub(super) fn due(&mut self, table: &Table, now: Duration) -> Vec<Id> {
        let readers = table.0.values().filter(|process| reads_from_another(process, table));
        self.readers.extend(readers.map(|process| (process.id, now)));
        if table.contains(self.main) {
            if !self.was_asked(self.main) {
                return vec![self.main];
            }
            if !table.0.get(&self.main.pid).is_some_and(|main| self.passes_nothing_on(main, now)) {
                return Vec::new();
            }
        }
        let due = table.0.values().filter(|process| {
            !self.was_asked(process.id)
                && !self.may_end_with_its_input(process, now)
                && table.ancestors(process).into_iter().all(|above| self.passes_nothing_on(above, now))
        });
        let (later, first): (Vec<&Process>, Vec<&Process>) =
            due.partition(|process| self.readers.get(&process.id) == Some(&now));
        let waits_for_somebody =
            table.0.values().any(|process| self.was_asked(process.id) || self.may_end_with_its_input(process, now));
        let chosen = if first.is_empty() && !waits_for_somebody { later } else { first };
        chosen.into_iter().map(|process| process.id).collect()
    }

    /// Whether a process had its chance to tell those below it, and does no more than wait for them.
    fn passes_nothing_on(&self, process: &Process, now: Duration) -> bool {
        process.wrapper && self.asked.get(&process.id).is_some_and(|asked| now.saturating_sub(*asked) >= self.patience)
    }

    /// Whether the input of a process has ended a short time ago.
    fn may_end_with_its_input(&self, process: &Process, now: Duration) -> bool {
        let read = self.readers.get(&process.id).filter(|read| **read != now);
        read.is_some_and(|read| now.saturating_sub(*read) < self.patience)
    }
}

/// Whether a process reads from a pipe to which another one writes.
fn reads_from_another(process: &Process, table: &Table) -> bool {
    let writers = |pipe: u64| {
        let others = table.0.values().filter(|other| other.id != process.id);
        others.filter(|other| other.outputs.contains(&pipe)).map(|other| other.id).collect::<HashSet<_>>()
    };
    process.input.is_some_and(|pipe| !writers(pipe).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(9);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn id(pid: i32) -> Id {
        Id { pid, started: 1 }
    }

    /// The processes of `(pid, parent)`; those over 100 are wrappers.
    fn table(processes: &[(i32, i32)]) -> Table {
        let process = |&(pid, parent): &(i32, i32)| Process {
            id: id(pid),
            parent,
            group: 1,
            stopped: false,
            wrapper: pid > 100,
            input: None,
            outputs: HashSet::new(),
        };
        Table(processes.iter().map(|pair| (pair.0, process(pair))).collect())
    }

    /// Asks those who are due; returns their pids.
    fn ask(ending: &mut Ending, table: &Table, now: u64) -> Vec<i32> {
        let due = ending.due(table, at(now));
        for id in &due {
            ending.record_asked(*id, at(now));
        }
        due.iter().map(|id| id.pid).collect()
    }

    #[test]
    fn the_workers_of_a_supervisor_are_left_to_it() {
        let mut ending = Ending::new(id(2), GRACE);
        let all = table(&[(2, 1), (3, 2), (4, 2)]);
        assert_eq!(ask(&mut ending, &all, 0), [2]);
        assert_eq!(ask(&mut ending, &all, 8), [0; 0]);
        assert_eq!(ask(&mut ending, &table(&[(3, 1), (4, 1)]), 8), [3, 4], "it has ended");
        assert_eq!(
            ask(&mut ending, &table(&[(3, 1), (4, 1), (5, 3), (6, 1)]), 9),
            [6],
            "one appeared; one is of a worker"
        );
    }

    #[test]
    fn those_below_a_shell_are_asked_after_a_third_of_the_grace_period() {
        let mut ending = Ending::new(id(102), GRACE);
        let all = table(&[(102, 1), (103, 102), (4, 103), (5, 4), (6, 1)]);
        assert_eq!(ask(&mut ending, &all, 0), [102]);
        assert_eq!(ask(&mut ending, &all, 2), [0; 0]);
        assert_eq!(
            ask(&mut ending, &all, 3),
            [6, 103],
            "of the inner shell it is not known yet whether it passes the signal on"
        );
        assert_eq!(ask(&mut ending, &all, 5), [0; 0]);
        assert_eq!(ask(&mut ending, &all, 6), [4], "5 is left to 4");
        assert_eq!(ask(&mut ending, &table(&[(102, 1), (5, 1)]), 7), [5]);
    }

    #[test]
    fn a_process_whose_pid_was_used_before_is_another_one() {
        let mut ending = Ending::new(id(2), GRACE);
        ask(&mut ending, &table(&[(2, 1)]), 0);
        let mut again = table(&[(2, 1)]);
        again.0.get_mut(&2).unwrap().id.started = 2;
        assert_eq!(ask(&mut ending, &again, 1), [2]);
    }

    #[test]
    fn a_reader_is_asked_after_the_writer_of_its_pipe() {
        let piped = |processes: &[(i32, i32)], pipes: &[(i32, i32, u64)]| {
            let mut table = table(processes);
            for (writer, reader, pipe) in pipes {
                table.0.get_mut(writer).map(|writer| writer.outputs.insert(*pipe));
                table.0.get_mut(reader).map(|reader| reader.input.replace(*pipe));
            }
            table
        };
        let mut ending = Ending::new(id(102), GRACE);
        assert_eq!(ask(&mut ending, &piped(&[(102, 1), (3, 102), (4, 102)], &[(3, 4, 7)]), 0), [102]);
        let orphans = piped(&[(3, 1), (4, 1)], &[(3, 4, 7)]);
        assert_eq!(ask(&mut ending, &orphans, 0), [3]);
        assert_eq!(ask(&mut ending, &orphans, 8), [0; 0]);
        assert_eq!(ask(&mut ending, &piped(&[(4, 1)], &[]), 9), [0; 0], "it may have the last lines to print");
        assert_eq!(ask(&mut ending, &piped(&[(4, 1)], &[]), 10), [0; 0]);
        assert_eq!(ask(&mut ending, &piped(&[(4, 1)], &[]), 11), [4], "it does not end at the end of its input");

        let mut ending = Ending::new(id(2), GRACE);
        assert_eq!(ask(&mut ending, &piped(&[(3, 1), (4, 1), (5, 1)], &[(3, 4, 7), (4, 5, 8)]), 0), [3]);
        assert_eq!(ask(&mut ending, &piped(&[(4, 1), (5, 1)], &[(4, 5, 8)]), 1), [0; 0], "each in its turn");
        assert_eq!(ask(&mut ending, &piped(&[(5, 1)], &[]), 2), [0; 0]);

        let mut ending = Ending::new(id(2), GRACE);
        assert_eq!(ask(&mut ending, &piped(&[(3, 1), (4, 1)], &[(3, 4, 7), (4, 3, 8)]), 0), [3, 4], "a circle");
    }

    #[test]
    fn the_command_of_enter_is_asked_but_not_waited_for() {
        let mut ending = Ending::new(id(2), GRACE);
        let outside = table(&[(9, 0), (10, 9)]);
        assert!(!outside.has_own_processes());
        assert!(table(&[(9, 0), (3, 1)]).has_own_processes());
        assert_eq!(ask(&mut ending, &outside, 0), [9]);
    }
}
