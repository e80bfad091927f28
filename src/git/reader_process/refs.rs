//! The refs of a repository.

use std::collections::BTreeSet;

use git2::{ErrorCode, Oid, Reference, Repository};

use super::objects::{commit_id, unreadable};
use crate::{
    git::protocol::{Failure, RefState},
    model::conflicting_ref,
};

/// The object that a ref points to, if the ref exists.
pub(super) fn target(repository: &Repository, name: &str) -> Result<Option<Oid>, Failure> {
    let found = match repository.find_reference(name).and_then(|found: Reference<'_>| found.resolve()) {
        Err(e) if matches!(e.code(), ErrorCode::NotFound) => return Ok(None),
        found => found.map_err(|e| unreadable(&e))?,
    };
    Ok(found.target())
}

/// The states of refs, in the order of their names.
pub(super) fn states(repository: &Repository, names: &[String]) -> Result<Vec<RefState>, Failure> {
    let mut all = None;
    let mut states = Vec::with_capacity(names.len());
    for name in names {
        let id = target(repository, name)?.map(commit_id).transpose()?;
        let conflict = match (&id, &mut all) {
            (Some(_), _) => None,
            (None, Some(all)) => conflicting_ref(all, name),
            (None, none) => conflicting_ref(none.insert(list(repository)?), name),
        };
        states.push(RefState { id, conflict: conflict.map(str::to_owned) });
    }
    Ok(states)
}

fn list(repository: &Repository) -> Result<BTreeSet<String>, Failure> {
    let mut references = repository.references().map_err(|e| unreadable(&e))?;
    let names = references.names().filter_map(|name| name.ok().map(str::to_owned));
    Ok(names.collect())
}

/// Number of the refs that clients see, which are all but those of the server.
pub(super) fn count(repository: &Repository) -> Result<u64, Failure> {
    let names = list(repository)?;
    Ok(names.iter().filter(|name| !name.starts_with("refs/paas/")).count() as u64)
}
