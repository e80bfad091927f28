//! The process of a reader, while no request uses it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::connection::Connection;
use crate::git::{error::Result, groups::Group, repository::Repository};

/// Time that an answer, or the next part of a tar, may take. Listing the files takes at most two minutes, and their
/// contents are read to find LFS pointers.
const TIMEOUT: Duration = Duration::from_mins(3);

/// A place for one process; cheap to clone. A request takes the process out and puts it back after it was answered
/// completely, so that no request meets the remains of another. The last clone ends the process.
#[derive(Debug, Clone)]
pub(super) struct ProcessSlot(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    repository: Repository,
    /// The control group of the push that the process belongs to; without one, each process gets its own.
    group: Option<Group>,
    idle: Mutex<Option<Connection>>,
}

impl ProcessSlot {
    pub(super) fn new(repository: Repository, group: Option<Group>) -> Self {
        Self(Arc::new(Shared { repository, group, idle: Mutex::default() }))
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.0.repository
    }

    /// The idle process, or a new one.
    pub(super) async fn take(&self) -> Result<Connection> {
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(idle) = idle {
            return Ok(idle);
        }
        let group = match &self.0.group {
            Some(group) => group.clone(),
            None => self.0.repository.repositories.group().await,
        };
        Connection::start(self.0.repository.reader_command(), group, TIMEOUT)
    }

    /// Keeps the process for the next request.
    pub(super) fn keep(&self, connection: Connection) {
        let replaced = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).replace(connection);
        drop(replaced);
    }
}
