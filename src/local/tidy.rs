//! Cleaning the data folder of local builds: only the caches of the folders that were built last are kept, with the
//! blobs that they need.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use super::{
    error::{LocalError, Result},
    workspace::Workspace,
};

/// Number of folders whose caches are kept.
const KEPT_CACHES: usize = 10;

/// A blob younger than this may belong to an image that was not recorded because its build was interrupted.
const MIN_BLOB_AGE: Duration = Duration::from_hours(1);

/// For each folder that was built, the file that names its last image, and the time of the build; newest first.
fn notes(workspace: &Workspace) -> Result<Vec<(SystemTime, PathBuf)>> {
    let dir = &workspace.config.data_dir;
    let mut notes = Vec::new();
    for entry in fs::read_dir(dir).map_err(LocalError::file("read", dir))? {
        let path = entry.map_err(LocalError::file("read", dir))?.path();
        if path.extension().is_some_and(|extension| extension == "image") {
            let built_at =
                path.metadata().and_then(|about| about.modified()).map_err(LocalError::file("read", &path))?;
            notes.push((built_at, path));
        }
    }
    notes.sort_unstable_by(|a, b| b.cmp(a));
    Ok(notes)
}

/// Removes the caches of the folders whose last build is the oldest, and the blobs that no next build needs.
pub(super) async fn tidy(workspace: &Workspace) -> Result<()> {
    let notes = notes(workspace)?;
    for (_, note) in notes.iter().skip(KEPT_CACHES) {
        if let Some(disk) = note.file_stem().and_then(|stem| stem.to_str()) {
            workspace.remove_disk(disk).await?;
        }
        fs::remove_file(note).map_err(LocalError::file("remove", note))?;
    }
    let images =
        notes.iter().take(KEPT_CACHES).filter_map(|(_, note)| fs::read_to_string(note).ok()?.trim().parse().ok());
    let keep: Vec<_> =
        images.chain([workspace.stack.run.manifest.clone(), workspace.stack.build.manifest.clone()]).collect();
    let (store, packages) = (workspace.images.clone(), workspace.builder.packages().clone());
    let swept = tokio::task::spawn_blocking(move || {
        // The next build fetches its packages again.
        packages.retain(&[])?;
        Ok::<_, LocalError>(store.sweep(&keep, MIN_BLOB_AGE)?)
    });
    tracing::debug!(blobs = swept.await.unwrap_or(Ok(0))?, "old blobs removed");
    Ok(())
}
