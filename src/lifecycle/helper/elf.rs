//! Programs and shared libraries: which of them a folder has, and what their dynamic sections say, as `readelf` of the build
//! image reads it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Files that one `readelf` reads.
const BATCH: usize = 200;

/// What a folder has.
#[derive(Debug, Default)]
pub(super) struct Linked {
    /// Programs and libraries.
    pub(super) files: Vec<PathBuf>,
    /// Names of libraries, and of links to them.
    pub(super) names: BTreeSet<String>,
}

impl Linked {
    /// Adds what a folder and those below it have; a folder that does not exist has nothing. Plug-ins are left out: a program loads
    /// those that work.
    pub(super) fn add(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_library = name.contains(".so");
            if kind.is_dir() {
                if name != "plugins" && name != ".git" {
                    self.add(&path);
                }
                continue;
            }
            let executable = || entry.metadata().is_ok_and(|about| about.permissions().mode() & 0o111 != 0);
            if kind.is_file() && (is_library || executable()) && is_elf(&path) {
                self.files.push(path);
            }
            if is_library {
                self.names.insert(name);
            }
        }
    }
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// What dynamic sections name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dynamic {
    /// Names of the libraries that are loaded at start.
    pub(super) needed: BTreeSet<String>,
    /// Folders in which they are looked for.
    pub(super) run_paths: BTreeSet<String>,
}

/// Reads the dynamic sections of files.
pub(super) fn dynamic(files: &[PathBuf]) -> Result<Dynamic, String> {
    let mut dynamic = Dynamic::default();
    for files in files.chunks(BATCH) {
        let output =
            Command::new("readelf").args(["--dynamic", "--wide", "--"]).args(files).env("LC_ALL", "C").output();
        let output = output.map_err(|e| format!("cannot run readelf of the build image: {e}"))?;
        // A damaged file makes it fail, after it has read the others.
        dynamic.read(&String::from_utf8_lossy(&output.stdout));
    }
    Ok(dynamic)
}

impl Dynamic {
    fn read(&mut self, text: &str) {
        for line in text.lines() {
            let value = || Some(line.split_once('[')?.1.rsplit_once(']')?.0);
            if line.contains("(NEEDED)") {
                self.needed.extend(value().map(str::to_owned));
            } else if line.contains("(RUNPATH)") || line.contains("(RPATH)") {
                self.run_paths.extend(value().into_iter().flat_map(|paths| paths.split(':')).map(str::to_owned));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_sections_are_read() {
        let mut dynamic = Dynamic::default();
        dynamic.read(
            "\nFile: bin/uwsgi\n\nDynamic section at offset 0x1 contains 30 entries:\n  Tag        Type  Name/Value\n \
             0x0000000000000001 (NEEDED)             Shared library: [libpython3.13.so.1.0]\n \
             0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n \
             0x000000000000001d (RUNPATH)            Library runpath: [/usr/lib/x:$ORIGIN]\n \
             0x000000000000000e (SONAME)             Library soname: [me.so]\n",
        );
        assert_eq!(dynamic.needed.iter().collect::<Vec<_>>(), ["libc.so.6", "libpython3.13.so.1.0"]);
        assert_eq!(dynamic.run_paths.iter().collect::<Vec<_>>(), ["$ORIGIN", "/usr/lib/x"]);
    }

    #[test]
    fn programs_and_libraries_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("lib/plugins")).unwrap();
        for (name, bytes) in [
            ("lib/liba.so.1", "\x7fELFx"),
            ("lib/plugins/b.so", "\x7fELFx"),
            ("lib/c.so", "script"),
            ("text", "\x7fELFx"),
        ] {
            fs::write(root.join(name), bytes).unwrap();
        }
        fs::copy("/proc/self/exe", root.join("program")).unwrap();
        std::os::unix::fs::symlink("liba.so.1", root.join("lib/liba.so")).unwrap();
        let mut linked = Linked::default();
        linked.add(root);
        linked.add(&root.join("missing"));
        linked.files.sort();
        assert_eq!(linked.files, [root.join("lib/liba.so.1"), root.join("program")]);
        assert_eq!(linked.names.iter().collect::<Vec<_>>(), ["c.so", "liba.so", "liba.so.1"]);
        assert!(dynamic(&linked.files).unwrap().needed.contains("libc.so.6"));
    }
}
