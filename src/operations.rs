//! Operations: everything that can be asked of the server. Each is a typed input with the right that it needs, a typed
//! result, and an entry in the audit log. The doors only translate: there is nothing else to call.

mod answer;
mod apps;
mod attachment;
mod audit;
mod authorization;
mod bindings;
mod buildpacks;
mod builds;
mod caller;
mod checks;
mod config_vars;
mod context;
mod cron;
mod disk;
mod each_app;
mod endpoint;
mod enter;
mod events;
mod failure;
mod git;
mod images;
mod links;
mod logs;
mod members;
mod networks;
mod operation;
mod periodic;
mod ports;
mod program;
#[cfg(test)]
mod properties;
mod ps;
mod pushes;
mod quotas;
mod registry;
mod registry_logins;
mod releases;
mod restart;
mod run;
mod selection;
mod sent_file;
mod sizes;
mod ssh_keys;
mod stacks;
mod storage;
mod target;
mod tasks;
mod time;
mod tokens;
mod users;
mod version;
mod webhooks;

pub use answer::{Answer, Input, IntoAnswer, Runner};
pub use apps::*;
pub use attachment::Attachment;
pub use audit::{AuditLog, EventSweep};
pub use bindings::*;
pub use buildpacks::*;
pub use builds::*;
pub use caller::{Caller, TokenScope};
pub use checks::*;
pub use config_vars::*;
pub use context::{Call, Context, Requirement};
pub use cron::*;
pub use disk::*;
pub use endpoint::{Body, Endpoint, Method, Pages, Reach};
pub use enter::*;
pub use events::*;
pub use failure::{Failure, FailureKind, LastOutput, Result};
pub use git::*;
pub use images::*;
pub use links::*;
pub use logs::*;
pub use members::*;
pub use networks::*;
pub use operation::{Follow, Operation};
pub use periodic::*;
pub use ports::*;
pub use ps::*;
pub use pushes::AuditedPushes;
pub use quotas::*;
pub use registry::{Description, all};
pub use registry_logins::*;
pub use releases::*;
pub use restart::*;
pub use run::*;
pub use selection::AppSelection;
pub use sent_file::SentFile;
pub use sizes::*;
pub use ssh_keys::*;
pub use stacks::*;
pub use storage::*;
pub use target::{Scope, Server, Target};
pub use tasks::*;
pub use time::{Lifetime, Since, Time};
pub use tokens::*;
pub use users::*;
pub use version::*;
pub use webhooks::*;

use std::{sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Config,
    deploy::Deployer,
    instances::Instances,
    model::Right,
    periodic::Driver,
    receive::Imports,
    store::{Effect, NewEvent, Store},
    tasks::Tasks,
    workload::Openings,
};
use audit::{Recording, outcome_of};
use authorization::Authorization;
use webhooks::Followers;

/// Time between two checks of the right to a result that goes on.
const REVOCATION_INTERVAL: Duration = Duration::from_secs(2);

/// How the input of an operation names what it is about.
type Named<O> = <<O as Operation>::Target as Target>::Named;

/// Runs operations: finds what they are about, checks the right, runs them, and writes the audit entry. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    config: Arc<Config>,
    store: Store,
    deployer: Deployer,
    instances: Instances,
    tasks: Tasks,
    driver: Driver,
    openings: Openings,
    imports: Imports,
    followers: Followers,
    audit: AuditLog,
}

impl Operations {
    /// Operations act on these. What follows events of forges runs on `tracker`, until `shutdown`.
    #[expect(clippy::too_many_arguments, reason = "each is another part of the server")]
    pub fn new(
        config: Arc<Config>,
        store: Store,
        deployer: Deployer,
        instances: Instances,
        tasks: Tasks,
        driver: Driver,
        openings: Openings,
        imports: Imports,
        audit: AuditLog,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let followers = Followers::new(tracker, shutdown);
        Self { config, store, deployer, instances, tasks, driver, openings, imports, followers, audit }
    }

    /// Runs an operation. The only way to run one.
    pub async fn run<O: Operation>(&self, call: &Call<'_>, operation: O) -> Result<O::Output> {
        let named = operation.target();
        let each_app = O::Target::is_several(&named);
        let entry = NewEvent { detail: operation.audit(), ..begun::<O>(call.caller, &named) };
        let (target, held) = match self.authorize(call, &operation, named).await {
            Ok(authorized) => authorized,
            Err(failure) => return Err(self.refused(entry, failure).await),
        };
        let entry = match target.apps() {
            [app] if !each_app => entry.about(app.id, app.name.clone()),
            _ => entry,
        };
        match O::EFFECT {
            Effect::Read => {
                let result = operation.run(&self.context(call, held, &Recording::None), target).await;
                self.audit.record(ended(entry, &result));
                result.inspect_err(log_internal)
            }
            Effect::Change => {
                // Begun before anything is changed, so that a server that dies meanwhile leaves an entry.
                let recording = if each_app {
                    Recording::of_each_app(&self.audit, entry)
                } else {
                    Recording::of_whole(&self.audit, entry).await?
                };
                let result = operation.run(&self.context(call, held, &recording), target).await;
                recording.end(outcome_of(&result)).await;
                result.inspect_err(log_internal)
            }
        }
    }

    /// Finds what an operation of this kind is about and checks the caller's right, without running it: before
    /// something is asked or read that it needs. A refusal is recorded.
    pub async fn check<O: Operation>(&self, caller: &Caller, named: Named<O>) -> Result<O::Target> {
        let entry = begun::<O>(caller, &named);
        match self.resolve::<O>(caller, named).await {
            Ok((target, _)) => Ok(target),
            Err(failure) => Err(self.refused(entry, failure).await),
        }
    }

    /// The same caller with the rights of this moment, for a connection that outlives one command.
    ///
    /// # Errors
    ///
    /// If the key is no longer registered, or the token was revoked or has expired.
    pub async fn present(&self, caller: &Caller) -> Result<Caller> {
        Caller::of_actor(&caller.actor, &self.store).await
    }

    /// Waits until the caller has no right any more to an operation whose result goes on, or a lower one than at the
    /// beginning, with which less may be shown. Returns why.
    pub async fn revoked<O: Operation>(&self, caller: &Caller, named: Named<O>) -> Failure {
        let mut before = None;
        loop {
            let checked = async {
                let caller = Caller::of_actor(&caller.actor, &self.store).await?;
                self.resolve::<O>(&caller, named.clone()).await
            };
            match checked.await {
                Err(failure) if failure.kind != FailureKind::Internal => return failure,
                Err(failure) => tracing::error!(error = %failure, "cannot check a right again"),
                Ok((_, held)) if before.is_some_and(|before| held < before) => {
                    let text = "your role was lowered meanwhile; repeat the command";
                    return Failure::new(FailureKind::Denied, text);
                }
                Ok((_, held)) => before = Some(held),
            }
            tokio::time::sleep(REVOCATION_INTERVAL).await;
        }
    }

    /// Records that an operation was refused. The members of an app see which of them it was; attempts of others are
    /// recorded without the app, where they hide nothing from its members.
    async fn refused(&self, entry: NewEvent, failure: Failure) -> Failure {
        log_internal(&failure);
        let app = match &entry.app_name {
            Some(name) if failure.kind == FailureKind::Denied => self.store.find_app(name.clone()).await.ok().flatten(),
            _ => None,
        };
        let result: Result = Err(failure.clone());
        self.audit.record(NewEvent { app: app.map(|app| app.id), ..ended(entry, &result) });
        failure
    }

    /// Finds what an operation is about and checks the caller's right, also to this input. Returns the right that the
    /// caller has on it.
    async fn authorize<O: Operation>(
        &self,
        call: &Call<'_>,
        operation: &O,
        named: Named<O>,
    ) -> Result<(O::Target, Right)> {
        let (target, held) = self.resolve::<O>(call.caller, named).await?;
        let context = self.context(call, held, &Recording::None);
        context.require(operation.requirement(&context, &target).await?)?;
        if O::TAKES_DISK {
            self.deployer.floor().check()?;
        }
        Ok((target, held))
    }

    async fn resolve<O: Operation>(&self, caller: &Caller, named: Named<O>) -> Result<(O::Target, Right)> {
        let authorization = Authorization { store: &self.store, caller, operation: O::NAME };
        O::Target::resolve(named, &authorization, O::RIGHT).await
    }

    fn context<'a>(&'a self, call: &'a Call<'_>, held: Right, recording: &'a Recording) -> Context<'a> {
        Context {
            config: &self.config,
            store: &self.store,
            deployer: &self.deployer,
            instances: &self.instances,
            tasks: &self.tasks,
            driver: &self.driver,
            openings: &self.openings,
            imports: &self.imports,
            audit: &self.audit,
            recording,
            caller: call.caller,
            held,
            progress: call.progress,
            attachment: call.attachment,
            hangup: call.hangup,
        }
    }
}

/// The entry of an operation that begins.
fn begun<O: Operation>(caller: &Caller, named: &Named<O>) -> NewEvent {
    let entry = NewEvent::begun(caller.actor.clone(), O::NAME, O::EFFECT);
    NewEvent { app_name: O::Target::app_name(named), ..entry }
}

/// The entry of an operation that has ended with this result.
fn ended<T>(entry: NewEvent, result: &Result<T>) -> NewEvent {
    let (outcome, message) = outcome_of(result);
    entry.ended(outcome, message)
}

/// The server's log has the cause of its own failures.
fn log_internal(failure: &Failure) {
    if failure.kind == FailureKind::Internal {
        tracing::error!(error = %failure, "an operation failed");
    }
}
