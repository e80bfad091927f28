//! The folder of local builds does not grow for ever: caches of the folders that were built last are kept, and of images
//! what those need.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use super::{LocalError, Result, Site, failed};

/// Of how many folders the caches are kept.
const KEPT: usize = 10;

/// A blob younger than this may be of an image that was not noted, for its build was interrupted.
const YOUNG: Duration = Duration::from_hours(1);

/// The note of the image that a folder's last build made, and when that was.
fn notes(site: &Site) -> Result<Vec<(SystemTime, PathBuf)>> {
    let dir = &site.config.data_dir;
    let mut notes = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("read", dir))? {
        let path = entry.map_err(failed("read", dir))?.path();
        if path.extension().is_some_and(|extension| extension == "image") {
            let built_at = path.metadata().and_then(|about| about.modified()).map_err(failed("read", &path))?;
            notes.push((built_at, path));
        }
    }
    notes.sort_unstable_by(|a, b| b.cmp(a));
    Ok(notes)
}

/// Forgets the folders that were not built for the longest time, and the images that no folder's next build needs.
pub(super) async fn tidy(site: &Site) -> Result<()> {
    let notes = notes(site)?;
    for (_, note) in notes.iter().skip(KEPT) {
        if let Some(disk) = note.file_stem().and_then(|stem| stem.to_str()) {
            site.forget(disk).await?;
        }
        fs::remove_file(note).map_err(failed("remove", note))?;
    }
    let images = notes.iter().take(KEPT).filter_map(|(_, note)| fs::read_to_string(note).ok()?.trim().parse().ok());
    let keep: Vec<_> = images.chain([site.stack.run.manifest.clone(), site.stack.build.manifest.clone()]).collect();
    let (store, packages) = (site.images.clone(), site.builder.packages().clone());
    let swept = tokio::task::spawn_blocking(move || {
        // What was fetched is fetched anew by the next build.
        packages.retain(&[])?;
        Ok::<_, LocalError>(store.sweep(&keep, YOUNG)?)
    });
    tracing::debug!(blobs = swept.await.unwrap_or(Ok(0))?, "old blobs removed");
    Ok(())
}
