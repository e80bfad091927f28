//! Selects the files that a project builds.

use std::path::Path;

use crate::model::Files;

/// A pattern that selects files is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("project.toml, key io.buildpacks.{key}: {message}")]
pub struct InvalidPattern {
    /// `include` or `exclude`.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
}

/// Returns a predicate that selects the files that a project builds.
pub fn file_filter(files: &Files) -> Result<impl Fn(&Path) -> bool + use<>, InvalidPattern> {
    let (key, patterns) = key_and_patterns(files);
    let invalid = |e: ignore::Error| InvalidPattern { key, message: e.to_string() };
    let mut builder = ignore::gitignore::GitignoreBuilder::new("");
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(invalid)?;
    }
    let matcher = builder.build().map_err(invalid)?;
    let matching_is_selected = matches!(files, Files::Include(_));
    Ok(move |path: &Path| matcher.matched_path_or_any_parents(path, false).is_ignore() == matching_is_selected)
}

/// The key of `project.toml`, and its patterns.
pub(super) fn key_and_patterns(files: &Files) -> (&'static str, &[String]) {
    match files {
        Files::All => ("exclude", &[]),
        Files::Include(patterns) => ("include", patterns),
        Files::Exclude(patterns) => ("exclude", patterns),
    }
}
