//! What is told of a container that ran out of memory.

use crate::engine::{Container, label};

/// What is told of a container that ran out of memory.
pub struct OutOfMemory {
    /// Its limit in parentheses, after a space; nothing if it has none.
    pub limit: String,
    /// The command with which it has twice as much.
    pub remedy: String,
}

impl OutOfMemory {
    /// Of this container; `part` are the words by which `resource:limit` knows what it runs, such as `--tasks`.
    pub fn of(container: &Container, part: Option<&str>) -> Self {
        let app = container.label(label::APP).unwrap_or("APP");
        let part = part.map(|part| format!(" {part}")).unwrap_or_default();
        let more = container.memory_mib.map_or_else(|| "1g".to_owned(), |limit| format!("{}m", 2 * limit));
        Self {
            limit: container.memory_mib.map_or_else(String::new, |limit| format!(" (limit {limit} MiB)")),
            remedy: format!("resource:limit {app}{part} --memory {more}"),
        }
    }
}
