//! Alternatives: names that several packages offer, such as `awk` and `libblas.so.3`. The script of a package makes the
//! links when the package is installed; here none is installed. So the script runs in a shell that can start no program and
//! write no file, to find out which links it would make.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Priority and target of each link; both paths as in Debian, without the root.
#[derive(Debug, Default)]
pub(super) struct Alternatives(BTreeMap<PathBuf, (i64, PathBuf)>);

/// Precedes a package's script: it does not stop when a program is missing, and prints the calls of `update-alternatives`.
const PRELUDE: &str = r#"
set() { :; }
update-alternatives() { printf '%s\037' "$@"; printf '\n'; }
"#;

impl Alternatives {
    /// Adds the links that the script of a package (`postinst`) would make.
    pub(super) fn add(&mut self, script: &str, tmp: &Path) -> io::Result<()> {
        if !script.contains("update-alternatives") {
            return Ok(());
        }
        let file = tmp.join("postinst");
        fs::write(&file, [PRELUDE, script].concat())?;
        let mut shell = Command::new("/usr/bin/timeout");
        shell
            .args(["10", "/bin/bash", "--norc", "--restricted"])
            .arg(&file)
            .arg("configure")
            .env_clear()
            .env("PATH", "/nowhere")
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let output = shell.output()?;
        fs::remove_file(&file)?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let words: Vec<&str> = line.split('\u{1f}').collect();
            self.add_call(&words);
        }
        Ok(())
    }

    /// Adds the links of one call: `--install LINK NAME PATH PRIORITY`, with any number of `--slave LINK NAME PATH`.
    fn add_call(&mut self, words: &[&str]) {
        let mut priority = 0;
        for (at, word) in words.iter().enumerate() {
            let (link, path) = match (*word, &words[at + 1..]) {
                ("--install", [link, _name, path, number, ..]) => {
                    priority = number.parse().unwrap_or(0);
                    (link, path)
                }
                ("--slave", [link, _name, path, ..]) => (link, path),
                _ => continue,
            };
            let (Some(link), Some(path)) = (merged(link), merged(path)) else { continue };
            let best = self.0.entry(link).or_insert_with(|| (priority, path.clone()));
            if priority > best.0 {
                *best = (priority, path);
            }
        }
    }

    /// Makes the links whose targets are in the layer, unless something has their name already.
    pub(super) fn link(&self, layer: &Path) -> io::Result<()> {
        for (link, (_, path)) in &self.0 {
            let at = layer.join(link);
            let Some(folder) = at.parent() else { continue };
            if fs::symlink_metadata(layer.join(path)).is_err() || fs::symlink_metadata(&at).is_ok() {
                continue;
            }
            fs::create_dir_all(folder)?;
            let up: PathBuf = link.components().skip(1).map(|_| "..").collect();
            symlink(up.join(path), &at)?;
        }
        Ok(())
    }
}

/// Path without the root, below `usr` if it is in one of the folders that Debian has made links to `/usr`.
fn merged(path: &str) -> Option<PathBuf> {
    let path = path.strip_prefix('/')?;
    if path.split('/').any(|part| part == "..") {
        return None;
    }
    let moved = ["bin/", "sbin/", "lib/"].iter().any(|folder| path.starts_with(folder));
    Some(if moved { Path::new("usr").join(path) } else { path.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_only_declare_links() {
        let (layer, tmp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = layer.path();
        for file in ["usr/bin/convert-im7", "usr/bin/gawk", "usr/bin/mawk", "usr/lib/blas/libblas.so.3"] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "x").unwrap();
        }
        let witness = tmp.path().join("witness");
        let script = format!(
            "#!/bin/sh\nset -e\nadduser x\necho x > {0}\n/bin/touch {0}\n. /etc/profile\nif [ \"$1\" = configure ]; then\n  \
             for p in convert nosuch; do\n    if update-alternatives --list $p > /dev/null; then exit 1; fi\n    \
             update-alternatives --quiet --install /usr/bin/$p $p \\\n      /usr/bin/$p-im7 10\n  done\nfi\n\
             update-alternatives --install /bin/awk awk /usr/bin/gawk 10 --slave /usr/bin/nawk nawk /usr/bin/gawk\n\
             update-alternatives --install /usr/lib/libblas.so.3 b /usr/lib/blas/libblas.so.3 10\n",
            witness.display()
        );
        let mut alternatives = Alternatives::default();
        alternatives.add(&script, tmp.path()).unwrap();
        alternatives.add("update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5", tmp.path()).unwrap();
        alternatives.add("rm -rf /", tmp.path()).unwrap();
        alternatives.link(root).unwrap();
        for (link, target) in [
            ("usr/bin/convert", "../../usr/bin/convert-im7"),
            ("usr/bin/awk", "../../usr/bin/gawk"),
            ("usr/bin/nawk", "../../usr/bin/gawk"),
            ("usr/lib/libblas.so.3", "../../usr/lib/blas/libblas.so.3"),
        ] {
            assert_eq!(fs::read_link(root.join(link)).unwrap(), Path::new(target), "{link}");
            assert!(root.join(link).exists(), "{link}");
        }
        assert!(!root.join("usr/bin/nosuch").exists());
        assert!(!witness.exists(), "a script of a package did something");
    }
}
