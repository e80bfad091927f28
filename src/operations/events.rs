//! Operations of the audit log.

use std::collections::BTreeSet;

use futures_util::{Stream, StreamExt as _, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::{
    audit,
    authorization::Authorization,
    caller::Caller,
    context::Context,
    failure::{Failure, Result},
    operation::{Follow, Operation},
    selection::AppSelection,
    target::Server,
    time::{Since, Time},
};
use crate::{
    model::{AppName, Right},
    store::{Actor, App, AppId, Door, Effect, Event, EventFilter, EventId, Outcome, Store},
};

/// Shows the audit log: who did what, when, and how it ended.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ShowEvents {
    /// App; without it, all that the caller may operate, and for admins the server.
    pub app: Option<AppName>,
    /// Continue with new events as they happen, until the reader falls far behind.
    #[arg(short, long)]
    #[serde(default)]
    pub tail: bool,
    /// Number of past events.
    #[arg(short, long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_LISTED_EVENTS)))]
    #[serde(default = "default_num")]
    #[schemars(range(max = MAX_LISTED_EVENTS))]
    pub num: u32,
    /// Only past events before that of this number.
    #[arg(long, value_name = "EVENT")]
    pub before: Option<i64>,
    /// Only events of this period, such as 10m, 2d, or since an RFC 3339 time.
    #[arg(long, value_name = "PERIOD")]
    pub since: Option<Since>,
    /// Also reports and other reads.
    #[arg(long)]
    #[serde(default)]
    pub reads: bool,
}

/// Maximum number of past events.
const MAX_LISTED_EVENTS: u32 = 100_000;

fn default_num() -> u32 {
    100
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EventInfo {
    /// Number of the entry.
    pub id: i64,
    /// When it began.
    pub started_at: Time,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// Name of the user, or `local`.
    pub user: String,
    /// Fingerprint of the SSH key.
    pub fingerprint: Option<String>,
    /// Address from which the user connected.
    pub address: Option<String>,
    /// Where the operation came in.
    pub door: Door,
    /// Name of the operation.
    pub operation: String,
    /// Whether it changes anything.
    pub effect: Effect,
    /// App.
    pub app: Option<AppName>,
    /// What else was asked; never the value of a config var.
    pub detail: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed.
    pub message: Option<String>,
}

impl From<Event> for EventInfo {
    fn from(event: Event) -> Self {
        Self {
            id: event.id.0,
            started_at: Time(event.at),
            ended_at: event.ended_at.map(Time),
            user: event.actor.name,
            fingerprint: event.actor.fingerprint,
            address: event.actor.address,
            door: event.actor.door,
            operation: event.operation,
            effect: event.effect,
            app: event.app_name,
            detail: event.detail,
            outcome: event.outcome,
            message: event.message,
        }
    }
}

impl Operation for ShowEvents {
    const NAME: &'static str = "events";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Read;
    type Target = Vec<App>;
    type Output = Follow<EventInfo>;

    fn target(&self) -> AppSelection {
        AppSelection::one_or_all(self.app.as_ref())
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<Follow<EventInfo>> {
        if self.num > MAX_LISTED_EVENTS {
            return Err(Failure::invalid(format!(
                "{} events are too many; ask for at most {MAX_LISTED_EVENTS}",
                self.num
            )));
        }
        // An admin who names no app sees the events of the server, too.
        let everything = self.app.is_none() && context.held >= Right::Admin;
        let apps: BTreeSet<AppId> = apps.iter().map(|app| app.id).collect();
        context.audit.flush().await;
        let new = context.audit.follow();
        let filter = EventFilter {
            apps: (!everything).then(|| apps.iter().copied().collect()),
            since: self.since.map(|since| since.0),
            reads: self.reads,
            before: self.before.map(EventId),
            max: self.num,
        };
        let past = context.store.events(filter).await?;
        // Those that ended after `follow` and before the query come twice.
        let shown: BTreeSet<_> = past.iter().filter(|event| event.ended_at.is_some()).map(|event| event.id).collect();
        let past = stream::iter(past);
        if !self.tail {
            return Ok(Follow(past.map(EventInfo::from).boxed()));
        }
        let reads = self.reads;
        let (store, actor) = (context.store.clone(), context.caller.actor.clone());
        let new = followed(new).filter(move |event| {
            let is_selected = (everything || event.app.is_some_and(|app| apps.contains(&app)))
                && (reads || event.effect == Effect::Change)
                && !shown.contains(&event.id);
            let (store, actor, app) = (store.clone(), actor.clone(), event.app);
            async move { is_selected && may_see(&store, &actor, app).await }
        });
        Ok(Follow(past.chain(new).map(EventInfo::from).boxed()))
    }
}

/// Events as they come, until the reader is so slow that it would miss some.
fn followed(events: broadcast::Receiver<Event>) -> impl Stream<Item = Event> + Send {
    stream::unfold(events, |mut events| async { events.recv().await.ok().map(|event| (event, events)) })
}

/// Whether someone may still see the events of an app, or without an app those of the server.
async fn may_see(store: &Store, actor: &Actor, app: Option<AppId>) -> bool {
    let asked = async {
        let caller = Caller::of_actor(actor, store).await?;
        let authorization = Authorization { store, caller: &caller, operation: ShowEvents::NAME };
        let right = if app.is_some() { ShowEvents::RIGHT } else { Right::Admin };
        authorization.has_right(app, right).await
    };
    asked.await.unwrap_or_else(|failure| {
        tracing::warn!(error = %failure, user = actor.name, "an event is not shown to a follower");
        false
    })
}

/// Records operations in the audit log again.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SwitchEventsOn {}

/// Records no more operations in the audit log, except that it was switched off or on.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SwitchEventsOff {}

/// Whether operations are recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EventsSwitch {
    /// Whether they are.
    pub on: bool,
}

impl Operation for SwitchEventsOn {
    const NAME: &'static str = audit::SWITCH_ON;
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = EventsSwitch;

    fn target(&self) {}

    async fn run(self, context: &Context<'_>, _: Server) -> Result<EventsSwitch> {
        context.audit.switch(true).await?;
        Ok(EventsSwitch { on: true })
    }
}

impl Operation for SwitchEventsOff {
    const NAME: &'static str = audit::SWITCH_OFF;
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = EventsSwitch;

    fn target(&self) {}

    async fn run(self, context: &Context<'_>, _: Server) -> Result<EventsSwitch> {
        context.audit.switch(false).await?;
        Ok(EventsSwitch { on: false })
    }
}
