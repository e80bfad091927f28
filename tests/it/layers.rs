//! The modules keep their order: each may use only those of the rows below it (docs/ARCHITECTURE.md, "The layers").

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// From the top to the bottom.
const ROWS: [&[&str]; 10] = [
    &["server", "local"],
    &["ssh", "api"],
    &["commands"],
    &["deploy"],
    &["receive"],
    &["build", "release", "instances"],
    &["git", "engine", "images", "store", "router"],
    &["lifecycle"],
    &["config", "keys", "progress", "pause"],
    &["model"],
];

fn row(module: &str) -> usize {
    let row = ROWS.iter().position(|row| row.contains(&module));
    row.unwrap_or_else(|| panic!("the module {module} has no row: give it one here and in docs/ARCHITECTURE.md"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
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
fn no_arrow_runs_upwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut wrong, mut arrows) = (Vec::new(), Vec::new(), 0);
    sources(&src, &mut files);
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["lib", "bin"].contains(&module) {
            continue;
        }
        for used in named(&fs::read_to_string(&file).unwrap()) {
            arrows += 1;
            if used != module && row(&used) <= row(module) {
                wrong.push(format!("{} uses {used}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(arrows > 100, "the paths are found: {arrows}");
}

#[test]
fn paths_are_found_in_every_form() {
    let text = "use crate::{\n    model::{Digest, Line},\n    store,\n};\nlet x = crate::engine::label::APP;";
    assert_eq!(named(text).into_iter().collect::<Vec<_>>(), ["engine", "model", "store"]);
}
