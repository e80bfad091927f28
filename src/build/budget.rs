//! Whose turn a build takes, and what it may use.

use crate::{
    model::PartialSize,
    store::UserId,
    turns::{self, Turns},
};

/// Whose turn a build takes, and what it may use.
#[derive(Debug, Clone, Copy)]
pub struct BuildBudget {
    /// Owner of the app; without one, the admins.
    pub owner: Option<UserId>,
    /// Builds that the owner may run at a time.
    pub max_builds: usize,
    /// Size of the build, as far as it is not that of the configuration.
    pub size: PartialSize,
}

impl Default for BuildBudget {
    fn default() -> Self {
        Self { owner: None, max_builds: usize::MAX, size: PartialSize::default() }
    }
}

/// The builds that run and those that wait.
pub(super) type Queue = Turns<Option<UserId>>;

/// The right to build, until it is dropped.
pub(super) type Turn = turns::Turn<Option<UserId>>;
