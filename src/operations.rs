//! Operations: everything that can be asked of the server. Each is a typed input with the right that it needs, a typed
//! result, and an entry in the audit log. The doors only translate: there is nothing else to call.

mod apps;
mod audit;
mod authorization;
mod buildpacks;
mod builds;
mod caller;
mod config_vars;
mod context;
mod each_app;
mod events;
mod failure;
mod git;
mod logs;
mod members;
mod operation;
mod ports;
mod ps;
mod pushes;
mod registry;
mod releases;
mod restart;
mod selection;
mod ssh_keys;
mod stacks;
mod target;
mod time;
mod users;
mod version;

pub use apps::*;
pub use audit::AuditLog;
pub use buildpacks::*;
pub use builds::*;
pub use caller::Caller;
pub use config_vars::*;
pub use context::{Call, Context};
pub use events::*;
pub use failure::{Failure, FailureKind, LastOutput, Result};
pub use git::*;
pub use logs::*;
pub use members::*;
pub use operation::{Follow, Operation, Requirement};
pub use ports::*;
pub use ps::*;
pub use pushes::AuditedPushes;
pub use registry::{Description, all};
pub use releases::*;
pub use restart::*;
pub use selection::AppSelection;
pub use ssh_keys::*;
pub use stacks::*;
pub use target::{Scope, Server, Target};
pub use time::{Since, Time};
pub use users::*;
pub use version::*;

use std::sync::Arc;

use crate::{
    config::Config,
    deploy::Deployer,
    instances::Instances,
    model::AppName,
    store::{App, Effect, NewEvent, Outcome, Store},
};
use authorization::Authorization;

/// Runs operations: finds what they are about, checks the right, runs them, and writes the audit entry. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    config: Arc<Config>,
    store: Store,
    deployer: Deployer,
    instances: Instances,
    audit: AuditLog,
}

impl Operations {
    /// Operations act on these.
    pub fn new(config: Arc<Config>, store: Store, deployer: Deployer, instances: Instances, audit: AuditLog) -> Self {
        Self { config, store, deployer, instances, audit }
    }

    /// Runs an operation. The only way to run one.
    pub async fn run<O: Operation>(&self, call: &Call<'_>, operation: O) -> Result<O::Output> {
        let entry = NewEvent {
            app_name: O::Target::app_name(&operation.target()),
            detail: operation.audit(),
            ..NewEvent::begun(call.caller.actor.clone(), O::NAME, O::EFFECT)
        };
        let authorized = self.authorize(call, &operation).await;
        let (result, entry) = match authorized {
            Err(failure) => (Err(failure), self.about_app(entry).await?),
            Ok(target) => {
                let entry = match target.app() {
                    Some(app) => NewEvent { app: Some(app.id), app_name: Some(app.name.clone()), ..entry },
                    None => entry,
                };
                match O::EFFECT {
                    Effect::Read => (operation.run(&self.context(call), target).await, entry),
                    Effect::Change => return self.change(call, operation, target, entry).await,
                }
            }
        };
        self.audit.record(ended(entry, &result)).await?;
        result
    }

    /// The entry of a refused operation, with the identity of the app that was named: its members see who was refused.
    async fn about_app(&self, entry: NewEvent) -> Result<NewEvent> {
        let Some(name) = &entry.app_name else { return Ok(entry) };
        let app = self.store.find_app(name.clone()).await?.map(|app| app.id);
        Ok(NewEvent { app, ..entry })
    }

    /// Finds what an operation is about and checks the caller's right.
    async fn authorize<O: Operation>(&self, call: &Call<'_>, operation: &O) -> Result<O::Target> {
        let authorization = Authorization { store: &self.store, caller: call.caller, operation: O::NAME };
        let target = O::Target::resolve(operation.target(), &authorization, O::RIGHT).await?;
        if let Some(Requirement { right, reason }) = operation.requirement(&self.context(call), &target).await?
            && target.held_right(&authorization).await? < right
        {
            return Err(Failure::new(FailureKind::Denied, reason));
        }
        Ok(target)
    }

    /// Runs an operation that changes something. Its audit entry is written before it begins, so that a server that dies
    /// meanwhile leaves one.
    async fn change<O: Operation>(
        &self,
        call: &Call<'_>,
        operation: O,
        target: O::Target,
        entry: NewEvent,
    ) -> Result<O::Output> {
        let begun = self.audit.begin(entry).await?;
        let result = operation.run(&self.context(call), target).await;
        let (outcome, message) = outcome_of(&result);
        self.audit.end(begun, outcome, message).await;
        result
    }

    fn context<'a>(&'a self, call: &'a Call<'_>) -> Context<'a> {
        Context {
            config: &self.config,
            store: &self.store,
            deployer: &self.deployer,
            instances: &self.instances,
            audit: &self.audit,
            caller: call.caller,
            progress: call.progress,
            hangup: call.hangup,
        }
    }

    /// Finds an app on which the caller may run an operation of this kind, without running it: for a question that is
    /// asked first.
    pub async fn find<O: Operation<Target = App>>(&self, caller: &Caller, name: AppName) -> Result<App> {
        Authorization { store: &self.store, caller, operation: O::NAME }.app(name, O::RIGHT).await
    }
}

/// The entry of an operation that has ended with this result.
fn ended<T>(entry: NewEvent, result: &Result<T>) -> NewEvent {
    let (outcome, message) = outcome_of(result);
    NewEvent { outcome, message, ..entry }
}

fn outcome_of<T>(result: &Result<T>) -> (Outcome, Option<String>) {
    match result {
        Ok(_) => (Outcome::Succeeded, None),
        Err(failure) => {
            if failure.kind == FailureKind::Internal {
                tracing::error!(error = %failure, "an operation failed");
            }
            (failure.kind.outcome(), Some(failure.message.clone()))
        }
    }
}
