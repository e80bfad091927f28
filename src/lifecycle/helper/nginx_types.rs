//! The types of static files, in nginx's form.

const TABLE: &str = include_str!("nginx.types");

/// The table for nginx's `include`.
pub(super) fn nginx_types() -> String {
    TABLE.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use super::*;

    /// Type by ending.
    fn types() -> BTreeMap<&'static str, &'static str> {
        let mut types = BTreeMap::new();
        for line in TABLE.lines().filter_map(|line| line.trim().strip_suffix(';')) {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            for ending in words {
                assert_eq!(types.insert(ending, name), None, "{ending} has two types");
            }
        }
        types
    }

    #[test]
    fn endings_have_the_types_that_browsers_expect() {
        let types = types();
        for (ending, expected) in [
            ("html", "text/html"),
            ("js", "text/javascript"),
            ("mjs", "text/javascript"),
            ("webmanifest", "application/manifest+json"),
            ("wasm", "application/wasm"),
            ("avif", "image/avif"),
            ("svg", "image/svg+xml"),
            ("woff2", "font/woff2"),
            ("vtt", "text/vtt"),
        ] {
            assert_eq!(types.get(ending), Some(&expected), "{ending}");
        }
    }

    #[test]
    fn no_server_has_another_table() {
        for file in ["static/nginx.conf", "php/lib/nginx.conf"] {
            let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("buildpacks").join(file)).unwrap();
            assert!(text.contains("@TYPES@") || text.contains("/nginx.types;"), "{file} has no table");
            assert!(!text.contains("mime.types") && !text.contains("types {"), "{file} has a table of its own");
        }
    }
}
