//! The refs of a repository.

use std::{collections::BTreeSet, ops::Bound};

use git2::{ErrorCode, Oid, Reference, Repository};

use super::objects::{commit_id, unreadable};
use crate::git::protocol::{Failure, RefState};

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
        let blocked_by = match (&id, &mut all) {
            (Some(_), _) => None,
            (None, Some(all)) => conflict(all, name),
            (None, none) => conflict(none.insert(list(repository)?), name),
        };
        states.push(RefState { id, blocked_by });
    }
    Ok(states)
}

fn list(repository: &Repository) -> Result<BTreeSet<String>, Failure> {
    let mut references = repository.references().map_err(|e| unreadable(&e))?;
    let names = references.names().filter_map(|name| name.ok().map(str::to_owned));
    Ok(names.collect())
}

/// A ref that is a folder of this name, or lies in a folder of this name.
fn conflict(all: &BTreeSet<String>, name: &str) -> Option<String> {
    let folders = name.match_indices('/').map(|(end, _)| &name[..end]);
    let above = folders.into_iter().find(|folder| all.contains(*folder)).map(str::to_owned);
    let prefix = format!("{name}/");
    let below = || all.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded)).next();
    above.or_else(|| below().filter(|other| other.starts_with(&prefix)).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_excludes_those_above_and_below_it_only() {
        let all: BTreeSet<String> =
            ["refs/heads/a", "refs/heads/b/c", "refs/heads/b-x", "refs/tags/a"].map(str::to_owned).into();
        for (name, other) in [
            ("refs/heads/a/x", Some("refs/heads/a")),
            ("refs/heads/a/x/y", Some("refs/heads/a")),
            ("refs/heads/b", Some("refs/heads/b/c")),
            ("refs/heads/b/c/d", Some("refs/heads/b/c")),
            ("refs/heads/b/d", None),
            ("refs/heads/ab", None),
            ("refs/heads/b-", None),
            ("refs/tags/b", None),
        ] {
            assert_eq!(conflict(&all, name).as_deref(), other, "{name}");
        }
    }
}
