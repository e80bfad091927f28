//! Paths of files in messages.

use crate::model::{Line, first_names};

/// Number of names that a message contains.
const MAX_NAMES: usize = 5;

/// The first few paths of a list, and the number of all.
#[derive(Debug, Default)]
pub(super) struct Names {
    first: Vec<String>,
    count: usize,
}

impl Names {
    pub(super) fn add(&mut self, path: &[u8]) {
        if self.count < MAX_NAMES {
            self.first.push(display_path(path));
        }
        self.count += 1;
    }

    /// The first few names; `None` if there are none.
    pub(super) fn summary(&self) -> Option<String> {
        (self.count > 0).then(|| first_names(&self.first, self.count))
    }
}

/// A path for messages.
pub(super) fn display_path(path: &[u8]) -> String {
    Line::sanitize(&String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_contains_the_first_names() {
        let mut names = Names::default();
        assert_eq!(names.summary(), None);
        for n in 0..5 {
            names.add(format!("lib{n}").as_bytes());
        }
        assert_eq!(names.summary().unwrap(), "lib0, lib1, lib2, lib3, lib4");
        names.add(b"lib5");
        names.add(b"lib6");
        assert_eq!(names.summary().unwrap(), "lib0, lib1, lib2, lib3, lib4 and 2 more");
    }
}
