//! What a push does with its refs. Whatever could refuse one of them is found here, before anything is built.

use std::{collections::BTreeSet, sync::Arc};

use super::error::DeployError;
use crate::{
    git::{RefChange, RefState, Repository},
    model::{BranchName, CommitId, RefName, conflicting_ref},
    receive::{RefUpdate, RequestedPush},
    store::App,
};

/// Number of refs that are set singly if they cannot be set together; git is run for each.
const MAX_SET_SINGLY: usize = 100;

/// The branches of which one is deployed when several are pushed to a new app.
pub(super) const DEFAULT_BRANCHES: [&str; 2] = ["main", "master"];

/// What is done with one ref.
#[derive(Debug)]
enum Decision {
    /// The commit is deployed; then the ref is set.
    Deploy,
    /// The ref is set.
    Store,
    /// Nothing.
    Refuse(DeployError),
}

/// What a push does: a decision for each of its updates.
pub(super) struct RefPlan<'a> {
    pub(super) push: &'a RequestedPush,
    decisions: Vec<Decision>,
    /// The deploy branch, or the one that this push is to make it.
    pub(super) deploy_branch: Option<BranchName>,
}

/// The update that is deployed.
pub(super) struct Deployment<'a> {
    pub(super) branch: &'a BranchName,
    pub(super) old: Option<&'a CommitId>,
    pub(super) new: &'a CommitId,
    /// The other changes of an atomic push, which are made together with that of the branch.
    pub(super) with_it: Vec<RefChange<'a>>,
}

impl<'a> RefPlan<'a> {
    /// Decides the updates of a push; `states` are those of its refs.
    pub(super) fn new(app: &App, push: &'a RequestedPush, states: &[RefState]) -> Self {
        let deploy_branch = app.deploy_branch.as_ref().or_else(|| first_deploy_branch(&push.updates));
        let is_deployed =
            |update: &RefUpdate| update.new.is_some() && update.name.branch().is_some_and(|b| Some(b) == deploy_branch);
        let mut created = BTreeSet::new();
        let is_deleted = |update: &&RefUpdate| {
            update.new.is_none() && update.name.branch().is_none_or(|b| app.deploy_branch.as_ref() != Some(b))
        };
        let deleted = push.updates.iter().filter(is_deleted).map(|update| update.name.full()).collect();
        // What is deployed comes first: of two refs that are in conflict it is the one that is set.
        let mut order: Vec<_> = (0..push.updates.len()).collect();
        order.sort_by_key(|i| !is_deployed(&push.updates[*i]));
        let mut decisions: Vec<_> = push.updates.iter().map(|_| Decision::Store).collect();
        for i in order {
            let (update, state) = (&push.updates[i], states.get(i).cloned().unwrap_or_default());
            decisions[i] = match refusal(app, push, update, state, &created, &deleted) {
                Some(error) => Decision::Refuse(error),
                None if is_deployed(update) => Decision::Deploy,
                None => Decision::Store,
            };
            if update.old.is_none() && !matches!(decisions[i], Decision::Refuse(_)) {
                created.insert(update.name.full());
            }
        }
        let refused = decisions.iter().position(|decision| matches!(decision, Decision::Refuse(_)));
        if let (true, Some(refused)) = (push.atomic, refused) {
            for decision in decisions.iter_mut().filter(|decision| !matches!(decision, Decision::Refuse(_))) {
                *decision = Decision::Refuse(DeployError::RefusedWithAnother(push.updates[refused].name.clone()));
            }
        }
        Self { push, decisions, deploy_branch: deploy_branch.cloned() }
    }

    /// The update that is deployed, if there is one.
    pub(super) fn deployment(&self) -> Option<Deployment<'a>> {
        let deployed = |(update, decision): (&'a RefUpdate, &Decision)| match (decision, &update.new, &update.name) {
            (Decision::Deploy, Some(new), RefName::Branch(branch)) => {
                let with_it = if self.push.atomic { self.stored_changes() } else { Vec::new() };
                Some(Deployment { branch, old: update.old.as_ref(), new, with_it })
            }
            _ => None,
        };
        self.push.updates.iter().zip(&self.decisions).find_map(deployed)
    }

    /// The updates whose refs are set, or were set, without being deployed.
    pub(super) fn stored(&self) -> impl Iterator<Item = &'a RefUpdate> {
        let stored =
            |(update, decision): (&'a RefUpdate, &Decision)| matches!(decision, Decision::Store).then_some(update);
        self.push.updates.iter().zip(&self.decisions).filter_map(stored)
    }

    fn stored_changes(&self) -> Vec<RefChange<'a>> {
        self.stored().map(change).collect()
    }

    /// Sets the refs that are not deployed; those of an atomic push were set with the branch of what is deployed, or are not.
    pub(super) async fn store_refs(&mut self, repository: &Repository, was_deployed: bool) {
        let changes = self.stored_changes();
        if let Some(deployed) = self.deployment().filter(|_| self.push.atomic) {
            if !was_deployed {
                self.refuse_stored(DeployError::RefusedWithAnother(deployed.branch.clone().into()));
            }
        } else if !changes.is_empty()
            && let Err(error) = repository.update_refs(&changes).await
        {
            if self.push.atomic || changes.len() > MAX_SET_SINGLY {
                self.refuse_stored(error.into());
            } else {
                self.store_singly(repository).await;
            }
        }
    }

    /// Sets each of the refs that are not deployed, if it can be: one that cannot does not keep the others from it.
    async fn store_singly(&mut self, repository: &Repository) {
        for (update, decision) in self.push.updates.iter().zip(&mut self.decisions) {
            if matches!(decision, Decision::Store)
                && let Err(error) = repository.update_refs(&[change(update)]).await
            {
                *decision = Decision::Refuse(DeployError::NotStored(Arc::new(error.into())));
            }
        }
    }

    /// Refuses all refs that are not deployed.
    pub(super) fn refuse_stored(&mut self, error: DeployError) {
        let error = Arc::new(error);
        for decision in self.decisions.iter_mut().filter(|decision| matches!(decision, Decision::Store)) {
            *decision = Decision::Refuse(DeployError::NotStored(Arc::clone(&error)));
        }
    }

    /// The results of the updates, in their order.
    pub(super) fn results(self, deployed: Result<(), DeployError>) -> Vec<Result<(), DeployError>> {
        let mut deployed = Some(deployed);
        let result = |decision| match decision {
            Decision::Deploy => deployed.take().unwrap_or(Ok(())),
            Decision::Store => Ok(()),
            Decision::Refuse(error) => Err(error),
        };
        self.decisions.into_iter().map(result).collect()
    }
}

fn change(update: &RefUpdate) -> RefChange<'_> {
    RefChange { name: &update.name, old: update.old.as_ref(), new: update.new.as_ref() }
}

/// The branch that becomes the deploy branch of an app that has none: the only one that is pushed, or else the usual one.
fn first_deploy_branch(updates: &[RefUpdate]) -> Option<&BranchName> {
    let pushed = || updates.iter().filter(|update| update.new.is_some()).filter_map(|update| update.name.branch());
    match pushed().count() {
        1 => pushed().next(),
        _ => DEFAULT_BRANCHES.iter().find_map(|name| pushed().find(|branch| branch.as_str() == *name)),
    }
}

/// Why an update is refused; `created` and `deleted` are the refs that the same push creates and deletes.
fn refusal(
    app: &App,
    push: &RequestedPush,
    update: &RefUpdate,
    state: RefState,
    created: &BTreeSet<String>,
    deleted: &BTreeSet<String>,
) -> Option<DeployError> {
    let name = &update.name;
    if state.id != update.old {
        let actual = state.id.map_or_else(|| "deleted".to_owned(), |commit| format!("at {}", commit.short()));
        return Some(DeployError::Stale { name: name.clone(), actual });
    }
    if update.new.is_none() {
        let branch = name.branch().filter(|branch| app.deploy_branch.as_ref() == Some(branch))?;
        return Some(DeployError::CannotDeleteDeployBranch(branch.clone()));
    }
    if update.old.is_some() {
        return None;
    }
    let other = state.conflict.or_else(|| conflicting_ref(created, &name.full()).map(str::to_owned))?;
    let (name, is_deleted) = (name.clone(), deleted.contains(&other));
    let other = RefName::parse(&other).map_or(other, |other| other.to_string());
    Some(if is_deleted {
        DeployError::RefDeletedWithIt { name, other, is_atomic: push.atomic }
    } else {
        DeployError::RefConflict { name, other }
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        model::CheckSettings,
        receive::ServedApp,
        store::{Actor, AppId, Door},
    };

    pub(in crate::deploy) fn app(deploy_branch: Option<&str>) -> App {
        App {
            id: AppId(1),
            name: "shop".parse().unwrap(),
            deploy_branch: deploy_branch.map(|branch| branch.parse().unwrap()),
            stack: None,
            source_folder: None,
            dockerfile: None,
            build_target: None,
            created_at: 0,
            stopped: false,
            destroying: false,
            current: None,
            candidate: None,
            candidate_process_type: None,
            formation: BTreeMap::new(),
            checks: CheckSettings::default(),
            stop_timeouts: BTreeMap::new(),
            mounts: Vec::new(),
        }
    }

    /// A push of refs by their full names: created, or with `-` deleted, or with `+` changed.
    pub(in crate::deploy) fn push(refs: &[&str], atomic: bool) -> RequestedPush {
        let id = |digit: &str| Some(digit.repeat(40).parse().unwrap());
        let update = |text: &&str| {
            let name = RefName::parse(text.trim_start_matches(['+', '-'])).unwrap();
            let old = if text.starts_with(['+', '-']) { id("1") } else { None };
            let new = if text.starts_with('-') { None } else { id("2") };
            RefUpdate { name, old, new }
        };
        RequestedPush {
            app: ServedApp { id: AppId(1), name: "shop".parse().unwrap() },
            pusher: Actor { user: None, name: "ann".to_owned(), fingerprint: None, address: None, door: Door::Ssh },
            updates: refs.iter().map(update).collect(),
            atomic,
        }
    }

    /// The states that the pusher saw.
    pub(in crate::deploy) fn unchanged(push: &RequestedPush) -> Vec<RefState> {
        push.updates.iter().map(|update| RefState { id: update.old.clone(), conflict: None }).collect()
    }

    fn decisions(plan: &RefPlan<'_>) -> Vec<&'static str> {
        let text = |decision: &Decision| match decision {
            Decision::Deploy => "deploy",
            Decision::Store => "store",
            Decision::Refuse(DeployError::RefConflict { .. }) => "conflict",
            Decision::Refuse(DeployError::RefDeletedWithIt { .. }) => "deleted with it",
            Decision::Refuse(DeployError::RefusedWithAnother(_)) => "with another",
            Decision::Refuse(DeployError::CannotDeleteDeployBranch(_)) => "deploy branch",
            Decision::Refuse(other) => panic!("{other}"),
        };
        plan.decisions.iter().map(text).collect()
    }

    #[test]
    fn each_ref_is_deployed_stored_or_refused() {
        let (main, next, topic, v1) = ("refs/heads/main", "refs/heads/main/next", "refs/heads/topic", "refs/tags/v1");
        for (deploy_branch, refs, atomic, expected) in [
            // The first deploy branch is the only branch, or else the usual one.
            (None, &[topic, v1][..], false, &["deploy", "store"][..]),
            (None, &[topic, main, v1], false, &["store", "deploy", "store"]),
            (None, &[topic, "refs/heads/other"], false, &["store", "store"]),
            (None, &["-refs/heads/gone", topic], false, &["store", "deploy"]),
            (Some("main"), &[topic, "+refs/heads/main"], false, &["store", "deploy"]),
            (Some("main"), &[v1], false, &["store"]),
            // Of two that are in conflict, the deployed one is kept, or else the first.
            (Some("main/next"), &[main, next], false, &["conflict", "deploy"]),
            (Some("live"), &[main, next], false, &["store", "conflict"]),
            (Some("live"), &["-refs/heads/topic", "refs/heads/topic/a"], false, &["store", "store"]),
            (Some("main"), &["-refs/heads/main", topic], false, &["deploy branch", "store"]),
            (Some("main"), &["-refs/heads/main", topic], true, &["deploy branch", "with another"]),
            (
                Some("main"),
                &["+refs/heads/main", topic, "refs/heads/topic/a"],
                true,
                &["with another", "with another", "conflict"],
            ),
        ] {
            let push = push(refs, atomic);
            let plan = RefPlan::new(&app(deploy_branch), &push, &unchanged(&push));
            assert_eq!(decisions(&plan), expected, "{deploy_branch:?} {refs:?}");
        }
        // The repository still has the ref that the push deletes.
        let push = push(&["-refs/heads/topic", "refs/heads/topic/a"], false);
        let mut states = unchanged(&push);
        states[1].conflict = Some("refs/heads/topic".to_owned());
        let plan = RefPlan::new(&app(Some("main")), &push, &states);
        assert_eq!(decisions(&plan), ["store", "deleted with it"]);
    }

    #[test]
    fn what_is_not_stored_is_refused_with_the_same_reason() {
        let push = push(&["refs/heads/main", "refs/heads/a", "refs/tags/v1"], false);
        let mut plan = RefPlan::new(&app(None), &push, &unchanged(&push));
        plan.refuse_stored(DeployError::Cancelled);
        let results = plan.results(Ok(()));
        assert!(results[0].is_ok());
        let reasons = results[1..].iter().map(|result| result.as_ref().unwrap_err().to_string());
        assert!(reasons.eq([DeployError::Cancelled.to_string(), DeployError::Cancelled.to_string()]));
    }
}
