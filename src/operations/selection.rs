//! Which apps an operation is about.

use crate::model::AppName;

/// Which apps an operation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppSelection {
    /// One app.
    One(AppName),
    /// All apps on which the caller has the right.
    All,
    /// The same, and those that are being destroyed.
    AllEvenDestroying,
    /// A name and the option `--all`, or neither.
    Unclear,
}

impl AppSelection {
    /// The selection of an optional name and the option `--all`.
    pub fn new(app: Option<&AppName>, all: bool) -> Self {
        match (app, all) {
            (Some(app), false) => Self::One(app.clone()),
            (None, true) => Self::All,
            (Some(_), true) | (None, false) => Self::Unclear,
        }
    }

    /// The selection of an optional name, without which it is all apps.
    pub fn one_or_all(app: Option<&AppName>) -> Self {
        app.map_or(Self::All, |app| Self::One(app.clone()))
    }
}
