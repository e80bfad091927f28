//! What a push prints is kept: each line goes to the pusher and to a file.

use std::path::{Path, PathBuf};

use tokio::{
    fs::File,
    io::{AsyncWriteExt as _, BufWriter},
    task::JoinHandle,
};

use super::DeployError;
use crate::progress::Progress;

/// The largest log of one build, in bytes; what comes after that goes to the pusher alone.
const LARGEST: usize = 8 << 20;

/// How many logs an app keeps.
const KEPT: u64 = 50;

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
        // It ends when the last sender is gone, which `close` waits for.
        let writer = tokio::spawn(async move {
            let mut written = 0;
            while let Some(line) = lines.recv().await {
                let text = format!("{line}\n");
                written += text.len();
                if written <= LARGEST && file.write_all(text.as_bytes()).await.is_ok() && lines.is_empty() {
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

    /// Waits until all is written.
    pub(super) async fn close(self) {
        let Self { progress, writer } = self;
        drop(progress);
        let _ = writer.await;
    }
}

async fn remove_old(dir: &Path, newest: &Path) {
    let number = |path: &Path| path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<u64>().ok());
    let Some(newest) = number(newest) else { return };
    let old = newest.saturating_sub(KEPT);
    if old > 0 {
        let _ = tokio::fs::remove_file(dir.join(format!("{old}.log"))).await;
    }
}
