//! Service bindings (servicebinding.io, "Workload Projection"): folders of files that programs find by a variable.

use std::{
    fs,
    io::{self, Read, Write as _},
    os::unix::fs::OpenOptionsExt as _,
};

use super::{
    dirs::Dirs,
    env::Env,
    protocol::{BindingFile, Kind, read_frame},
};

/// Variable with the folder of the bindings.
pub const BINDING_ROOT: &str = "SERVICE_BINDING_ROOT";

/// That folder, in builds and in the containers of apps: `<platform>/bindings`.
pub const BINDINGS_FOLDER: &str = "/platform/bindings";

/// Name of the folder below `<platform>`.
const FOLDER: &str = "bindings";

/// Reads the contents of these files, which only the build's user can read then.
pub(super) fn receive(dirs: &Dirs, files: &[BindingFile], input: &mut impl Read) -> io::Result<()> {
    for BindingFile { path, size } in files {
        let path = dirs.platform.join(FOLDER).join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path)?;
        let mut left = *size;
        while left > 0 {
            let Some((Kind::Binding, piece)) = read_frame(input)? else {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            };
            let too_long = || io::Error::new(io::ErrorKind::InvalidData, "a binding is longer than announced");
            left = left.checked_sub(piece.len() as u64).ok_or_else(too_long)?;
            file.write_all(&piece)?;
        }
    }
    Ok(())
}

/// Tells a program of a build where its bindings are, unless its user already does.
pub(super) fn announce(env: &mut Env, dirs: &Dirs, files: &[BindingFile]) {
    if !files.is_empty() {
        let folder = || dirs.platform.join(FOLDER).display().to_string();
        env.entry(BINDING_ROOT.to_owned()).or_insert_with(folder);
    }
}
