//! Layers that an image needs to be launched: the launcher with a link for each process, and its configuration.

use std::{collections::BTreeMap, fs::File, io, path::Path};

use super::{
    dirs::Dirs,
    launcher::LAUNCHER,
    layer_tar::{LayerTar, OWNER},
    protocol::BuiltLayer,
};
use crate::model::Process;

/// Owner of the launcher.
const ROOT: u64 = 0;

/// The launcher, and a link to it for each process type.
pub(super) fn launcher(spool: &Path, lifecycle: &Path, types: Vec<&str>) -> io::Result<(BuiltLayer, File)> {
    let mut tar = LayerTar::new(spool, ROOT)?;
    add_launcher(&mut tar, lifecycle, types)?;
    tar.finish("launcher")
}

fn add_launcher(tar: &mut LayerTar, lifecycle: &Path, mut types: Vec<&str>) -> io::Result<()> {
    for folder in ["/cnb", "/cnb/lifecycle"] {
        tar.folder(Path::new(folder), 0o755)?;
    }
    tar.file(lifecycle, Path::new(LAUNCHER), 0o755)?;
    tar.folder(Path::new("/cnb/process"), 0o755)?;
    types.sort_unstable();
    for name in types {
        tar.link(&Path::new("/cnb/process").join(name), 0o755, Path::new(LAUNCHER))?;
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
    add_launcher(&mut tar, lifecycle, processes.iter().map(|process| process.process_type.as_str()).collect())?;
    add_config(&mut tar, &Dirs::default(), &text)?;
    tar.finish("launcher")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the reference lifecycle (its package `layers`, version 0.20.11) makes of a folder with the same file.
    #[test]
    fn the_layer_of_the_configuration_is_that_of_the_reference() {
        let dir = tempfile::tempdir().unwrap();
        let (layer, _) = config(dir.path(), &Dirs::default(), "x = 1\n").unwrap();
        assert_eq!(layer.digest.hex(), "808a37698359448ea62b287fa50714cec72fbfd05cc3ccdd66a330ccaf52c867");
    }
}
