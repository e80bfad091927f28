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
    deploy::Deployer,
    git::Reader,
    model::{AppName, Right},
    progress::{self, Progress},
    receive::{PushHandler, RefUpdate, Rejection, ServedApp},
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

/// The handler of pushes: checks the pusher's right to each update of a branch, has it deployed, and records it in the
/// audit log.
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
    async fn update(
        &self,
        update: RefUpdate,
        reader: &Reader,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> Result<(), Rejection> {
        let detail = match &update.new {
            Some(new) => format!("{} {}", update.branch, new.short()),
            None => format!("{} deleted", update.branch),
        };
        let entry = entry(&update.pusher, PUSH, Effect::Change, update.app.name.clone());
        let entry = NewEvent { app: Some(update.app.id), detail, ..entry };
        let pushed = async {
            let begun = self.audit.begin(entry).await?;
            let result = self.push(update, reader, progress, cancel).await;
            begun.end(outcome_of(&result)).await;
            result.inspect_err(log_internal)
        };
        pushed.await.map_err(|failure| Rejection(failure.to_string()))
    }

    fn ended_without_branch(&self, app: &ServedApp, pusher: &Actor, status: u32) {
        let message = "no branch was updated: git refused the push, it had only other refs, or the client disconnected";
        let entry = entry(pusher, PUSH, Effect::Change, app.name.clone());
        let entry = NewEvent { app: Some(app.id), ..entry };
        let outcome = if status == 0 { Outcome::Succeeded } else { Outcome::Failed };
        self.audit.record(entry.ended(outcome, Some(message.to_owned())));
    }
}

impl AuditedPushes {
    async fn push(&self, update: RefUpdate, reader: &Reader, progress: &Progress, cancel: CancellationToken) -> Result {
        // Once more: the right may have been taken while git sent its objects.
        let caller = Caller::of_actor(&update.pusher, &self.store).await?;
        let authorization = Authorization { store: &self.store, caller: &caller, operation: PUSH };
        if !authorization.has_right(Some(update.app.id), GIT_RIGHT).await? {
            return Err(Failure::new(FailureKind::Denied, format!("you may no longer push to {}", update.app.name)));
        }
        Ok(self.deployer.push(update, reader, progress, cancel).await?)
    }
}
