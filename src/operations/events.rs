//! Operations of the audit log.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;

use super::{
    context::Context,
    failure::Result,
    operation::{Follow, Operation},
    selection::AppSelection,
    target::Server,
    time::{Since, Time},
};
use crate::{
    model::{AppName, Right},
    store::{App, AppId, Door, Effect, Event, EventFilter, Outcome},
};

/// Shows the audit log: who did what, when, and how it ended.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
pub struct ShowEvents {
    /// App; without it, all that the caller may operate, and for admins the server.
    pub app: Option<AppName>,
    /// Continue with new events as they happen.
    #[arg(short, long)]
    #[serde(default)]
    pub tail: bool,
    /// Number of past events.
    #[arg(short, long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    #[serde(default = "default_num")]
    pub num: u32,
    /// Only events of this period, such as 10m, 2d, or since an RFC 3339 time.
    #[arg(long, value_name = "PERIOD")]
    pub since: Option<Since>,
    /// Also reports and other reads.
    #[arg(long)]
    #[serde(default)]
    pub reads: bool,
}

fn default_num() -> u32 {
    100
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EventInfo {
    /// Number of the entry.
    pub id: i64,
    /// When it began.
    pub at: Time,
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
            at: Time(event.at),
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
        AppSelection::new(self.app.as_ref(), true)
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<Follow<EventInfo>> {
        // An admin who names no app sees the events of the server, too.
        let everything = self.app.is_none() && context.caller.admin;
        let apps: BTreeSet<AppId> = apps.iter().map(|app| app.id).collect();
        let new = context.audit.follow();
        let filter = EventFilter {
            app: None,
            apps: (!everything).then(|| apps.iter().copied().collect()),
            since: self.since.map(|since| since.0),
            after: None,
            reads: self.reads,
            max: self.num,
        };
        let past = context.store.events(filter).await?;
        let last = past.last().map(|event| event.id);
        let past = stream::iter(past);
        if !self.tail {
            return Ok(Follow(past.map(EventInfo::from).boxed()));
        }
        let reads = self.reads;
        let shown = move |event: &Event| {
            let is_new = event.effect == Effect::Change || last.is_none_or(|last| event.id > last);
            let is_visible = everything || event.app.is_some_and(|app| apps.contains(&app));
            is_new && is_visible && (reads || event.effect == Effect::Change)
        };
        let new = stream::unfold(new, |mut new| async {
            loop {
                match new.recv().await {
                    Ok(event) => return Some((event, new)),
                    // A reader that is too slow misses some; `events` shows all.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        let new = new.filter(move |event| std::future::ready(shown(event)));
        Ok(Follow(past.chain(new).map(EventInfo::from).boxed()))
    }
}

/// Records operations in the audit log again.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
pub struct SwitchEventsOn {}

/// Records no more operations in the audit log, except that it was switched off or on.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
pub struct SwitchEventsOff {}

/// Whether operations are recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EventsSwitch {
    /// Whether they are.
    pub on: bool,
}

impl Operation for SwitchEventsOn {
    const NAME: &'static str = "events:on";
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
    const NAME: &'static str = "events:off";
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
