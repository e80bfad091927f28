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
    /// Neither was given.
    None,
}

impl AppSelection {
    /// The selection of an optional name and the option `--all`.
    pub fn new(app: Option<&AppName>, all: bool) -> Self {
        match app {
            Some(app) => Self::One(app.clone()),
            None if all => Self::All,
            None => Self::None,
        }
    }
}
