//! Modules use only modules of lower rows, and source files form no import circles (docs/ARCHITECTURE.md, "The layers").

mod imports;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use imports::Modules;

/// The rows, from the top to the bottom.
const ROWS: [&[&str]; 13] = [
    &["server", "local", "remote"],
    &["http", "ssh", "socket"],
    &["commands"],
    &["operations"],
    &["deploy"],
    &["receive"],
    &["build", "release", "instances", "tasks"],
    &["workload"],
    &["git", "engine", "images", "store", "router"],
    &["lifecycle"],
    &["cgroup", "config", "data_dir", "keys", "log_limit", "oom_score", "progress", "pause", "periodic", "turns"],
    &["model"],
    &["properties"],
];

fn row(module: &str) -> usize {
    let row = ROWS.iter().position(|row| row.contains(&module));
    row.unwrap_or_else(|| panic!("the module {module} has no row: add it here and in docs/ARCHITECTURE.md"))
}

/// The text of every source file, by its path below `src/`.
fn sources() -> BTreeMap<String, String> {
    fn read(src: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(src, &path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(src).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    read(&src, &src, &mut found);
    found
}

/// The modules that a text names as `crate::module` or in a `use crate::{…}`.
fn named(text: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = BTreeSet::new();
    for (_, rest) in text.match_indices("crate::").map(|(at, word)| (at, &text[at + word.len()..])) {
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut starts = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => starts = true,
                c if starts && c.is_alphabetic() => {
                    found.insert(word(&group[at..]));
                    starts = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn modules_use_only_modules_of_lower_rows() {
    let (mut violations, mut uses) = (Vec::new(), 0);
    for (file, text) in sources() {
        let module = file.split('/').next().unwrap().trim_end_matches(".rs");
        if ["lib", "bin"].contains(&module) {
            continue;
        }
        for used in named(&text) {
            uses += 1;
            if used != module && row(&used) <= row(module) {
                violations.push(format!("{file} uses {used}"));
            }
        }
    }
    assert!(violations.is_empty(), "a module may use only modules of lower rows: {violations:#?}");
    assert!(uses > 100, "only {uses} uses were found");
}

#[test]
fn every_form_of_a_crate_path_is_read() {
    let text = "use crate::{\n    model::{Digest, Line},\n    store,\n};\nlet x = crate::engine::label::APP;";
    assert_eq!(named(text).into_iter().collect::<Vec<_>>(), ["engine", "model", "store"]);
}

#[test]
fn source_files_form_no_import_circles() {
    let sources = sources();
    let modules = Modules::read(sources.iter().map(|(file, text)| (file.as_str(), text.as_str())));
    let circles = modules.circles();
    assert!(circles.is_empty(), "move what both files of a circle use into a file below them: {circles:#?}");
}

fn circles(files: &[(&str, &str)]) -> Vec<String> {
    Modules::read(files.iter().copied()).circles()
}

#[test]
fn a_circle_is_reported_with_its_files() {
    // Of siblings in three steps, by a grouped `use`, a path in an expression and a path in a type.
    let found = circles(&[
        ("a.rs", "mod b; mod c; mod d;"),
        ("a/b.rs", "use std::io;\nuse super::{\n    c::{Pool, self},\n};"),
        ("a/c.rs", "pub(super) struct Pool;\nfn f() { crate::a::d::start() }"),
        ("a/d.rs", "pub(super) fn start() -> Option<super::b::Body> { None }"),
    ]);
    let steps = [
        "a/b.rs uses super::c::Pool of a/c.rs",
        "a/c.rs uses crate::a::d::start of a/d.rs",
        "a/d.rs uses super::b::Body of a/b.rs",
    ];
    assert_eq!(found, [steps.join(", ")]);

    // Of a parent that uses its child by a bare path, and the child an item that the parent defines.
    let found = circles(&[
        ("a.rs", "mod b;\npub struct Shared(b::Pool);"),
        ("a/b.rs", "pub(super) struct Pool;\nimpl Pool { fn of(_: &super::Shared) {} }"),
    ]);
    assert_eq!(found, ["a.rs uses b::Pool of a/b.rs, a/b.rs uses super::Shared of a.rs"]);

    // The same, where the parent's use of the child is a re-export that the parent itself uses.
    let found = circles(&[
        ("a.rs", "mod b;\npub use b::Pool;\npub struct Shared(Pool);"),
        ("a/b.rs", "use super::Shared;\npub struct Pool;"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");

    // Of a module of a module.
    let found = circles(&[
        ("a.rs", "mod b;"),
        ("a/b.rs", "mod c;\nconst A: u8 = 1;\nuse c::B;"),
        ("a/b/c.rs", "pub(super) const B: u8 = crate::a::b::A;"),
    ]);
    assert_eq!(found, ["a/b.rs uses c::B of a/b/c.rs, a/b/c.rs uses crate::a::b::A of a/b.rs"]);
}

#[test]
fn what_is_no_circle_is_not_reported() {
    // Two children use what the parent re-exports of a third, and the parent uses them all.
    let found = circles(&[
        (
            "a.rs",
            "mod b;\nmod c;\nmod error;\npub use error::{Error as Failure, Error};\nfn f() { b::run(); c::run(); }",
        ),
        ("a/error.rs", "pub enum Error {}"),
        ("a/b.rs", "use super::{Error, c};\nfn run() -> Error { c::run() }"),
        ("a/c.rs", "fn run() -> super::Failure { loop {} }"),
    ]);
    assert_eq!(found, [""; 0]);

    // Comments, literals and unit tests name the parent; a re-export alone is no use.
    let found = circles(&[
        (
            "a.rs",
            "mod b;\npub use b::B;\npub struct A;\n#[cfg(test)]\nuse b::{C};\n#[cfg(test)]\nmod tests { use super::b::B; }",
        ),
        (
            "a/b.rs",
            "//! As super::A.\n/* super::A /* */ super::A */\nfn f<'a>(x: &'a str) -> (char, &str, &str) {\n\
             ('\"', r#\"super::A\"#, \"\\\"super::A\") }\npub struct B(super::A);\nconst X: char = '\\'';",
        ),
        ("a/tests.rs", "use super::{A, b::B};"),
    ]);
    assert_eq!(found, [""; 0]);
}
