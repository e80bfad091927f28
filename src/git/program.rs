//! Installs a program so that git's user can run it but not change it.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt},
    path::Path,
};

/// The file that this process runs, even after an upgrade has replaced it on disk.
pub(super) const THIS_PROGRAM: &str = "/proc/self/exe";

/// Copies a program: git's user may not have access to the original, and an upgrade must not change it while this server
/// runs.
pub(super) fn install(program: &Path, installed: &Path) -> io::Result<()> {
    let new = installed.with_extension("new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // A hard link costs nothing; a copy is needed across file systems, or if the mode does not fit.
    let original = fs::metadata(program)?;
    let same = |other: &Path| fs::metadata(other).is_ok_and(|m| (m.dev(), m.ino()) == (original.dev(), original.ino()));
    let named = fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    let linked = original.mode() & 0o555 == 0o555 && fs::hard_link(named, &new).is_ok() && same(&new);
    if !linked {
        let _ = fs::remove_file(&new);
        fs::copy(program, &new)?;
        fs::set_permissions(&new, PermissionsExt::from_mode(0o755))?;
    }
    fs::rename(&new, installed)?;
    // Renaming a link over another link to the same file does nothing, not even remove the old name.
    let _ = fs::remove_file(&new);
    Ok(())
}
