//! Text in columns.

use crate::model::Line;

/// A table with a header.
pub(super) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let header = header.map(str::to_owned);
    let lines: Vec<_> = std::iter::once(header).chain(rows).collect();
    aligned(&lines)
}

/// Lines of a name and a value; `None` is shown as a hyphen.
pub(super) fn facts<const N: usize>(facts: [(&str, Option<String>); N]) -> String {
    aligned(&facts.map(|(name, value)| [format!("{name}:"), or_hyphen(value)]))
}

/// A value that may be missing.
pub(super) fn or_hyphen(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The number of a release as people write it.
pub(super) fn release(number: Option<u64>) -> Option<String> {
    number.map(|number| format!("v{number}"))
}

/// Several values as one; `None` if there are none.
pub(super) fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> Option<String> {
    let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    // What is not printed takes no room, and a row is one line.
    let lines: Vec<_> = lines.iter().map(|cells| cells.each_ref().map(|cell| Line::printable(cell))).collect();
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for cells in lines {
        let padded: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a".to_owned(), "long value".to_owned()], ["longer".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "X"], rows), "NAME    X\na       long value\nlonger\n");
        assert_eq!(facts([("name", Some("a".to_owned())), ("x", None)]), "name:  a\nx:     -\n");
        let rows = [["\u{1b}[31ma".to_owned(), "b\nc".to_owned()]];
        assert_eq!(table(["N", "X"], rows), "N  X\na  b c\n");
    }
}
