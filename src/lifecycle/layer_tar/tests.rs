//! The digests are those that the reference lifecycle computes for the same files (its package `layers`, version 0.20.11).

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use super::*;

/// Something in a tree that a test makes.
pub(in crate::lifecycle) enum Made {
    File(u32, String),
    Folder(u32),
    Link(String),
    /// Another name of a file.
    Hard(&'static str),
    Pipe,
}

pub(in crate::lifecycle) fn file(text: &str) -> Made {
    Made::File(0o644, text.to_owned())
}

/// Makes a tree, with the same permissions whoever makes it.
pub(in crate::lifecycle) fn make(root: &Path, entries: &[(&str, Made)]) {
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for (name, made) in entries {
        let path = root.join(name);
        for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(root) && !folder.exists()) {
            fs::create_dir_all(folder).unwrap();
        }
        for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(root)) {
            allow(folder, 0o755);
        }
        match made {
            Made::File(mode, text) => {
                fs::write(&path, text).unwrap();
                allow(&path, *mode);
            }
            Made::Folder(mode) => {
                fs::create_dir(&path).unwrap();
                allow(&path, *mode);
            }
            Made::Link(target) => symlink(target, &path).unwrap(),
            Made::Hard(other) => fs::hard_link(root.join(other), &path).unwrap(),
            Made::Pipe => {
                assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
                allow(&path, 0o644);
            }
        }
    }
}

fn digest(dir: &Path, write: impl FnOnce(&mut LayerTar)) -> String {
    let mut tar = LayerTar::new(&dir.join("spool"), OWNER).unwrap();
    write(&mut tar);
    tar.finish("test").unwrap().0.digest.hex().to_owned()
}

#[test]
fn a_layer_is_that_of_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("made elsewhere");
    let deep = format!("{}/{}/{}", "d".repeat(60), "e".repeat(60), "f".repeat(90));
    let name = "n".repeat(200);
    let deeper = format!("{}q", format!("{}/", "p".repeat(50)).repeat(6));
    make(
        &root,
        &[
            ("bin/tool", Made::File(0o755, "#!/bin/sh\n".into())),
            ("bin/setuid", Made::File(0o4755, "x".into())),
            ("empty", file("")),
            ("block", Made::File(0o600, "b".repeat(512))),
            ("more", Made::File(0o640, "m".repeat(513))),
            ("write-only", Made::File(0o200, "w".into())),
            ("lib/libx.so", Made::Link("libx.so.1".into())),
            ("lib/libx.so.1", file("so")),
            ("absolute", Made::Link("/etc/hosts".into())),
            ("dangling", Made::Link(format!("missing/{}", "t".repeat(120)))),
            ("hard", Made::Hard("bin/tool")),
            ("pipe", Made::Pipe),
            (&deep, file("1")),
            (&name, file("2")),
            (&deeper, file("3")),
            ("Grüße/ß", file("4")),
            ("日本語", Made::Folder(0o755)),
            ("日本語/link", Made::Link("ü".into())),
            ("name with space", file("5")),
            ("a/b", file("6")),
            ("a-b", file("7")),
            ("a.txt", file("8")),
            (".hidden", file("9")),
            ("shared", Made::Folder(0o2775)),
            ("tmp", Made::Folder(0o1777)),
        ],
    );
    fs::set_permissions(&root, fs::Permissions::from_mode(0o750)).unwrap();
    let digest = digest(dir.path(), |tar| tar.tree(&root, Path::new("/layers/acme_bp/layer")).unwrap());
    assert_eq!(digest, "992ae4a7e7093cb1ecedf15a71ad4a2b02b156eae6f9de8478e26a8ac7e17481");
    let mode = fs::metadata(root.join("write-only")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o200, "reading it does not change it");
}

#[test]
fn a_layer_of_files_is_that_of_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    let places = [
        ("acme_bp/layer/sbom.cdx.json", "{}"),
        ("acme_bp/sbom.spdx.json", "{\"a\":1}"),
        ("acme/z-z/sbom.syft.json", "[]"),
        ("acme/z/sbom.syft.json", "[]"),
    ];
    let files: Vec<_> = (0..)
        .zip(places)
        .map(|(number, (place, text))| {
            let source = dir.path().join(format!("{number}"));
            fs::write(&source, text).unwrap();
            (source, Path::new("/layers/sbom/launch").join(place))
        })
        .collect();
    let digest = digest(dir.path(), |tar| tar.files(&files).unwrap());
    assert_eq!(digest, "023d4213e2aebe7c81444ed7b12437b3589dfde153351c8bf8de246d5854500b");
}
