//! Files of an app's log: `current`, to which lines are appended, and the rotated `1` (newest) to `3`.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    io::{self, BufRead as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use super::entry::{LogEntry, StoredLine};
use crate::{engine::ReadUntil, store::Millis};

/// Largest size of a file, in bytes.
pub(super) const MAX_FILE_BYTES: u64 = 5 << 20;
/// Number of rotated files. The oldest one is overwritten.
const ROTATED_FILES: u32 = 3;

/// Appends lines to an app's log.
#[derive(Debug)]
pub(super) struct LogWriter {
    directory: PathBuf,
    current: fs::File,
    size: u64,
    /// The last lines of each instance that may still print.
    last_lines: HashMap<String, ReadUntil>,
}

fn current_file(directory: &Path) -> PathBuf {
    directory.join("current")
}

fn rotated_file(directory: &Path, number: u32) -> PathBuf {
    directory.join(number.to_string())
}

/// All files, newest first.
fn files(directory: &Path) -> impl DoubleEndedIterator<Item = PathBuf> {
    (0..=ROTATED_FILES).map(|n| if n == 0 { current_file(directory) } else { rotated_file(directory, n) })
}

impl LogWriter {
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let mut last_lines = HashMap::new();
        for path in files(&directory).rev() {
            for line in read(&path)? {
                note(&mut last_lines, &line);
            }
        }
        let mut options = fs::OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut current = options.open(current_file(&directory))?;
        let mut size = current.seek(io::SeekFrom::End(0))?;
        // Terminate a line that a crash cut short, so that the next line is not joined to it.
        if size > 0 {
            let mut end = [0];
            std::os::unix::fs::FileExt::read_exact_at(&current, &mut end, size - 1)?;
            if end != *b"\n" {
                current.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok(Self { directory, current, size, last_lines })
    }

    pub(super) fn append(&mut self, lines: &[StoredLine]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for line in lines {
            let begin = bytes.len();
            serde_json::to_writer(&mut bytes, line)?;
            bytes.push(b'\n');
            if self.size + bytes.len() as u64 > MAX_FILE_BYTES && self.size + begin as u64 > 0 {
                let rest = bytes.split_off(begin);
                self.write(&bytes)?;
                self.rotate()?;
                bytes = rest;
            }
        }
        self.write(&bytes)?;
        for line in lines {
            note(&mut self.last_lines, line);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(e) = self.current.write_all(bytes) {
            // A full disk must not leave an incomplete line.
            let _ = self.current.set_len(self.size);
            let _ = self.current.seek(io::SeekFrom::Start(self.size));
            return Err(e);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// The last lines of an instance.
    pub(super) fn written_until(&self, instance: &str) -> ReadUntil {
        self.last_lines.get(instance).copied().unwrap_or_default()
    }

    /// Forgets the last lines of an instance that prints no more.
    pub(super) fn forget(&mut self, instance: &str) {
        self.last_lines.remove(instance);
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..=ROTATED_FILES).rev() {
            let from =
                if number == 1 { current_file(&self.directory) } else { rotated_file(&self.directory, number - 1) };
            match fs::rename(from, rotated_file(&self.directory, number)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        self.current = fs::OpenOptions::new().write(true).create_new(true).open(current_file(&self.directory))?;
        self.size = 0;
        Ok(())
    }
}

/// Takes note of a line of an instance.
fn note(last_lines: &mut HashMap<String, ReadUntil>, line: &StoredLine) {
    let time = jiff::Timestamp::from_nanosecond(i128::from(line.nanos));
    if let (Some(instance), Ok(time)) = (&line.instance, time) {
        last_lines.entry(instance.clone()).or_default().read(line.stderr, time);
    }
}

/// The lines of one file. Lines that cannot be parsed are skipped.
fn read(path: &Path) -> io::Result<impl DoubleEndedIterator<Item = StoredLine> + use<>> {
    let mut lines = Vec::new();
    match fs::File::open(path) {
        Ok(file) => {
            for line in io::BufReader::new(file).split(b'\n') {
                lines.push(line?);
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    Ok(lines.into_iter().filter_map(|line| serde_json::from_slice::<StoredLine>(&line).ok()))
}

/// The last lines from sources that `wanted` accepts, at most `max` of them and none older than `since`, oldest first.
pub(super) fn last_entries(
    directory: &Path,
    max: usize,
    since: Option<Millis>,
    wanted: &dyn Fn(&str) -> bool,
) -> io::Result<VecDeque<LogEntry>> {
    let (mut found, mut lines) = (VecDeque::new(), 0);
    for path in files(directory) {
        if lines > max {
            break;
        }
        let entries = read(&path)?.rev().filter(|line| wanted(&line.source)).map(StoredLine::into_entry);
        // Instances print at the same time, so lines may be slightly out of order.
        for entry in entries.filter(|entry| since.is_none_or(|since| entry.time >= since)) {
            // The parts of a line count as one.
            lines += usize::from(!entry.partial);
            if lines > max {
                break;
            }
            found.push_front(entry);
        }
    }
    Ok(found)
}
