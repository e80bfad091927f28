//! Layers that an image needs to be launched: the launcher with a link for each process, and its configuration.

use std::{collections::BTreeMap, fs::File, io, path::Path};

use super::{
    dirs::Dirs,
    layer_tar::{LayerTar, OWNER},
    protocol::BuiltLayer,
};
use crate::model::Process;

/// Owner of the launcher.
const ROOT: u64 = 0;

/// The launcher, and a link to it for each process.
pub(super) fn launcher(spool: &Path, lifecycle: &Path, processes: &[Process]) -> io::Result<(BuiltLayer, File)> {
    let mut tar = LayerTar::new(spool, ROOT)?;
    add_launcher(&mut tar, lifecycle, processes)?;
    tar.finish("launcher")
}

fn add_launcher(tar: &mut LayerTar, lifecycle: &Path, processes: &[Process]) -> io::Result<()> {
    for folder in ["cnb", "cnb/lifecycle"] {
        tar.folder(Path::new(folder), 0o755)?;
    }
    tar.file(Path::new("cnb/lifecycle/launcher"), lifecycle, 0o755)?;
    tar.folder(Path::new("cnb/process"), 0o755)?;
    let mut names: Vec<_> = processes.iter().map(|process| process.process_type.as_str()).collect();
    names.sort_unstable();
    for name in names {
        tar.link(&Path::new("cnb/process").join(name), Path::new("/cnb/lifecycle/launcher"))?;
    }
    Ok(())
}

/// The launcher's configuration.
pub(super) fn config(spool: &Path, dirs: &Dirs, text: &str) -> io::Result<(BuiltLayer, File)> {
    let mut tar = LayerTar::new(spool, OWNER)?;
    add_config(&mut tar, dirs, text)?;
    tar.finish("launcher configuration")
}

fn add_config(tar: &mut LayerTar, dirs: &Dirs, text: &str) -> io::Result<()> {
    let path = dirs.launch_config();
    tar.parents(&path)?;
    tar.bytes(&path, 0o644, text.as_bytes())
}

/// The layer of an image that no buildpack made, so that it is launched like any other, with its tar. It is one layer, because
/// the engine adds it anew on top of each change. `lifecycle` is the binary, `spool` a folder for unnamed files.
pub fn launcher_layer(lifecycle: &Path, processes: &[Process], spool: &Path) -> io::Result<(BuiltLayer, File)> {
    let text = toml::to_string(&BTreeMap::from([("processes", processes)])).map_err(io::Error::other)?;
    let mut tar = LayerTar::new(spool, ROOT)?;
    add_launcher(&mut tar, lifecycle, processes)?;
    add_config(&mut tar, &Dirs::default(), &text)?;
    tar.finish("launcher")
}
