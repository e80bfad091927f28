//! git's two programs: pushes and fetches pass through the same authorisation and the same audit log as operations.

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
    model::{AppName, Right},
    progress::{self, Progress},
    receive::{Decided, PushHandler, RefUpdate, Rejection, RequestedPush, ServedApp},
    store::{Actor, App, Effect, NewEvent, Outcome, Store},
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
    /// Finds the app that a push goes to; the first push to a new name creates it. What the push does is recorded by
    /// [`AuditedPushes`].
    pub async fn authorize_push(&self, caller: &Caller, name: AppName) -> Result<App> {
        match self.find_or_create(caller, &name).await {
            Ok(app) => Ok(app),
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
        Ok(authorization.app(name.clone(), GIT_RIGHT).await?.0)
    }

    async fn create(&self, caller: &Caller, app: AppName) -> Result {
        let hangup = CancellationToken::new();
        let create = |progress| async move {
            let call = Call { caller, progress: &progress, attachment: None, hangup: &hangup };
            self.run(&call, CreateApp { app }).await.map(drop)
        };
        progress::relay(create, |_| std::future::ready(())).await
    }

    /// Finds the app that a fetch or clone reads, and records it.
    pub async fn authorize_fetch(&self, caller: &Caller, name: AppName) -> Result<App> {
        let authorization = Authorization { store: &self.store, caller, operation: FETCH };
        let found = authorization.app(name.clone(), GIT_RIGHT).await;
        let entry = entry(&caller.actor, FETCH, Effect::Read, name);
        match found {
            Ok((app, _)) => {
                self.audit.record(ended(NewEvent { app: Some(app.id), ..entry }, &Ok(())));
                Ok(app)
            }
            Err(failure) => Err(self.refused(entry, failure).await),
        }
    }
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
            let mut begun = Vec::new();
            for entry in entries(&push) {
                begun.push(self.audit.begin(entry).await?);
            }
            let results = match self.decide(&push, reader, progress, cancel).await {
                Ok(results) => results.into_iter().map(|result| result.map_err(Failure::from)).collect(),
                Err(failure) => vec![Err(failure); push.updates.len()],
            };
            for (entry, result) in begun.into_iter().zip(of_entries(&push, &results)) {
                entry.end(outcome_of(result)).await;
            }
            Ok::<Vec<Result>, Failure>(results)
        };
        let results = pushed.await.unwrap_or_else(|failure| vec![Err(failure); push.updates.len()]);
        let rejection = |failure: Failure| Rejection(failure.to_string());
        results.into_iter().map(|result| result.inspect_err(log_internal).map_err(rejection)).collect()
    }

    fn ended_without_update(&self, app: &ServedApp, pusher: &Actor, status: u32) {
        let message = "no ref was updated: git refused the push, or the client disconnected";
        let entry = entry(pusher, PUSH, Effect::Change, app.name.clone());
        let entry = NewEvent { app: Some(app.id), ..entry };
        let outcome = if status == 0 { Outcome::Succeeded } else { Outcome::Failed };
        self.audit.record(entry.ended(outcome, Some(message.to_owned())));
    }
}

/// The entries of a push in the audit log: one for each branch, and one for all other refs together.
fn entries(push: &RequestedPush) -> Vec<NewEvent> {
    let detail = |update: &RefUpdate| match &update.new {
        Some(new) => format!("{} {}", update.name, new.short()),
        None => format!("{} deleted", update.name),
    };
    let (branches, others): (Vec<_>, Vec<_>) = push.updates.iter().partition(|update| is_branch(update));
    let mut details: Vec<_> = branches.into_iter().map(detail).collect();
    match others.as_slice() {
        [] => {}
        [other] => details.push(detail(other)),
        others => details.push(format!("{} refs that are no branches", others.len())),
    }
    let entry = |detail| {
        let entry = entry(&push.pusher, PUSH, Effect::Change, push.app.name.clone());
        NewEvent { app: Some(push.app.id), detail, ..entry }
    };
    details.into_iter().map(entry).collect()
}

/// The results of these entries.
fn of_entries<'a>(push: &'a RequestedPush, results: &'a [Result]) -> impl Iterator<Item = &'a Result> {
    let with_results = || push.updates.iter().zip(results);
    let others = with_results().filter(|(update, _)| !is_branch(update));
    let failed_or_first = others.clone().find(|(_, result)| result.is_err()).or_else(|| others.clone().next());
    let branches = with_results().filter(|(update, _)| is_branch(update));
    branches.chain(failed_or_first).map(|(_, result)| result)
}

fn is_branch(update: &RefUpdate) -> bool {
    update.name.branch().is_some()
}

impl AuditedPushes {
    async fn decide(
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
        Ok(self.deployer.push(push, reader, progress, cancel).await?)
    }
}
