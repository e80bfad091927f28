//! The build log: a file with each line of a push, which the pusher gets as well.

use std::path::PathBuf;

use tokio::{
    fs::File,
    io::{AsyncWriteExt as _, BufWriter},
    task::JoinHandle,
};

use super::{deployer::Deployer, error::DeployError};
use crate::{data_dir::Room, progress::Progress, store::AppId};

/// Maximum size of one log, in bytes; the pusher alone gets what exceeds it.
const MAX_LOG_BYTES: usize = 8 << 20;

/// What is kept of the logs of an app's builds besides the newest; the oldest go first.
const ROOM: Room = Room { max_bytes: 64 << 20, max_files: 49 };

pub(super) struct BuildLog {
    progress: Progress,
    writer: JoinHandle<()>,
}

impl BuildLog {
    pub(super) async fn open(path: PathBuf, pusher: &Progress) -> Result<Self, DeployError> {
        let failed = |source| DeployError::File { act: "write", path: path.clone(), source };
        if let Some(dir) = path.parent() {
            tokio::fs::create_dir_all(dir).await.map_err(failed)?;
            let (dir, newest) = (dir.to_owned(), path.clone());
            let made = tokio::task::spawn_blocking(move || ROOM.make(&dir, &newest)).await;
            made.map_err(std::io::Error::other).flatten().map_err(failed)?;
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
