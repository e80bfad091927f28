//! git's two programs: pushes and fetches pass through the same authorisation and the same audit log as operations.

use std::collections::BTreeSet;

use tokio_util::sync::CancellationToken;

use super::{
    Operations,
    apps::CreateApp,
    audit::{AuditLog, outcome_of},
    authorization::Authorization,
    caller::Caller,
    context::Call,
    ended,
    failure::{Failure, FailureKind, Result},
    log_internal,
};
use crate::{
    deploy::{DeployError, Deployer},
    git::Reader,
    model::{AppName, Resource, Right},
    progress::{self, Progress},
    receive::{Decided, Fetcher, PushHandler, Pusher, RefUpdate, Rejection, RequestedPush, ServedApp},
    store::{Actor, App, Effect, NewEvent, Outcome, Store},
    turns,
};

/// Name of a push in the audit log and in messages.
const PUSH: &str = "git:push";
/// Name of a fetch or clone.
const FETCH: &str = "git:fetch";
/// Right that both need.
pub(super) const GIT_RIGHT: Right = Right::Deploy;
/// Both, with their effects.
#[cfg(test)]
pub(super) const GIT: [(&str, Effect); 2] = [(PUSH, Effect::Change), (FETCH, Effect::Read)];

impl Operations {
    /// Finds the app that a push goes to, and what the pusher may do; the first push to a new name creates it. What the push does is recorded by
    /// [`AuditedPushes`].
    pub async fn authorize_push(&self, caller: &Caller, name: AppName) -> Result<(App, Pusher)> {
        match self.find_or_create(caller, &name).await {
            Ok(app) => {
                let pusher = pusher(&self.store, &self.deployer, &caller.actor, &app).await?;
                Ok((app, pusher))
            }
            Err(failure) => Err(self.refused(entry(&caller.actor, PUSH, Effect::Change, name), failure).await),
        }
    }

    async fn find_or_create(&self, caller: &Caller, name: &AppName) -> Result<App> {
        // A machine user creates no apps, and is told the same of a free name as of an app that it may not see.
        if !caller.machine && self.store.find_app(name.clone()).await?.is_none() {
            match self.create(caller, name.clone()).await {
                // Another first push may have created it at the same time.
                Err(failure) if failure.kind == FailureKind::Conflict => {
                    self.store.find_app(name.clone()).await?.ok_or(failure)?;
                }
                created => created?,
            }
        }
        let authorization = Authorization { store: &self.store, caller, operation: PUSH };
        let app = authorization.app(name.clone(), GIT_RIGHT).await?.0;
        self.deployer.floor().check()?;
        Ok(app)
    }

    async fn create(&self, caller: &Caller, app: AppName) -> Result {
        let hangup = CancellationToken::new();
        let create = |progress| async move {
            let call = Call { caller, progress: &progress, attachment: None, hangup: &hangup };
            self.run(&call, CreateApp { app }).await.map(drop)
        };
        progress::relay(create, |_| std::future::ready(())).await
    }

    /// Finds the app that a fetch or clone reads, and what the caller may do; records it.
    pub async fn authorize_fetch(&self, caller: &Caller, name: AppName) -> Result<(App, Fetcher)> {
        let authorization = Authorization { store: &self.store, caller, operation: FETCH };
        let found = authorization.app(name.clone(), GIT_RIGHT).await;
        let entry = entry(&caller.actor, FETCH, Effect::Read, name);
        match found {
            Ok((app, _)) => {
                let fetcher =
                    Fetcher { user: caller.actor.user, max_fetches: max_pushes(&self.store, &caller.actor).await? };
                self.audit.record(ended(NewEvent { app: Some(app.id), ..entry }, &Ok(())));
                Ok((app, fetcher))
            }
            Err(failure) => Err(self.refused(entry, failure).await),
        }
    }
}

/// How many pushes a user may run at a time, and as many fetches.
async fn max_pushes(store: &Store, actor: &Actor) -> Result<usize> {
    let max = match actor.user {
        Some(user) => store.limit_of(user, Resource::Pushes).await?,
        None => None,
    };
    Ok(turns::as_max(max))
}

/// What a user may push to an app.
pub(super) async fn pusher(store: &Store, deployer: &Deployer, actor: &Actor, app: &App) -> Result<Pusher> {
    Ok(Pusher {
        actor: actor.clone(),
        max_pushes: max_pushes(store, actor).await?,
        max_repository_bytes: deployer.max_repository_bytes(app.id).await?,
    })
}

fn entry(actor: &Actor, operation: &str, effect: Effect, app: AppName) -> NewEvent {
    NewEvent { app_name: Some(app), ..NewEvent::begun(actor.clone(), operation, effect) }
}

/// The handler of pushes: checks the pusher's right, has the refs deployed or stored, and records that in the audit log.
#[derive(Debug, Clone)]
pub struct AuditedPushes {
    /// Decides what a push does.
    pub deployer: Deployer,
    /// Where its decisions are recorded.
    pub audit: AuditLog,
    /// Where rights are.
    pub store: Store,
}

impl PushHandler for AuditedPushes {
    async fn push(
        &self,
        push: RequestedPush,
        reader: &Reader,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> Vec<Decided> {
        let pushed = async {
            let (events, about): (Vec<_>, Vec<_>) = entries(&push).into_iter().unzip();
            let begun = self.audit.begin_all(events).await?;
            let results = match self.decide(&push, reader, progress, cancel).await {
                Ok(results) => results.into_iter().map(|result| result.map_err(Failure::from)).collect(),
                Err(failure) => vec![Err(failure); push.updates.len()],
            };
            for (entry, about) in begun.into_iter().zip(&about) {
                entry.end(outcome_of(result_of(about, &results))).await;
            }
            Ok::<Vec<Result>, Failure>(results)
        };
        let results = pushed.await.unwrap_or_else(|failure| vec![Err(failure); push.updates.len()]);
        // Refs that are set in one transaction fail with one reason.
        let mut logged = BTreeSet::new();
        let mut rejection = |failure: Failure| {
            let reason = failure.to_string();
            if logged.insert(reason.clone()) {
                log_internal(&failure);
            }
            Rejection(reason)
        };
        results.into_iter().map(|result| result.map_err(&mut rejection)).collect::<Vec<_>>()
    }

    fn ended_without_update(&self, app: &ServedApp, pusher: &Actor) {
        let message = "no ref was updated: the push was refused before it was decided, or the client disconnected";
        let entry = entry(pusher, PUSH, Effect::Change, app.name.clone());
        let entry = NewEvent { app: Some(app.id), ..entry };
        self.audit.record(entry.ended(Outcome::Failed, Some(message.to_owned())));
    }
}

/// Maximum number of branches of a push that have an entry each: the audit log keeps a limited number of entries for all apps.
const MAX_BRANCH_ENTRIES: usize = 20;

/// The entries of a push in the audit log, each with the positions of the updates that it is about: one for each of the first
/// branches, one for all further ones together, and one for all other refs.
fn entries(push: &RequestedPush) -> Vec<(NewEvent, Vec<usize>)> {
    let detail = |update: &RefUpdate| match &update.new {
        Some(new) => format!("{} {}", update.name, new.short()),
        None => format!("{} deleted", update.name),
    };
    let is_branch = |i: &usize| push.updates[*i].name.branch().is_some();
    let (branches, others): (Vec<_>, Vec<_>) = (0..push.updates.len()).partition(is_branch);
    let (first, further) = branches.split_at(branches.len().min(MAX_BRANCH_ENTRIES));
    let grouped = |about: &[usize], kind: &str| match about {
        [] => None,
        [one] => Some((detail(&push.updates[*one]), about.to_vec())),
        several => Some((format!("{} {kind}", several.len()), about.to_vec())),
    };
    let details = first.iter().map(|i| (detail(&push.updates[*i]), vec![*i]));
    let details = details.chain(grouped(further, "more branches")).chain(grouped(&others, "refs that are no branches"));
    let entry = |(detail, about)| {
        let entry = entry(&push.pusher, PUSH, Effect::Change, push.app.name.clone());
        (NewEvent { app: Some(push.app.id), detail, ..entry }, about)
    };
    details.map(entry).collect()
}

/// The result of an entry about these updates: the first failure, if there is one.
fn result_of<'a>(about: &[usize], results: &'a [Result]) -> &'a Result {
    let mut of_updates = about.iter().filter_map(|i| results.get(*i));
    of_updates.clone().find(|result| result.is_err()).or_else(|| of_updates.next()).unwrap_or(&Ok(()))
}

impl AuditedPushes {
    /// Checks the pusher's right, and has the push deployed.
    pub(super) async fn decide(
        &self,
        push: &RequestedPush,
        reader: &Reader,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> Result<Vec<Result<(), DeployError>>> {
        // Once more: the right may have been taken while git sent its objects.
        let caller = Caller::of_actor(&push.pusher, &self.store).await?;
        let authorization = Authorization { store: &self.store, caller: &caller, operation: PUSH };
        if !authorization.has_right(Some(push.app.id), GIT_RIGHT).await? {
            return Err(Failure::new(FailureKind::Denied, format!("you may no longer push to {}", push.app.name)));
        }
        // The pack that the push sent may have taken the rest.
        if push.updates.iter().any(|update| update.new.is_some()) {
            self.deployer.floor().check()?;
            self.deployer.check_repositories(push.app.id).await?;
        }
        Ok(self.deployer.push(push, reader, progress, cancel).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{CommitId, RefName},
        store::{AppId, Door},
    };

    #[test]
    fn many_refs_are_few_entries_each_with_the_result_of_its_updates() {
        let new: CommitId = "1".repeat(40).parse().unwrap();
        let names = (0..30).map(|n| format!("refs/heads/b{n}")).chain((0..3).map(|n| format!("refs/tags/t{n}")));
        let update =
            |name: String| RefUpdate { name: RefName::parse(&name).unwrap(), old: None, new: Some(new.clone()) };
        let mut updates: Vec<_> = names.map(update).collect();
        // The order of the updates is that of their names.
        updates.rotate_right(3);
        updates[4].new = None;
        let push = |updates: &[RefUpdate]| RequestedPush {
            app: ServedApp { id: AppId(1), name: "app".parse().unwrap() },
            pusher: Actor { user: None, name: "ann".to_owned(), fingerprint: None, address: None, door: Door::Ssh },
            updates: updates.to_vec(),
            atomic: false,
        };
        let details = |updates: &[RefUpdate]| -> Vec<_> {
            entries(&push(updates)).into_iter().map(|(event, about)| (event.detail, about)).collect()
        };
        let all = details(&updates);
        assert_eq!(
            (all.len(), all[0].clone(), all[1].clone()),
            (22, ("b0 1111111".into(), vec![3]), ("b1 deleted".into(), vec![4]))
        );
        assert_eq!(all[20], ("10 more branches".to_owned(), (23..33).collect()));
        assert_eq!(all[21], ("3 refs that are no branches".to_owned(), vec![0, 1, 2]));
        assert_eq!(details(&updates[2..4]), [("b0 1111111".to_owned(), vec![1]), ("t2 1111111".to_owned(), vec![0])]);
        assert_eq!(details(&updates[3..24])[20], ("b20 1111111".to_owned(), vec![20]));

        let mut results: Vec<Result> = vec![Ok(()); updates.len()];
        results[30] = Err(Failure::invalid("refused"));
        let failed: Vec<_> = all.iter().filter(|(_, about)| result_of(about, &results).is_err()).collect();
        assert_eq!(failed, [&all[20]]);
    }
}
