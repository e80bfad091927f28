//! Events: the audit log of what was done on the server, and by whom.

mod actor;
mod outcome;
mod switch;

use rusqlite::{Row, ToSql, Transaction};

use super::{
    columns::{optional_text, text, to_plain_json},
    database::Store,
    error::Result,
    ids::{AppId, EventId, UserId},
    time::{Millis, now},
};
use crate::model::AppName;

pub use actor::{Actor, Door};
pub use outcome::{Effect, Outcome};

/// An event to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Time of the start.
    pub at: Millis,
    /// Who did it.
    pub actor: Actor,
    /// Name of the operation, such as `ps:scale`.
    pub operation: String,
    /// Whether the operation changes anything.
    pub effect: Effect,
    /// The app that the operation is about.
    pub app: Option<AppId>,
    /// Name of the app, which may not exist.
    pub app_name: Option<AppName>,
    /// Arguments, without secrets.
    pub detail: String,
    /// How the operation ended, if it has.
    pub outcome: Outcome,
    /// The error that the caller was shown.
    pub message: Option<String>,
    /// Time of the end.
    pub ended_at: Option<Millis>,
}

impl NewEvent {
    /// An operation that begins now, about no app and without arguments.
    pub fn begun(actor: Actor, operation: &str, effect: Effect) -> Self {
        Self {
            at: now(),
            actor,
            operation: operation.to_owned(),
            effect,
            app: None,
            app_name: None,
            detail: String::new(),
            outcome: Outcome::Running,
            message: None,
            ended_at: None,
        }
    }

    /// The same, about this app.
    #[must_use]
    pub fn about(self, app: AppId, name: AppName) -> Self {
        Self { app: Some(app), app_name: Some(name), ..self }
    }

    /// The same, ended now.
    #[must_use]
    pub fn ended(self, outcome: Outcome, message: Option<String>) -> Self {
        Self { outcome, message, ended_at: Some(now()), ..self }
    }

    /// The event, once it is recorded.
    pub fn recorded(self, id: EventId) -> Event {
        let Self { at, actor, operation, effect, app, app_name, detail, outcome, message, ended_at } = self;
        Event { id, at, actor, operation, effect, app, app_name, detail, outcome, message, ended_at }
    }
}

/// A recorded event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Identity.
    pub id: EventId,
    /// Time of the start.
    pub at: Millis,
    /// Who did it.
    pub actor: Actor,
    /// Name of the operation, such as `ps:scale`.
    pub operation: String,
    /// Whether the operation changes anything.
    pub effect: Effect,
    /// The app that the operation is about.
    pub app: Option<AppId>,
    /// Name of the app, as it was then.
    pub app_name: Option<AppName>,
    /// Arguments, without secrets.
    pub detail: String,
    /// How the operation ended, if it has.
    pub outcome: Outcome,
    /// The error that the caller was shown.
    pub message: Option<String>,
    /// Time of the end.
    pub ended_at: Option<Millis>,
}

/// Which events to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only events of these apps; `None` for all apps and events without an app.
    pub apps: Option<Vec<AppId>>,
    /// Only events from this time on.
    pub since: Option<Millis>,
    /// Whether to include operations that only read.
    pub reads: bool,
    /// Only events before this one.
    pub before: Option<EventId>,
    /// Maximum number of events.
    pub max: u32,
}

const COLUMNS: &str = "id, at, user, user_name, fingerprint, address, door, operation, effect, app, app_name, detail, \
    outcome, message, ended_at";

fn event(row: &Row<'_>) -> Result<Event> {
    Ok(Event {
        id: EventId(row.get("id")?),
        at: row.get("at")?,
        actor: Actor {
            user: row.get::<_, Option<i64>>("user")?.map(UserId),
            name: row.get("user_name")?,
            fingerprint: row.get("fingerprint")?,
            address: row.get("address")?,
            door: text(row, "door", "door")?,
        },
        operation: row.get("operation")?,
        effect: text(row, "effect", "effect")?,
        app: row.get::<_, Option<i64>>("app")?.map(AppId),
        app_name: optional_text(row, "app_name", "app name")?,
        detail: row.get("detail")?,
        outcome: text(row, "outcome", "outcome")?,
        message: row.get("message")?,
        ended_at: row.get("ended_at")?,
    })
}

/// Values of the named parameters of a query.
type Parameters = Vec<(&'static str, Box<dyn ToSql>)>;

/// The condition of a filter, and the values of its parameters.
fn condition(filter: EventFilter) -> Result<(String, Parameters)> {
    let EventFilter { apps, since, reads, before, max } = filter;
    let mut conditions = vec!["true"];
    let mut values: Parameters = vec![(":max", Box::new(max))];
    if let Some(apps) = apps {
        conditions.push("app IN (SELECT value FROM json_each(:apps))");
        let apps: Vec<_> = apps.iter().map(|app| app.0).collect();
        values.push((":apps", Box::new(to_plain_json("apps", &apps)?)));
    }
    if let Some(since) = since {
        conditions.push("at >= :since");
        values.push((":since", Box::new(since)));
    }
    if let Some(before) = before {
        conditions.push("id < :before");
        values.push((":before", Box::new(before.0)));
    }
    if !reads {
        conditions.push("effect != 'read'");
    }
    Ok((conditions.join(" AND "), values))
}

fn add(t: &Transaction<'_>, new: &NewEvent) -> Result<EventId> {
    t.prepare_cached(
        "INSERT INTO events (at, user, user_name, fingerprint, address, door, operation, effect, app, app_name, detail,
            outcome, message, ended_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?
    .execute((
        new.at,
        new.actor.user.map(|user| user.0),
        &new.actor.name,
        &new.actor.fingerprint,
        &new.actor.address,
        new.actor.door.as_str(),
        &new.operation,
        new.effect.as_str(),
        new.app.map(|app| app.0),
        new.app_name.as_ref().map(AppName::as_str),
        &new.detail,
        new.outcome.as_str(),
        &new.message,
        new.ended_at,
    ))?;
    Ok(EventId(t.last_insert_rowid()))
}

impl Store {
    /// Records an event.
    pub async fn add_event(&self, new: NewEvent) -> Result<EventId> {
        self.transact(move |t, _| add(t, &new)).await
    }

    /// Records several events in one transaction. Returns their identities in the same order.
    pub async fn add_events(&self, new: Vec<NewEvent>) -> Result<Vec<EventId>> {
        self.transact(move |t, _| new.iter().map(|new| add(t, new)).collect()).await
    }

    /// Records the end of a running event, and its app.
    pub async fn end_event(&self, id: EventId, ended: NewEvent) -> Result<()> {
        self.transact(move |t, _| {
            t.prepare_cached(
                "UPDATE events SET app = ?2, app_name = ?3, outcome = ?4, message = ?5, ended_at = ?6
                 WHERE id = ?1 AND outcome = 'running'",
            )?
            .execute((
                id.0,
                ended.app.map(|app| app.0),
                ended.app_name.as_ref().map(AppName::as_str),
                ended.outcome.as_str(),
                &ended.message,
                ended.ended_at,
            ))?;
            Ok(())
        })
        .await
    }

    /// The newest events that match, oldest first.
    pub async fn events(&self, filter: EventFilter) -> Result<Vec<Event>> {
        self.read(move |t, _| {
            let (condition, values) = condition(filter)?;
            let values: Vec<(&str, &dyn ToSql)> = values.iter().map(|(name, value)| (*name, &**value)).collect();
            let sql = format!("SELECT {COLUMNS} FROM events WHERE {condition} ORDER BY id DESC LIMIT :max");
            let mut query = t.prepare_cached(&sql)?;
            let mut events: Vec<_> = query.query_and_then(&values[..], event)?.collect::<Result<_>>()?;
            events.reverse();
            Ok(events)
        })
        .await
    }

    /// Removes the events that have ended and either began before this time or are older than the newest `max`. Returns
    /// how many.
    pub async fn remove_old_events(&self, before: Millis, max: u32) -> Result<u64> {
        self.transact(move |t, _| {
            let removed = t.execute(
                "DELETE FROM events WHERE outcome != 'running'
                    AND (at < ?1 OR id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?2))",
                (before, max),
            )?;
            Ok(u64::try_from(removed).unwrap_or(u64::MAX))
        })
        .await
    }
}
