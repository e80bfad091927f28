//! What instances printed, kept beside the database: bounded, and there when the containers are gone.

use std::{
    collections::{HashMap, VecDeque},
    fmt, fs,
    io::{self, BufRead as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex as StdMutex, PoisonError},
};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::{Mutex, broadcast};
use tokio_util::sync::CancellationToken;

use super::InstancesError;
use crate::{
    model::{InstanceId, Line, ProcessType},
    store::{AppId, Millis, now},
};

/// An app's log is this many files of this size at the most, the oldest lost first.
const FILE_BYTES: u64 = 5 << 20;
const OLD_FILES: u32 = 3;
/// The longest line that is kept whole, in bytes.
const LINE_BYTES: usize = 16 << 10;
/// How far a follower may lag before it misses lines.
const FOLLOWERS_LAG: usize = 1024;
/// The sources of what paas says of releases, and of requests that no instance answered: no process types.
pub(super) const RELEASE: &str = "release";
pub(super) const ROUTER: &str = "router";
/// The source of what is said of the log itself.
const OURSELVES: &str = "logs";

/// One line of an app's log. `Display` writes it as `2026-01-02T03:04:05.678Z app[web.1]: text`, safe for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LogEntry {
    /// When it was printed.
    pub time: Millis,
    /// By which instance: `web.1`.
    pub source: String,
    /// Whether it came on standard error.
    pub stderr: bool,
    /// Whether it is not the app that says it, but paas of the app.
    pub event: bool,
    /// The line, as it was printed.
    pub text: String,
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.event { "paas" } else { "app" };
        match jiff::Timestamp::from_millisecond(self.time) {
            Ok(time) => write!(f, "{time:.3} {who}[{}]: ", self.source)?,
            Err(_) => write!(f, "- {who}[{}]: ", self.source)?,
        }
        let mut rest = self.text.as_str();
        while !rest.is_empty() {
            let (part, more) = rest.split_at(rest.floor_char_boundary(4000));
            f.write_str(&Line::sanitize(part))?;
            rest = more;
        }
        Ok(())
    }
}

/// As it lies in the file, one JSON object a line.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Kept {
    /// Nanoseconds since 1970.
    #[serde(rename = "t")]
    nanos: i64,
    #[serde(rename = "s")]
    source: String,
    /// The instance; none for what paas says.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(rename = "e", default, skip_serializing_if = "std::ops::Not::not")]
    stderr: bool,
    #[serde(rename = "m")]
    text: String,
}

impl Kept {
    fn entry(self) -> LogEntry {
        LogEntry {
            time: self.nanos / 1_000_000,
            event: self.instance.is_none(),
            source: self.source,
            stderr: self.stderr,
            text: self.text,
        }
    }
}

/// One line that an instance printed, to be kept.
pub(super) struct Printed {
    pub(super) nanos: i64,
    pub(super) stderr: bool,
    pub(super) text: String,
}

/// The logs of all apps; cheap to clone.
#[derive(Debug, Clone)]
pub struct Logs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    apps: StdMutex<HashMap<AppId, Arc<AppLog>>>,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct AppLog {
    directory: PathBuf,
    writer: Arc<Mutex<Option<Writer>>>,
    followers: broadcast::Sender<LogEntry>,
}

impl Logs {
    /// What [`Self::tail`] filters by besides process types.
    pub const EVENTS: [&str; 2] = [RELEASE, ROUTER];

    pub(super) fn new(data_dir: &Path, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Inner { root: data_dir.join("logs"), apps: StdMutex::default(), shutdown }))
    }

    fn app(&self, app: AppId) -> Arc<AppLog> {
        let mut apps = self.0.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let log = apps.entry(app).or_insert_with(|| {
            Arc::new(AppLog {
                directory: self.0.root.join(app.0.to_string()),
                writer: Arc::default(),
                followers: broadcast::Sender::new(FOLLOWERS_LAG),
            })
        });
        Arc::clone(log)
    }

    /// Keeps lines of an instance.
    pub(super) async fn append(
        &self,
        app: AppId,
        instance: &InstanceId,
        source: &str,
        lines: Vec<Printed>,
    ) -> Result<(), InstancesError> {
        let kept = lines.into_iter().map(|line| Kept {
            nanos: line.nanos,
            source: source.to_owned(),
            instance: Some(instance.to_string()),
            stderr: line.stderr,
            text: bounded(line.text),
        });
        self.write(app, kept.collect()).await
    }

    /// Notes what happened to an instance.
    pub(super) async fn event(&self, app: AppId, source: &str, text: impl Into<String>) {
        let nanos = now().saturating_mul(1_000_000);
        let kept = Kept { nanos, source: source.to_owned(), instance: None, stderr: false, text: bounded(text.into()) };
        if let Err(error) = self.write(app, vec![kept]).await {
            tracing::warn!(%error, app = app.0, "cannot keep an event");
        }
    }

    async fn write(&self, app: AppId, lines: Vec<Kept>) -> Result<(), InstancesError> {
        let log = self.app(app);
        let entries: Vec<_> = lines.iter().map(|kept| kept.clone().entry()).collect();
        let work = move |writer: &mut Writer| writer.append(&lines);
        let tell = |log: &AppLog| {
            for entry in entries {
                let _ = log.followers.send(entry);
            }
        };
        log.with_writer(work, tell).await.map(drop)
    }

    /// The time of the last line kept of an instance, in nanoseconds.
    pub(super) async fn last_kept(&self, app: AppId, instance: &InstanceId) -> Result<Option<i64>, InstancesError> {
        let id = instance.to_string();
        self.app(app).with_writer(move |writer| Ok(writer.last.get(&id).copied()), |_| ()).await.map(|(last, ())| last)
    }

    /// No more lines of this instance will come.
    pub(super) async fn forget(&self, app: AppId, instance: &InstanceId) {
        let id = instance.to_string();
        let forget = move |writer: &mut Writer| {
            writer.last.remove(&id);
            Ok(())
        };
        if let Err(error) = self.app(app).with_writer(forget, |_| ()).await {
            tracing::warn!(%error, app = app.0, "cannot open the log");
        }
    }

    /// Removes an app's log.
    pub(super) async fn remove(&self, app: AppId) -> Result<(), InstancesError> {
        let log = self.app(app);
        let mut writer = log.writer.lock().await;
        *writer = None;
        self.0.apps.lock().unwrap_or_else(PoisonError::into_inner).remove(&app);
        match tokio::fs::remove_dir_all(&log.directory).await {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(InstancesError::Log { path: log.directory.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// The last `lines` of an app's log, oldest first; with `filter` only those of one process type, or of `release` or
    /// `router`. With `follow` the stream goes on until the app or the server ends; who reads too slowly misses lines, and
    /// is told so.
    pub async fn tail(
        &self,
        app: AppId,
        lines: usize,
        filter: Option<ProcessType>,
        follow: bool,
    ) -> Result<impl Stream<Item = LogEntry> + Send + use<>, InstancesError> {
        let log = self.app(app);
        let wanted =
            move |source: &str| filter.as_ref().is_none_or(|kind| source.split('.').next() == Some(kind.as_str()));
        let directory = log.directory.clone();
        let matches = wanted.clone();
        // The writer is held from the last line that is read to the first that is followed.
        let (past, follower) = log
            .with_writer(
                move |_| last_lines(&directory, lines, &matches),
                |log| follow.then(|| log.followers.subscribe()),
            )
            .await?;
        let past = stream::iter(past);
        let live = stream::unfold(follower, |follower| async {
            let mut follower = follower?;
            let entry = match follower.recv().await {
                Ok(entry) => entry,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    let text = format!("{missed} lines were printed too fast to follow");
                    LogEntry { time: now(), source: OURSELVES.into(), stderr: false, event: true, text }
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((entry, Some(follower)))
        })
        .filter(move |entry| std::future::ready(wanted(&entry.source) || entry.source == OURSELVES));
        Ok(past.chain(live.take_until(self.0.shutdown.clone().cancelled_owned())))
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > LINE_BYTES {
        text.truncate(text.floor_char_boundary(LINE_BYTES));
        text.push('…');
    }
    text
}

impl AppLog {
    /// Runs `work` with the writer, off the runtime's workers, then `after`, while nobody else writes.
    async fn with_writer<T: Send + 'static, R>(
        &self,
        work: impl FnOnce(&mut Writer) -> io::Result<T> + Send + 'static,
        after: impl FnOnce(&Self) -> R,
    ) -> Result<(T, R), InstancesError> {
        let mut guard = Arc::clone(&self.writer).lock_owned().await;
        let directory = self.directory.clone();
        let run = move || {
            let value = match &mut *guard {
                Some(writer) => work(writer),
                empty => Writer::open(directory).and_then(|writer| work(empty.insert(writer))),
            };
            (guard, value)
        };
        let failed = |source| InstancesError::Log { path: self.directory.clone(), source };
        let (_guard, value) = tokio::task::spawn_blocking(run).await.map_err(|e| failed(io::Error::other(e)))?;
        let value = value.map_err(failed)?;
        Ok((value, after(self)))
    }
}

/// The open end of an app's log.
#[derive(Debug)]
struct Writer {
    directory: PathBuf,
    file: fs::File,
    size: u64,
    /// The last line kept of each instance that may still print, by its time.
    last: HashMap<String, i64>,
}

fn current(directory: &Path) -> PathBuf {
    directory.join("current")
}

fn old(directory: &Path, number: u32) -> PathBuf {
    directory.join(number.to_string())
}

impl Writer {
    fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let mut last = HashMap::new();
        for path in (1..=OLD_FILES).rev().map(|n| old(&directory, n)).chain([current(&directory)]) {
            for kept in read(&path)? {
                if let Some(instance) = kept.instance {
                    last.insert(instance, kept.nanos);
                }
            }
        }
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(current(&directory))?;
        let mut size = file.seek(io::SeekFrom::End(0))?;
        // A line that a crash cut short is ended, and never read as one.
        if size > 0 {
            let mut end = [0];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut end, size - 1)?;
            if end != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok(Self { directory, file, size, last })
    }

    fn append(&mut self, lines: &[Kept]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for kept in lines {
            serde_json::to_writer(&mut bytes, kept)?;
            bytes.push(b'\n');
        }
        if self.size > 0 && self.size + bytes.len() as u64 > FILE_BYTES {
            self.rotate()?;
        }
        if let Err(e) = self.file.write_all(&bytes) {
            // A full disk must not leave half a line behind.
            let _ = self.file.set_len(self.size);
            let _ = self.file.seek(io::SeekFrom::Start(self.size));
            return Err(e);
        }
        self.size += bytes.len() as u64;
        for kept in lines {
            if let Some(instance) = &kept.instance {
                self.last.insert(instance.clone(), kept.nanos);
            }
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..=OLD_FILES).rev() {
            let from = if number == 1 { current(&self.directory) } else { old(&self.directory, number - 1) };
            match fs::rename(from, old(&self.directory, number)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        self.file = fs::OpenOptions::new().write(true).create_new(true).open(current(&self.directory))?;
        self.size = 0;
        Ok(())
    }
}

/// The lines of one file; what cannot be read as one is passed over.
fn read(path: &Path) -> io::Result<impl DoubleEndedIterator<Item = Kept> + use<>> {
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
    Ok(lines.into_iter().filter_map(|line| serde_json::from_slice::<Kept>(&line).ok()))
}

fn last_lines(directory: &Path, most: usize, wanted: &dyn Fn(&str) -> bool) -> io::Result<VecDeque<LogEntry>> {
    let mut found = VecDeque::new();
    for path in [current(directory)].into_iter().chain((1..=OLD_FILES).map(|n| old(directory, n))) {
        if found.len() >= most {
            break;
        }
        let missing = most - found.len();
        for kept in read(&path)?.rev().filter(|kept| wanted(&kept.source)).take(missing) {
            found.push_front(kept.entry());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: AppId = AppId(1);

    fn logs(dir: &Path) -> Logs {
        Logs::new(dir, CancellationToken::new())
    }

    fn printed(nanos: i64, text: &str) -> Printed {
        Printed { nanos, stderr: false, text: text.to_owned() }
    }

    async fn texts(logs: &Logs, lines: usize, filter: Option<&str>) -> Vec<String> {
        let filter = filter.map(|f| f.parse().unwrap());
        logs.tail(APP, lines, filter, false).await.unwrap().map(|entry| entry.text).collect().await
    }

    #[tokio::test]
    async fn lines_survive_and_none_is_kept_twice() {
        let dir = tempfile::tempdir().unwrap();
        let id: InstanceId = "a-web-1".parse().unwrap();
        let log = logs(dir.path());
        log.append(APP, &id, "web.1", vec![printed(1, "one"), printed(2, "two\nlines")]).await.unwrap();
        log.event(APP, "worker.1", "Started").await;
        let path = dir.path().join("logs/1/current");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"t\":3,\"s\":\"web.1\",\"m\":\"cut sh").unwrap();

        let log = logs(dir.path());
        assert_eq!(log.last_kept(APP, &id).await.unwrap(), Some(2));
        log.append(APP, &id, "web.1", vec![printed(4, "four")]).await.unwrap();
        assert_eq!(texts(&log, 10, None).await, ["one", "two\nlines", "Started", "four"]);
        assert_eq!(texts(&log, 2, Some("web")).await, ["two\nlines", "four"]);
        assert_eq!(texts(&log, 0, None).await, [""; 0]);
        log.remove(APP).await.unwrap();
        assert_eq!(texts(&log, 10, None).await, [""; 0]);
    }

    #[tokio::test]
    async fn the_log_is_bounded_and_the_newest_lines_stay() {
        let dir = tempfile::tempdir().unwrap();
        let id: InstanceId = "a-web-1".parse().unwrap();
        let log = logs(dir.path());
        let filler = "x".repeat(20_000);
        for batch in 0..20_i64 {
            let lines = (0..100).map(|n| printed(batch * 100 + n, &format!("{}-{filler}", batch * 100 + n))).collect();
            log.append(APP, &id, "web.1", lines).await.unwrap();
        }
        let files: Vec<_> = fs::read_dir(dir.path().join("logs/1")).unwrap().map(|f| f.unwrap()).collect();
        assert_eq!(files.len(), 4);
        assert!(files.iter().all(|f| f.metadata().unwrap().len() <= FILE_BYTES));
        let kept = texts(&log, usize::MAX, None).await;
        assert!(kept.last().unwrap().starts_with("1999-"));
        assert!(kept.iter().all(|text| text.len() <= LINE_BYTES + 3));
        assert!(kept.len() > 900, "{}", kept.len());
    }

    #[tokio::test]
    async fn a_follower_gets_each_line_once_and_ends_with_the_app() {
        let dir = tempfile::tempdir().unwrap();
        let id: InstanceId = "a-web-1".parse().unwrap();
        let log = logs(dir.path());
        log.append(APP, &id, "web.1", vec![printed(1, "past")]).await.unwrap();
        let mut follow = Box::pin(log.tail(APP, 5, Some(ProcessType::web()), true).await.unwrap());
        log.append(APP, &id, "worker.1", vec![printed(2, "other")]).await.unwrap();
        log.append(APP, &id, "web.1", vec![printed(3, "live")]).await.unwrap();
        assert_eq!(follow.next().await.unwrap().text, "past");
        assert_eq!(follow.next().await.unwrap().text, "live");
        log.remove(APP).await.unwrap();
        assert!(follow.next().await.is_none());
    }

    #[test]
    fn a_terminal_is_safe() {
        let entry = LogEntry {
            time: 1_767_323_045_678,
            source: "web.1".into(),
            stderr: false,
            event: false,
            text: "\u{1b}[31mred\u{7}".into(),
        };
        assert_eq!(entry.to_string(), "2026-01-02T03:04:05.678Z app[web.1]: red");
    }
}
