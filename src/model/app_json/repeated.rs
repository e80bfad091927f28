//! Keys that an `app.json` gives more than once. The last of them counts, as for Dokku.

use std::collections::HashMap;

use jsonc_parser::ast::{ObjectProp, Value};

use crate::model::ignored_keys::shown_key;

/// The paths of keys that are given more than once, `sections` only of the document itself: others have no effect anyway.
pub(super) fn keys(document: &Value<'_>, sections: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    if let Value::Object(document) = document {
        let is_read = |property: &&ObjectProp<'_>| sections.contains(&property.name.as_str());
        object("", document.properties.iter().filter(is_read), &mut found);
    }
    found
}

fn object<'a, 't: 'a>(path: &str, properties: impl Iterator<Item = &'a ObjectProp<'t>>, found: &mut Vec<String>) {
    let mut order = Vec::new();
    let mut last: HashMap<&str, (usize, &Value<'_>)> = HashMap::new();
    for property in properties {
        let name = property.name.as_str();
        let (count, value) = last.entry(name).or_insert_with(|| {
            order.push(name);
            (0, &property.value)
        });
        *count += 1;
        *value = &property.value;
    }
    for name in order {
        let (count, value) = last[name];
        let dot = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{dot}{}", shown_key(name));
        inside(&path, value, found);
        if count > 1 {
            found.push(path);
        }
    }
}

fn inside(path: &str, value: &Value<'_>, found: &mut Vec<String>) {
    match value {
        Value::Object(inner) => object(path, inner.properties.iter(), found),
        Value::Array(items) => {
            for (i, item) in items.elements.iter().enumerate() {
                inside(&format!("{path}[{i}]"), item, found);
            }
        }
        Value::StringLit(_) | Value::NumberLit(_) | Value::BooleanLit(_) | Value::NullKeyword(_) => {}
    }
}
