//! Logs of the apps: what their instances printed, and events. They are bounded, and outlive the containers.

mod entry;
mod files;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex as StdMutex, PoisonError},
};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::{Mutex, broadcast};
use tokio_util::sync::CancellationToken;

pub use entry::LogEntry;
pub(super) use entry::PrintedLine;

use super::error::InstancesError;
use crate::{
    engine::ReadUntil,
    model::{InstanceId, LogSource},
    store::{AppId, Millis, now},
};
use entry::StoredLine;
use files::{LogWriter, last_entries};

/// Number of lines by which a follower may lag before it misses some.
const MAX_FOLLOWER_LAG: usize = 512;
/// Source of events of a release. It is not a process type.
pub(super) const RELEASE_SOURCE: &str = "release";
/// Source of events of the router: requests that no instance answered. It is not a process type.
pub(super) const ROUTER_SOURCE: &str = "router";
/// Source of events of the log itself.
const LOGS_SOURCE: &str = "logs";

/// The logs of all apps; cheap to clone.
#[derive(Debug, Clone)]
pub struct Logs(Arc<AppLogs>);

#[derive(Debug)]
struct AppLogs {
    root: PathBuf,
    apps: StdMutex<HashMap<AppId, Arc<AppLog>>>,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct AppLog {
    directory: PathBuf,
    writer: Arc<Mutex<Option<LogWriter>>>,
    followers: broadcast::Sender<LogEntry>,
}

/// Which lines of an app's log are read.
#[derive(Debug, Clone, Default)]
pub struct LogSelection {
    /// Number of past lines: the newest ones.
    pub lines: usize,
    /// Only lines of this process type or instance, or of `release` or `router`.
    pub source: Option<LogSource>,
    /// Only lines from this time on.
    pub since: Option<Millis>,
    /// Whether new lines follow as they are written.
    pub follow: bool,
}

impl Logs {
    /// Sources of events that [`Self::tail`] can filter by, besides process types.
    pub const EVENTS: [&str; 2] = [RELEASE_SOURCE, ROUTER_SOURCE];

    pub(super) fn new(data_dir: &Path, shutdown: CancellationToken) -> Self {
        Self(Arc::new(AppLogs { root: data_dir.join("logs"), apps: StdMutex::default(), shutdown }))
    }

    fn app(&self, app: AppId) -> Arc<AppLog> {
        let mut apps = self.0.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let log = apps.entry(app).or_insert_with(|| {
            Arc::new(AppLog {
                directory: self.0.root.join(app.0.to_string()),
                writer: Arc::default(),
                followers: broadcast::Sender::new(MAX_FOLLOWER_LAG),
            })
        });
        Arc::clone(log)
    }

    /// Appends lines that an instance printed.
    pub(super) async fn append(
        &self,
        app: AppId,
        instance: &InstanceId,
        source: &str,
        lines: Vec<PrintedLine>,
    ) -> Result<(), InstancesError> {
        let lines = lines.into_iter().map(|line| StoredLine::printed(instance, source, line));
        self.write(app, lines.collect()).await
    }

    /// Appends an event of an instance, a release or the router.
    pub(super) async fn event(&self, app: AppId, source: &str, text: impl Into<String>) {
        if let Err(error) = self.write(app, vec![StoredLine::event(source, text.into())]).await {
            tracing::warn!(%error, app = app.0, "cannot write an event to the app's log");
        }
    }

    async fn write(&self, app: AppId, lines: Vec<StoredLine>) -> Result<(), InstancesError> {
        let log = self.app(app);
        let entries: Vec<_> = lines.iter().map(|line| line.clone().into_entry()).collect();
        let append = move |writer: &mut LogWriter| writer.append(&lines);
        let send = |log: &AppLog| {
            for entry in entries {
                let _ = log.followers.send(entry);
            }
        };
        log.with_writer(append, send).await.map(drop)
    }

    /// The last stored lines of an instance.
    pub(super) async fn written_until(&self, app: AppId, instance: &InstanceId) -> Result<ReadUntil, InstancesError> {
        let id = instance.to_string();
        self.app(app).with_writer(move |writer| Ok(writer.written_until(&id)), |_| ()).await.map(|(last, ())| last)
    }

    /// Forgets what [`Self::written_until`] needs of an instance that prints no more.
    pub(super) async fn forget(&self, app: AppId, instance: &InstanceId) {
        let id = instance.to_string();
        let forget = move |writer: &mut LogWriter| {
            writer.forget(&id);
            Ok(())
        };
        if let Err(error) = self.app(app).with_writer(forget, |_| ()).await {
            tracing::warn!(%error, app = app.0, "cannot open the app's log");
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

    /// The selected lines of an app's log, oldest first. If they are followed, the stream goes on until the log is removed
    /// or the server shuts down; a reader that is too slow misses lines, and gets an event that says how many.
    pub async fn tail(
        &self,
        app: AppId,
        selection: LogSelection,
    ) -> Result<impl Stream<Item = LogEntry> + Send + use<>, InstancesError> {
        let LogSelection { lines, source: filter, since, follow } = selection;
        let log = self.app(app);
        let wanted = move |source: &str| filter.as_ref().is_none_or(|filter| filter.includes(source));
        let directory = log.directory.clone();
        let matches = wanted.clone();
        // Subscribe before another line can be written, so that none is missed or repeated.
        let (past, follower) = log
            .with_writer(
                move |_| last_entries(&directory, lines, since, &matches),
                |log| follow.then(|| log.followers.subscribe()),
            )
            .await?;
        let past = stream::iter(past);
        let live = stream::unfold(follower, |follower| async {
            let mut follower = follower?;
            let entry = match follower.recv().await {
                Ok(entry) => entry,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    let text = format!("{missed} lines were skipped: they were printed faster than they could be read");
                    LogEntry {
                        time: now(),
                        source: LOGS_SOURCE.into(),
                        stderr: false,
                        event: true,
                        text,
                        partial: false,
                    }
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((entry, Some(follower)))
        })
        .filter(move |entry| std::future::ready(wanted(&entry.source) || entry.source == LOGS_SOURCE));
        Ok(past.chain(live.take_until(self.0.shutdown.clone().cancelled_owned())))
    }
}

impl AppLog {
    /// Runs `work` with the writer, outside the runtime's worker threads, and then `after`, before any other write.
    async fn with_writer<T: Send + 'static, R>(
        &self,
        work: impl FnOnce(&mut LogWriter) -> io::Result<T> + Send + 'static,
        after: impl FnOnce(&Self) -> R,
    ) -> Result<(T, R), InstancesError> {
        let mut guard = Arc::clone(&self.writer).lock_owned().await;
        let directory = self.directory.clone();
        let run = move || {
            let value = match &mut *guard {
                Some(writer) => work(writer),
                empty => LogWriter::open(directory).and_then(|writer| work(empty.insert(writer))),
            };
            (guard, value)
        };
        let failed = |source| InstancesError::Log { path: self.directory.clone(), source };
        let (_guard, value) = tokio::task::spawn_blocking(run).await.map_err(|e| failed(io::Error::other(e)))?;
        let value = value.map_err(failed)?;
        Ok((value, after(self)))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::{entry::MAX_TEXT_BYTES, files::MAX_FILE_BYTES, *};

    const APP: AppId = AppId(1);

    fn logs(dir: &Path) -> Logs {
        Logs::new(dir, CancellationToken::new())
    }

    fn printed(nanos: i64, text: &str) -> PrintedLine {
        PrintedLine { nanos, stderr: false, text: text.to_owned(), partial: false }
    }

    async fn texts(logs: &Logs, lines: usize, filter: Option<&str>) -> Vec<String> {
        let source = filter.map(|f| f.parse().unwrap());
        select(logs, LogSelection { lines, source, ..LogSelection::default() }).await
    }

    async fn select(logs: &Logs, selection: LogSelection) -> Vec<String> {
        logs.tail(APP, selection).await.unwrap().map(|entry| entry.text).collect().await
    }

    #[tokio::test]
    async fn lines_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let id: InstanceId = "a-web-1".parse().unwrap();
        let log = logs(dir.path());
        let error = PrintedLine { stderr: true, ..printed(1, "error") };
        log.append(APP, &id, "web.1", vec![printed(2, "two\nlines"), error]).await.unwrap();
        log.event(APP, "worker.1", "Started").await;
        let path = dir.path().join("logs/1/current");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"t\":3,\"s\":\"web.1\",\"m\":\"cut sh").unwrap();

        let log = logs(dir.path());
        let mut until = ReadUntil::default();
        until.read(false, jiff::Timestamp::from_nanosecond(2).unwrap());
        until.read(true, jiff::Timestamp::from_nanosecond(1).unwrap());
        assert_eq!(log.written_until(APP, &id).await.unwrap(), until);
        log.append(APP, &id, "web.1", vec![printed(4, "four")]).await.unwrap();
        assert_eq!(texts(&log, 10, None).await, ["two\nlines", "error", "Started", "four"]);
        assert_eq!(texts(&log, 2, Some("web")).await, ["error", "four"]);
        assert_eq!(texts(&log, 1, Some("web.1")).await, ["four"]);
        assert_eq!(texts(&log, 1, Some("web.2")).await, [""; 0]);
        assert_eq!(texts(&log, 0, None).await, [""; 0]);
        log.remove(APP).await.unwrap();
        assert_eq!(texts(&log, 10, None).await, [""; 0]);
    }

    #[tokio::test]
    async fn the_log_is_bounded_and_keeps_the_newest_lines() {
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
        assert!(files.iter().all(|f| f.metadata().unwrap().len() <= MAX_FILE_BYTES));
        let kept = texts(&log, usize::MAX, None).await;
        assert!(kept.last().unwrap().starts_with("1999-"));
        assert!(kept.iter().all(|text| text.len() <= MAX_TEXT_BYTES + 3));
        assert!(kept.len() > 900, "{}", kept.len());
    }

    #[tokio::test]
    async fn only_lines_from_a_time_on_are_selected() {
        let dir = tempfile::tempdir().unwrap();
        let id: InstanceId = "a-web-1".parse().unwrap();
        let log = logs(dir.path());
        let lines = [(1_000_000, "one"), (2_000_000, "two"), (3_999_999, "three"), (4_000_000, "four")];
        log.append(APP, &id, "web.1", lines.map(|(nanos, text)| printed(nanos, text)).into()).await.unwrap();
        let since = |since, lines| LogSelection { lines, since: Some(since), ..LogSelection::default() };
        assert_eq!(select(&log, since(3, 10)).await, ["three", "four"]);
        assert_eq!(select(&log, since(2, 2)).await, ["three", "four"], "the newest ones");
        assert_eq!(select(&log, since(5, 10)).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_follower_gets_each_line_once_until_the_log_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let id: InstanceId = "a-web-1".parse().unwrap();
        let log = logs(dir.path());
        log.append(APP, &id, "web.1", vec![printed(1, "past")]).await.unwrap();
        let selection = LogSelection { lines: 5, source: "web".parse().ok(), follow: true, ..LogSelection::default() };
        let mut follow = Box::pin(log.tail(APP, selection).await.unwrap());
        log.append(APP, &id, "worker.1", vec![printed(2, "other")]).await.unwrap();
        log.append(APP, &id, "web.1", vec![printed(3, "live")]).await.unwrap();
        assert_eq!(follow.next().await.unwrap().text, "past");
        assert_eq!(follow.next().await.unwrap().text, "live");
        log.remove(APP).await.unwrap();
        assert!(follow.next().await.is_none());
    }
}
