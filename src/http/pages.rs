//! Pages of lists, by cursor.

use axum::http::StatusCode;
use base64::Engine as _;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::operations::{FailureKind, Pages};

/// Number of rows of a page, unless the client asks for less.
const DEFAULT_LIMIT: u32 = 1000;
/// The same for lists of which each row costs a query.
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
    after: Option<Vec<Value>>,
}

fn invalid() -> Problem {
    let text = "the cursor is invalid; take it from the Link header of the page before";
    Problem::new(StatusCode::BAD_REQUEST, FailureKind::Invalid, text)
}

fn decode(cursor: &str) -> Result<Vec<Value>, Problem> {
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
    serde_json::from_slice(&bytes).map_err(|_| invalid())
}

fn encode(keys: &[Value]) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Value::from(keys).to_string())
}

/// Prepares the input for a page.
pub(super) fn prepare(pages: Pages, page: Page, fields: &mut Value) -> Result<Cut, Problem> {
    let after = page.cursor.as_deref().map(decode).transpose()?;
    let limit = match pages {
        Pages::One => u32::MAX,
        Pages::By(_) => page.limit.unwrap_or(DEFAULT_LIMIT),
        Pages::Before(_) => {
            let limit = page.limit.unwrap_or(DEFAULT_NEWEST);
            let fields = fields.as_object_mut().ok_or_else(invalid)?;
            fields.insert("num".to_owned(), limit.into());
            if let Some(after) = &after {
                let [number @ Value::Number(_)] = &after[..] else { return Err(invalid()) };
                fields.insert("before".to_owned(), number.clone());
            }
            limit
        }
    };
    Ok(Cut { pages, limit: usize::try_from(limit).unwrap_or(usize::MAX), after })
}

impl Cut {
    /// The rows of the page, and the cursor of the next.
    pub(super) fn cut(self, value: Value) -> (Value, Option<String>) {
        let (names, Value::Array(mut rows)) = (
            match self.pages {
                Pages::One => return (value, None),
                Pages::By(names) => names,
                Pages::Before(_) => &[],
            },
            value,
        ) else {
            return (json!([]), None);
        };
        if let Pages::Before(name) = self.pages {
            let is_full = rows.len() >= self.limit;
            let last = rows.last().map(|row| row[name].clone()).filter(|_| is_full);
            return (Value::Array(rows), last.map(|last| encode(&[last])));
        }
        let keys = |row: &Value| -> Vec<Value> { names.iter().map(|name| row[*name].clone()).collect() };
        if let Some(after) = self.after {
            let after = comparable(&after);
            rows.retain(|row| comparable(&keys(row)) > after);
        }
        let next = (rows.len() > self.limit).then(|| encode(&keys(&rows[self.limit - 1])));
        rows.truncate(self.limit);
        (Value::Array(rows), next)
    }
}

/// The text of keys, which are texts.
fn comparable(keys: &[Value]) -> Vec<String> {
    keys.iter().map(|key| key.as_str().unwrap_or_default().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(limit: u32, cursor: Option<String>) -> Page {
        Page { limit: Some(limit), cursor }
    }

    #[test]
    fn the_pages_of_a_list_have_all_its_rows_once_also_when_it_changes() {
        let rows = |names: &[&str]| Value::Array(names.iter().map(|name| json!({ "name": name, "x": 1 })).collect());
        let pages = Pages::By(&["name"]);
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
        for cursor in ["", "!", "bm9uc2Vuc2U", &encode(&[json!("x")])] {
            assert!(
                prepare(Pages::Before("release"), page(2, Some(cursor.to_owned())), &mut json!({})).is_err(),
                "{cursor}"
            );
        }
    }
}
