//! Python packages from their registry, each set in an environment of its own that later runs find.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use super::command::run;

/// The folder of programs of an environment with these packages, such as `mcp==2.3.0`. It is made once on a machine.
pub fn environment(packages: &[&str]) -> PathBuf {
    // Two tests at a time would make the same.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new("/var/cache/paas/python").join(packages.join("+").replace(['=', '/'], "-"));
    let marker = folder.join("complete");
    if !marker.exists() {
        fs::create_dir_all(folder.parent().unwrap()).unwrap();
        run(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&folder)).success();
        run(Command::new(folder.join("bin/pip")).args(["install", "-q"]).args(packages)).success();
        fs::write(marker, "").unwrap();
    }
    folder.join("bin")
}
