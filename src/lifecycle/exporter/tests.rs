//! The digests are those that the reference lifecycle computes for the same files (its package `layers`, version 0.20.11).

use super::*;
use crate::lifecycle::layer_tar::tests::{Made, file, make};

const APP: &str = "64bbb50461f116c42f99f1ef61b53a4f0ce14ef42fa80e97869d88fb33c1e441";
/// A tar without entries.
const NOTHING: &str = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

#[test]
fn the_layers_of_an_app_are_those_of_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = Dirs { workspace: dir.path().join("app"), ..Dirs::default() };
    make(
        &dirs.workspace,
        &[
            ("static/a.js", file("1")),
            ("static/b.css", file("2")),
            ("static/deep/c.js", file("3")),
            ("pub/d/e", file("4")),
            ("only/one", file("5")),
            ("only-not/two", file("6")),
            ("f", Made::File(0o755, "7".into())),
            ("link", Made::Link("static".into())),
            ("x/y/z.js", file("8")),
            ("void", Made::Folder(0o755)),
        ],
    );
    let output = Output::new(Vec::new());
    let layers = |slices: &[&[&str]]| -> Vec<String> {
        let slice = |paths: &&[&str]| Slice { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
        let slices: Vec<_> = slices.iter().map(slice).collect();
        let spool = dir.path().join("spool");
        let mut exporter = Exporter { dirs: &dirs, spool, known: HashSet::new(), output: &output, layers: Vec::new() };
        exporter.app(Path::new("/workspace"), &slices).unwrap();
        exporter.layers.iter().map(|layer| layer.digest.hex().to_owned()).collect()
    };
    assert_eq!(layers(&[]), [APP]);
    assert_eq!(layers(&[&["*"]]), [APP, NOTHING]);
    let divided = layers(&[
        &["static/*.js", "/workspace/pub/"],
        &["none", "../x", "/elsewhere"],
        &["only/one", "x/*/*.js"],
        &["*/deep", "static"],
        &["only*", "./f"],
    ]);
    assert_eq!(
        divided,
        [
            "5033076f529bfb2e82b3b1a7ff81cb3ab00906ff3e6a2781924f971d80779d6c",
            NOTHING,
            "ccbb2b527c8a312b6e7225100a3fecf510da4bc361914d74bd1428e1a0fa2041",
            "af5bbb5885ab01a43e10862e34b38b9688df749758224c7153916d2d0ef42e29",
            "78d859a01d90e11d86d5614da22270b267aaef2c0b1c50a14f01243fc541ee7d",
            "9145050439c3240858dea91b68106678e9871582ca6b5f564e3cf42b23d6a300",
        ]
    );
}
