//! Long lists in messages.

use std::fmt::Display;

/// The first names of a list of `count`, and the number of the others.
pub fn first_names(first: &[impl Display], count: usize) -> String {
    let names = first.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match count.saturating_sub(first.len()) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_are_counted() {
        assert_eq!(first_names(&["a"], 1), "a");
        assert_eq!(first_names(&["a", "b"], 2), "a, b");
        assert_eq!(first_names(&["a", "b"], 5), "a, b and 3 more");
    }
}
