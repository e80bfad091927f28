//! Pages of lists, by cursor: what the last row of the page before is sorted by.

use axum::http::StatusCode;
use serde_json::Value;

use super::problem::Problem;
use crate::operations::{FailureKind, Pages};

/// Number of rows of a page, unless the client asks for less.
const DEFAULT_LIMIT: u32 = 1000;
/// The same for lists that begin with the newest row.
const DEFAULT_NEWEST: u32 = 100;

/// Which page of a list a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) limit: Option<u32>,
    pub(super) cursor: Option<String>,
}

/// The page that is to be cut out of a list.
pub(super) struct Cut {
    pages: Pages,
    limit: usize,
    /// Text after which its rows come.
    after: Option<String>,
}

/// Prepares the input for a page.
pub(super) fn prepare(pages: Pages, page: Page, fields: &mut Value) -> Result<Cut, Problem> {
    let limit = match pages {
        Pages::One => u32::MAX,
        Pages::By(_) => page.limit.unwrap_or(DEFAULT_LIMIT),
        Pages::Before(_) => {
            let limit = page.limit.unwrap_or(DEFAULT_NEWEST);
            fields["num"] = limit.into();
            if let Some(cursor) = &page.cursor {
                let number: u32 = cursor.parse().map_err(|_| {
                    let text = "the cursor is a number; take it from the Link header of the page before";
                    Problem::new(StatusCode::BAD_REQUEST, FailureKind::Invalid, text)
                })?;
                fields["before"] = number.into();
            }
            limit
        }
    };
    Ok(Cut { pages, limit: usize::try_from(limit).unwrap_or(usize::MAX), after: page.cursor })
}

impl Cut {
    /// The rows of the page, and the cursor of the next.
    pub(super) fn cut(self, value: Value) -> (Value, Option<String>) {
        let Value::Array(mut rows) = value else { return (value, None) };
        let next = match self.pages {
            Pages::One => None,
            Pages::Before(name) => rows.get(self.limit.saturating_sub(1)).map(|last| last[name].to_string()),
            Pages::By(name) => {
                let key = |row: &Value| row[name].as_str().unwrap_or_default().to_owned();
                if let Some(after) = self.after {
                    rows.retain(|row| key(row) > after);
                }
                let next = (rows.len() > self.limit).then(|| key(&rows[self.limit - 1]));
                rows.truncate(self.limit);
                next
            }
        };
        (Value::Array(rows), next)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(limit: u32, cursor: Option<String>) -> Page {
        Page { limit: Some(limit), cursor }
    }

    #[test]
    fn the_pages_of_a_list_have_all_its_rows_once_also_when_it_changes() {
        let rows = |names: &[&str]| Value::Array(names.iter().map(|name| json!({ "name": name, "x": 1 })).collect());
        let pages = Pages::By("name");
        let cut = prepare(pages, page(2, None), &mut json!({})).unwrap();
        let (first, next) = cut.cut(rows(&["a", "b", "c", "d"]));
        assert_eq!(first, rows(&["a", "b"]));
        let cut = prepare(pages, page(2, next), &mut json!({})).unwrap();
        let (second, next) = cut.cut(rows(&["a", "aa", "c", "d", "e"]));
        assert_eq!(second, rows(&["c", "d"]));
        let cut = prepare(pages, page(2, next), &mut json!({})).unwrap();
        assert_eq!(cut.cut(rows(&["a", "c", "d", "e"])), (rows(&["e"]), None));
    }

    #[test]
    fn a_list_that_begins_with_the_newest_is_read_by_its_numbers() {
        let pages = Pages::Before("release");
        let mut fields = json!({ "app": "a" });
        let cut = prepare(pages, page(2, None), &mut fields).unwrap();
        assert_eq!(fields, json!({ "app": "a", "num": 2 }));
        let (_, next) = cut.cut(json!([{ "release": 9 }, { "release": 7 }]));
        let cut = prepare(pages, page(2, next), &mut fields).unwrap();
        assert_eq!(fields["before"], 7);
        assert_eq!(cut.cut(json!([{ "release": 1 }])).1, None);
    }

    #[test]
    fn invalid_cursors_are_refused() {
        for cursor in ["", "!", "-1", "x", "99999999999"] {
            assert!(
                prepare(Pages::Before("release"), page(2, Some(cursor.to_owned())), &mut json!({})).is_err(),
                "{cursor}"
            );
        }
    }
}
