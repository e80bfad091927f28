//! What a side does not know in the messages of a newer one: counted, logged once a kind, and ignored.

use std::{collections::HashSet, fmt::Display};

use super::{Action, Protocol, Table};

/// Maximum number of kinds that are remembered; further ones are counted, but not logged.
const MAX_KINDS: usize = 100;

/// The messages and parts of messages that were ignored.
#[derive(Debug, Default)]
pub(in crate::router) struct Unknown {
    count: u64,
    kinds: HashSet<String>,
}

impl Unknown {
    /// How many were ignored.
    pub(in crate::router) fn count(&self) -> u64 {
        self.count
    }

    /// Ignores a field, by the path to it: `listeners.7.colour` is of the kind `listeners.colour`.
    pub(in crate::router) fn field(&mut self, path: &str) {
        let is_name = |part: &&str| *part != "?" && !part.bytes().all(|byte| byte.is_ascii_digit());
        let kind: Vec<_> = path.split('.').filter(is_name).collect();
        let kind = kind.join(".");
        if self.is_first(&kind) {
            tracing::warn!(field = kind, "ignoring a part of messages that only another version of paas knows");
        }
    }

    /// Ignores the protocols and actions of a table that were read as unknown.
    pub(in crate::router) fn parts_of(&mut self, table: &Table) {
        for listener in &table.listeners {
            match listener.protocol {
                Protocol::Http | Protocol::Tcp => {}
                Protocol::Unknown => self.field("listeners.protocol"),
            }
            for route in &listener.routes {
                match route.action {
                    Action::Forward(_) => {}
                    Action::Unknown => self.field("listeners.routes.action"),
                }
            }
        }
    }

    /// Ignores a whole message.
    pub(in crate::router) fn message(&mut self, kind: &str, why: &dyn Display) {
        if self.is_first(kind) {
            tracing::warn!(kind, %why, "ignoring messages that only another version of paas knows");
        }
    }

    fn is_first(&mut self, kind: &str) -> bool {
        self.count += 1;
        self.kinds.len() < MAX_KINDS && self.kinds.insert(kind.chars().take(200).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_and_each_kind_is_logged_once() {
        let mut unknown = Unknown::default();
        for path in ["listeners.0.colour", "listeners.17.colour", "?.listeners.3.colour"] {
            unknown.field(path);
        }
        assert_eq!((unknown.count(), unknown.kinds.len()), (3, 1));
        assert!(unknown.kinds.contains("listeners.colour") && !unknown.is_first("listeners.colour"));
        for n in 0..1000 {
            unknown.message(&format!("kind{n}"), &"unknown");
        }
        assert_eq!((unknown.count(), unknown.kinds.len()), (1004, MAX_KINDS));
    }
}
