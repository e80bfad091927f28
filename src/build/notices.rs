//! What of an app's settings has no effect on its build, in lines for the developer.

use super::recipe::{PROCFILE, Recipe};
use crate::model::Binding;

/// Variables with a prefix of [`OF_OTHERS`] that the built-in buildpacks read.
const READ: &[&str] = &["BP_NODE_PROJECT_PATH"];

/// How the variables of Paketo's buildpacks begin: at build time, of the environment of images, at launch.
const OF_OTHERS: &[&str] = &["BP_", "BPE_", "BPL_"];

/// Types of bindings that Paketo's buildpacks read, and the built-in ones do not. All other types may be for the app.
const TYPES_OF_OTHERS: &[&str] =
    &["ca-certificates", "git-credentials", "gradle", "gradle-wrapper", "netrc", "npmrc", "pypirc", "yarnrc"];

impl Recipe {
    /// Lines about settings that the buildpacks do not read, of an app that has a `Procfile` or none.
    pub fn notices(&self, has_procfile: bool) -> Vec<String> {
        let mut notices = Vec::new();
        if has_procfile && self.adds_procfile {
            notices.push(format!(
                "none of the buildpacks reads the Procfile: {PROCFILE} comes after them, and its processes replace theirs of the \
                 same types"
            ));
        }
        let is_unread = |name: &&str| OF_OTHERS.iter().any(|prefix| name.starts_with(prefix)) && !READ.contains(name);
        let unread: Vec<_> = self.env.keys().map(String::as_str).filter(is_unread).collect();
        let is_unread = |binding: &&Binding| TYPES_OF_OTHERS.contains(&binding.binding_type.as_str());
        if self.is_builtin
            && let Some(binding) = self.bindings.values().find(is_unread)
        {
            let of_type = &binding.binding_type;
            notices.push(format!(
                "the buildpacks of paas do not read bindings of the type {of_type}: only the app has its files"
            ));
        }
        if self.is_builtin && !unread.is_empty() {
            notices.push(format!(
                "{} {} no effect: the buildpacks of paas read versions and settings from the app's files, which the README lists",
                unread.join(", "),
                if unread.len() == 1 { "has" } else { "have" },
            ));
        }
        notices
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn scripts(folder: &Path, texts: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                scripts(&path, texts);
            } else if let Ok(text) = fs::read_to_string(&path) {
                texts.push(text);
            }
        }
    }

    #[test]
    fn variables_that_the_buildpacks_read_are_known() {
        let mut texts = Vec::new();
        scripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("buildpacks"), &mut texts);
        let word = |c: char| !(c.is_ascii_uppercase() || c == '_');
        let words = texts.iter().flat_map(|text| text.split(word));
        let read: BTreeSet<_> = words.filter(|word| OF_OTHERS.iter().any(|prefix| word.starts_with(prefix))).collect();
        assert_eq!(read.into_iter().collect::<Vec<_>>(), READ);
    }
}
