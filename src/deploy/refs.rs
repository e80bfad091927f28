//! What a push does with its refs. Whatever could refuse one of them is found here, before anything is built.

use std::collections::BTreeSet;

use super::error::DeployError;
use crate::{
    git::{RefChange, RefState, Repository},
    model::{BranchName, CommitId, RefName, excluded_by, first_names},
    progress::Progress,
    receive::{RefUpdate, RequestedPush},
    store::App,
};

/// Number of refs that a line names.
const MAX_NAMED: usize = 5;

/// The branches of which one is deployed when several are pushed to a new app.
const DEFAULT_BRANCHES: [&str; 2] = ["main", "master"];

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
    push: &'a RequestedPush,
    decisions: Vec<Decision>,
    /// The deploy branch, if there is one after this push.
    deploy_branch: Option<BranchName>,
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
        // What is deployed comes first: of two refs that exclude each other it is the one that is set.
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
                *decision = Decision::Refuse(DeployError::Atomic(push.updates[refused].name.clone()));
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

    fn stored(&self) -> impl Iterator<Item = &'a RefUpdate> {
        let stored =
            |(update, decision): (&'a RefUpdate, &Decision)| matches!(decision, Decision::Store).then_some(update);
        self.push.updates.iter().zip(&self.decisions).filter_map(stored)
    }

    fn stored_changes(&self) -> Vec<RefChange<'a>> {
        let change = |update: &'a RefUpdate| RefChange {
            name: &update.name,
            old: update.old.as_ref(),
            new: update.new.as_ref(),
        };
        self.stored().map(change).collect()
    }

    /// Sets the refs that are not deployed; those of an atomic push were set with the branch of what is deployed, or are not.
    pub(super) async fn store_refs(&self, repository: &Repository, was_deployed: bool) -> Result<(), DeployError> {
        let changes = self.stored_changes();
        match self.deployment() {
            Some(deployed) if self.push.atomic && !was_deployed && !changes.is_empty() => {
                Err(DeployError::Atomic(deployed.branch.clone().into()))
            }
            Some(_) if self.push.atomic => Ok(()),
            _ if changes.is_empty() => Ok(()),
            _ => Ok(repository.update_refs(&changes).await?),
        }
    }

    /// The results of the updates, in their order.
    pub(super) fn results(
        self,
        deployed: Result<(), DeployError>,
        stored: Result<(), DeployError>,
    ) -> Vec<Result<(), DeployError>> {
        let mut deployed = Some(deployed);
        let stored = stored.map_err(|error| error.to_string());
        let result = |decision| match decision {
            Decision::Deploy => deployed.take().unwrap_or(Ok(())),
            Decision::Store => stored.clone().map_err(DeployError::NotStored),
            Decision::Refuse(error) => Err(error),
        };
        self.decisions.into_iter().map(result).collect()
    }

    /// Tells the pusher what was stored but not deployed, and which command deploys it.
    pub(super) async fn report_stored(&self, app: &App, progress: &Progress) {
        let set = || self.stored().filter(|update| update.new.is_some());
        let branches: Vec<_> = set().filter_map(|update| update.name.branch()).collect();
        if let Some(first) = branches.first() {
            let names = named(&branches);
            let are = if branches.len() == 1 { "is" } else { "are" };
            let (reason, chosen) = match &self.deploy_branch {
                Some(branch) => (format!("{branch} is the deploy branch"), first.as_str()),
                None => ("they are several, and none of them is main or master".to_owned(), "BRANCH"),
            };
            progress.header(format!("{names} {are} stored, not deployed: {reason}")).await;
            let text = format!("git:set {0} deploy-branch {chosen}, then ps:rebuild {0}, deploys {chosen}", app.name);
            progress.detail(text).await;
        }
        let tags: Vec<_> = set().filter(|update| update.name.branch().is_none()).collect();
        let Some(first) = tags.first() else { return };
        let names = named(&tags.iter().map(|tag| &tag.name).collect::<Vec<_>>());
        // Why a pushed branch is not deployed was told, or is told as the reason of its refusal.
        if self.push.updates.iter().any(|update| update.new.is_some() && update.name.branch().is_some()) {
            progress.detail(format!("stored without being deployed: {names}")).await;
            return;
        }
        let branch = self.deploy_branch.as_ref().map_or(DEFAULT_BRANCHES[0], BranchName::as_str);
        let meant = tags.iter().find(|update| update.name.tag() == Some(branch)).unwrap_or(first);
        if meant.name.tag() == Some(branch) {
            progress.header(format!("{branch} is stored as a tag, not as a branch: nothing is deployed")).await;
        } else {
            progress.header(format!("Nothing is deployed: {names} is not a branch")).await;
        }
        // Beside a branch that the pusher's git has refused to push, a tag is all that arrives here.
        let is_meant = app.current.is_none() || meant.name.tag() == Some(branch);
        let text = match &meant.new {
            Some(id) if is_meant => {
                format!("git push REMOTE '{}^{{commit}}:refs/heads/{branch}' deploys that commit", id.short())
            }
            _ => format!("pushes to the branch {branch} are deployed"),
        };
        progress.detail(text).await;
    }
}

/// The first names of a list, and the number of the others.
fn named<T: std::fmt::Display>(names: &[T]) -> String {
    first_names(&names[..names.len().min(MAX_NAMED)], names.len())
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
        return Some(DeployError::DeployBranch(branch.clone()));
    }
    if update.old.is_some() {
        return None;
    }
    let other = state.blocked_by.or_else(|| excluded_by(created, &name.full()).map(str::to_owned))?;
    let (name, is_deleted) = (name.clone(), deleted.contains(&other));
    let other = RefName::parse(&other).map_or(other, |other| other.to_string());
    Some(if is_deleted {
        DeployError::RefDeletedWithIt { name, other, is_atomic: push.atomic }
    } else {
        DeployError::RefConflict { name, other }
    })
}
