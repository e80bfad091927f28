//! The build log: a file with each line of a push, which the pusher gets as well.

use std::path::{Path, PathBuf};

use tokio::{
    fs::File,
    io::{AsyncWriteExt as _, BufWriter},
    task::JoinHandle,
};

use super::{deployer::Deployer, error::DeployError};
use crate::{progress::Progress, store::AppId};

/// Maximum size of one log, in bytes; the pusher alone gets what exceeds it.
const MAX_LOG_BYTES: usize = 8 << 20;

/// Number of logs that are kept for an app.
const KEPT_LOGS: u64 = 50;

pub(super) struct BuildLog {
    progress: Progress,
    writer: JoinHandle<()>,
}

impl BuildLog {
    pub(super) async fn open(path: PathBuf, pusher: &Progress) -> Result<Self, DeployError> {
        let failed = |source| DeployError::File { act: "write", path: path.clone(), source };
        if let Some(dir) = path.parent() {
            tokio::fs::create_dir_all(dir).await.map_err(failed)?;
            remove_old(dir, &path).await;
        }
        let mut file = BufWriter::new(File::create(&path).await.map_err(failed)?);
        let (progress, mut lines) = Progress::channel();
        let pusher = pusher.clone();
        // Not a `progress::relay`: build and release write to one log, and the file is flushed when no line waits. The
        // task ends when the last sender is gone, which `close` waits for.
        let writer = tokio::spawn(async move {
            let mut written = 0;
            while let Some(line) = lines.recv().await {
                let text = format!("{line}\n");
                written += text.len();
                if written <= MAX_LOG_BYTES && file.write_all(text.as_bytes()).await.is_ok() && lines.is_empty() {
                    let _ = file.flush().await;
                }
                pusher.line(line).await;
            }
            let _ = file.shutdown().await;
        });
        Ok(Self { progress, writer })
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Waits until all lines are written.
    pub(super) async fn close(self) {
        let Self { progress, writer } = self;
        drop(progress);
        let _ = writer.await;
    }
}

async fn remove_old(dir: &Path, newest: &Path) {
    let number = |path: &Path| path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<u64>().ok());
    let Some(newest) = number(newest) else { return };
    let old = newest.saturating_sub(KEPT_LOGS);
    if old > 0 {
        let _ = tokio::fs::remove_file(dir.join(format!("{old}.log"))).await;
    }
}

impl Deployer {
    /// Path of the log of a build.
    pub fn build_log(&self, app: AppId, number: u64) -> PathBuf {
        self.build_logs(app).join(format!("{number}.log"))
    }

    /// Folder of the logs of an app's builds.
    pub(super) fn build_logs(&self, app: AppId) -> PathBuf {
        self.0.config.data_dir.join("builds").join(app.0.to_string())
    }
}
