//! The output of tasks to which nobody is connected: a file for each, which is kept as long as the task's row.

use std::{
    io,
    path::{Path, PathBuf},
};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::{
    fs::{self, File},
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, BufWriter},
    sync::watch,
};

use super::error::TaskError;
use crate::{
    data_dir::Room,
    engine::LogLine,
    model::TaskName,
    store::{AppId, Millis},
};

/// Largest size of a file, in bytes; what is printed after that is lost.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// What is kept of the outputs of an app: `tasks.keep` bounds their number further. The oldest go first.
const ROOM: Room = Room { max_bytes: 256 << 20, max_files: 10_000 };

/// A line that a task printed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OutputLine {
    /// Time at which it was printed.
    #[serde(rename = "t")]
    pub time: Millis,
    /// Whether it was printed on standard error.
    #[serde(rename = "e", default, skip_serializing_if = "std::ops::Not::not")]
    pub stderr: bool,
    /// Its text, as it was printed.
    #[serde(rename = "x")]
    pub text: String,
    /// Whether the line goes on in the next one of the same stream.
    #[serde(rename = "p", default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

impl From<LogLine> for OutputLine {
    fn from(line: LogLine) -> Self {
        Self { time: line.time.as_millisecond(), stderr: line.stderr, text: line.text, partial: line.partial }
    }
}

/// The output files of all tasks; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Outputs {
    folder: PathBuf,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> TaskError {
    let path = path.to_owned();
    move |source| TaskError::Output { path, source }
}

impl Outputs {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join("tasks") }
    }

    fn of_app(&self, app: AppId) -> PathBuf {
        self.folder.join(app.0.to_string())
    }

    fn file(&self, app: AppId, name: TaskName) -> PathBuf {
        self.of_app(app).join(format!("{}.jsonl", name.number))
    }

    /// Begins the output of a task; what an earlier server wrote of it is replaced.
    pub(super) async fn begin(&self, app: AppId, name: TaskName) -> Result<OutputWriter, TaskError> {
        let folder = self.of_app(app);
        fs::create_dir_all(&folder).await.map_err(failed(&folder))?;
        let path = self.file(app, name);
        let room = Room { max_bytes: ROOM.max_bytes - MAX_FILE_BYTES, ..ROOM };
        let (full, new) = (folder.clone(), path.clone());
        let made = tokio::task::spawn_blocking(move || room.make(&full, &new)).await;
        made.unwrap_or_else(|stopped| Err(io::Error::other(stopped))).map_err(failed(&folder))?;
        let file = File::create(&path).await.map_err(failed(&path))?;
        Ok(OutputWriter { path, file: BufWriter::new(file), size: 0 })
    }

    /// The output of a task, line by line, and what is added to it until `written` is closed.
    pub(super) async fn read(
        &self,
        app: AppId,
        name: TaskName,
        written: Option<watch::Receiver<()>>,
    ) -> Result<BoxStream<'static, OutputLine>, TaskError> {
        let path = self.file(app, name);
        let file = match File::open(&path).await {
            Ok(file) => file,
            // Nothing is kept of it, or it is not started yet.
            Err(e) if e.kind() == io::ErrorKind::NotFound && written.is_none() => return Ok(stream::empty().boxed()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let folder = self.of_app(app);
                fs::create_dir_all(&folder).await.map_err(failed(&folder))?;
                let mut options = fs::OpenOptions::new();
                options.read(true).write(true).create(true).truncate(false).open(&path).await.map_err(failed(&path))?
            }
            Err(e) => return Err(failed(&path)(e)),
        };
        let reader = OutputReader { file: BufReader::new(file), partial: Vec::new(), written };
        Ok(stream::unfold(reader, |mut reader| async move { reader.next().await.map(|line| (line, reader)) }).boxed())
    }

    /// Removes the output of a task.
    pub(super) async fn remove(&self, app: AppId, name: TaskName) -> Result<(), TaskError> {
        let path = self.file(app, name);
        match fs::remove_file(&path).await {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(&path)(e)),
            _ => Ok(()),
        }
    }

    /// Removes the output of all tasks of an app.
    pub(super) async fn remove_app(&self, app: AppId) -> Result<(), TaskError> {
        let path = self.of_app(app);
        match fs::remove_dir_all(&path).await {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(&path)(e)),
            _ => Ok(()),
        }
    }
}

/// Writes the output of one task.
pub(super) struct OutputWriter {
    path: PathBuf,
    file: BufWriter<File>,
    size: u64,
}

impl OutputWriter {
    /// Appends lines. The first that does not fit is replaced by a notice. Returns whether more fit.
    pub(super) async fn append(&mut self, lines: &[OutputLine]) -> Result<bool, TaskError> {
        for line in lines {
            if self.is_full() {
                break;
            }
            self.write(line).await.map_err(failed(&self.path))?;
            if self.is_full() {
                let text = format!("[paas: only the first {} MiB of the output are kept]", MAX_FILE_BYTES >> 20);
                let notice = OutputLine { time: line.time, stderr: true, text, partial: false };
                self.write(&notice).await.map_err(failed(&self.path))?;
            }
        }
        self.file.flush().await.map_err(failed(&self.path))?;
        Ok(!self.is_full())
    }

    fn is_full(&self) -> bool {
        self.size >= MAX_FILE_BYTES
    }

    async fn write(&mut self, line: &OutputLine) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.size += bytes.len() as u64;
        self.file.write_all(&bytes).await
    }
}

struct OutputReader {
    file: BufReader<File>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
    /// Changes when something was written; closed when the task has ended.
    written: Option<watch::Receiver<()>>,
}

impl OutputReader {
    async fn next(&mut self) -> Option<OutputLine> {
        loop {
            // Whether more may follow is asked before the file is read, so that the last lines are not missed.
            let goes_on = self.written.as_mut().is_some_and(|written| {
                written.mark_unchanged();
                written.has_changed().is_ok()
            });
            match self.file.read_until(b'\n', &mut self.partial).await {
                Ok(0) if goes_on => {}
                Ok(0) => return None,
                Ok(_) if self.partial.ends_with(b"\n") => {
                    let parsed = serde_json::from_slice(&self.partial);
                    self.partial.clear();
                    match parsed {
                        Ok(line) => return Some(line),
                        // A crash cut it short.
                        Err(_) => continue,
                    }
                }
                Ok(_) if goes_on => {}
                Ok(_) | Err(_) => return None,
            }
            if let Some(written) = &mut self.written {
                let _ = written.changed().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TaskKind;

    const APP: AppId = AppId(1);
    const NAME: TaskName = TaskName { kind: TaskKind::Run, number: 7 };

    fn line(text: &str) -> OutputLine {
        OutputLine { time: 5, stderr: false, text: text.to_owned(), partial: false }
    }

    #[tokio::test]
    async fn a_reader_follows_until_the_task_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let outputs = Outputs::new(dir.path());
        let (sender, written) = watch::channel(());
        let mut early = outputs.read(APP, NAME, Some(written.clone())).await.unwrap();
        let mut writer = outputs.begin(APP, NAME).await.unwrap();
        writer.append(&[line("one"), line("two")]).await.unwrap();
        sender.send_replace(());
        assert_eq!(early.next().await, Some(line("one")));
        let late = outputs.read(APP, NAME, Some(written)).await.unwrap();
        writer.append(&[line("three")]).await.unwrap();
        drop(sender);
        assert_eq!(early.collect::<Vec<_>>().await, [line("two"), line("three")]);
        assert_eq!(late.collect::<Vec<_>>().await, [line("one"), line("two"), line("three")]);
        assert_eq!(outputs.read(APP, NAME, None).await.unwrap().count().await, 3);
        outputs.remove(APP, NAME).await.unwrap();
        outputs.remove(APP, NAME).await.unwrap();
        assert_eq!(outputs.read(APP, NAME, None).await.unwrap().count().await, 0);
    }

    #[tokio::test]
    async fn what_is_printed_after_the_limit_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let outputs = Outputs::new(dir.path());
        let mut writer = outputs.begin(APP, NAME).await.unwrap();
        let long = line(&"x".repeat(1 << 20));
        for _ in 0..20 {
            writer.append(std::slice::from_ref(&long)).await.unwrap();
        }
        let lines: Vec<_> = outputs.read(APP, NAME, None).await.unwrap().collect().await;
        assert_eq!(
            (lines.len(), lines[16].text.as_str()),
            (17, "[paas: only the first 16 MiB of the output are kept]")
        );
    }
}
