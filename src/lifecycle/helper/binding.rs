//! Service bindings, by their type.

use std::path::Path;

use super::answer::{Answer, no, wrong};
use crate::lifecycle::files;

/// The folder of the first binding of a type, in which no case matters (servicebinding.io, "Well-known Secret Entries").
pub(super) fn binding(platform: &Path, binding_type: &str) -> Answer {
    let bindings = platform.join("bindings");
    for name in files::names(&bindings).map_err(|e| wrong(format!("cannot read {}: {e}", bindings.display())))? {
        let folder = bindings.join(name);
        let found = files::read_text(&folder.join("type")).map_err(wrong)?;
        if found.is_some_and(|found| found.trim().eq_ignore_ascii_case(binding_type)) {
            return Ok(folder.display().to_string());
        }
    }
    Err(no())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_binding_is_found_by_its_type() {
        let platform = tempfile::tempdir().unwrap();
        assert_eq!(binding(platform.path(), "maven").unwrap_err().status, 1, "there are none");
        for (name, binding_type) in [("a", "npmrc"), ("b", "Maven\n"), ("c", "maven")] {
            let folder = platform.path().join("bindings").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("type"), binding_type).unwrap();
        }
        let found = platform.path().join("bindings/b").display().to_string();
        assert_eq!(binding(platform.path(), "maven").unwrap(), found);
        assert_eq!(binding(platform.path(), "gradle").unwrap_err().status, 1);
    }
}
