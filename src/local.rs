//! Commands that need no server, for a laptop, for CI, and for buildpack authors: the same builder, engine and image
//! store as a server's, in a data folder of their own.

mod address_range;
mod buildpack_test;
mod data_dir;
mod error;
mod folder_build;
mod package;
mod report;
mod scaffold;
mod source;
mod tidy;
mod workspace;

pub use buildpack_test::BuildpackTest;
pub use error::LocalError;
pub use folder_build::FolderBuild;
pub use package::package;
pub use scaffold::new_buildpack;

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use tokio_util::sync::CancellationToken;

use crate::{
    build::Builder,
    config::Config,
    engine::Engine,
    model::{BuildpackSource, Digest, InvalidName},
    progress::{self, Progress},
};
use error::Result;
use workspace::Workspace;

/// `paas build`: builds a folder, loads the image into the engine, and reports on it.
pub async fn build(
    config: &Config,
    build: &FolderBuild,
    tag: Option<String>,
    clear_cache: bool,
    cancel: CancellationToken,
) -> Result<()> {
    let name = folder_build::app_name(&build.folder)?;
    let tag = tag.unwrap_or_else(|| name.to_string());
    in_workspace(config, async |workspace, progress| {
        let path = fs::canonicalize(&build.folder).map_err(LocalError::file("find", &build.folder))?;
        let disk = format!("build-{}", &Digest::of(path.as_os_str().as_encoded_bytes()).hex()[..16]);
        if clear_cache {
            workspace.clear_cache(&disk).await?;
        }
        let note = workspace.config.data_dir.join(format!("{disk}.image"));
        let previous = fs::read_to_string(&note).ok().and_then(|text| text.trim().parse().ok());
        let image = build.run(workspace, &disk, previous, progress, &cancel).await?;
        fs::write(&note, image.to_string()).map_err(LocalError::file("write", &note))?;
        workspace.load_image(&image, &tag).await?;
        tidy::tidy(workspace).await?;
        report::report_image(workspace, &image, &tag, progress).await
    })
    .await
}

/// `paas buildpack test`: see [`BuildpackTest`].
pub async fn test(config: &Config, test: &BuildpackTest<'_>, cancel: CancellationToken) -> Result<()> {
    in_workspace(config, async |workspace, progress| test.run(workspace, progress, &cancel).await).await
}

/// `paas purge --local`: removes everything that local builds have on the engine and in their data folder. Returns what
/// was done. Loaded images are kept: they belong to the user.
pub async fn purge(config: &Config) -> Result<String> {
    let of_servers = [&config.data_dir, &config.stack.cache_dir];
    let mut config = Config { data_dir: data_dir::path()?, ..config.clone() };
    // Names that a server pulled from its own registry must not count as ours.
    config.registry.listen = ([127, 0, 0, 1], 0).into();
    let dir = &config.data_dir;
    if !dir.join(data_dir::LOCK_FILE).exists() {
        return Ok(format!("there is nothing of local builds in {}", dir.display()));
    }
    if dir.join("server.lock").exists() || of_servers.iter().any(|folder| folder.starts_with(dir)) {
        let text = format!("{} is also used by a server, not by local builds alone: nothing is removed", dir.display());
        return Err(LocalError::Wrong(text));
    }
    let _lock = data_dir::lock(dir, config.user_id)?;
    let engine = Engine::connect(&config, &data_dir::server_id(dir).await?).await?;
    Builder::unmount_leftovers(&config).await?;
    engine.remove_all().await?;
    fs::remove_dir_all(dir).map_err(LocalError::file("remove", dir))?;
    Ok(format!("removed {}, and what local builds had on the engine", dir.display()))
}

/// The buildpack that a command-line argument names: an existing path, or whatever `buildpacks:add` accepts.
pub fn buildpack_source(text: &str) -> Result<BuildpackSource> {
    let path = Path::new(text);
    if path.exists() && !text.contains("://") {
        return Ok(BuildpackSource::Path(fs::canonicalize(path).map_err(LocalError::file("find", path))?));
    }
    text.parse().map_err(|e: InvalidName| LocalError::Wrong(e.to_string()))
}

/// Runs `work` in an open workspace, and prints its progress.
async fn in_workspace(config: &Config, work: impl AsyncFnOnce(&Workspace, &Progress) -> Result<()>) -> Result<()> {
    let run = |progress| async move {
        let workspace = Workspace::open(config, &progress).await?;
        let done = work(&workspace, &progress).await;
        workspace.close().await?;
        done
    };
    let print = |line| async move {
        let _ = writeln!(io::stdout(), "{line}");
    };
    progress::relay(run, print).await
}
