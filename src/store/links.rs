//! Which app may reach which other app by an internal name. An app that is being destroyed has no links.

use std::collections::BTreeSet;

use rusqlite::Transaction;

use super::{
    columns::text,
    database::Store,
    error::Result,
    ids::AppId,
    time::{Millis, now},
};
use crate::model::AppName;

/// A link of an app, seen from one of its sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The app on the other side.
    pub app: AppId,
    /// Its name.
    pub name: AppName,
    /// Name of the user who made the link.
    pub created_by: String,
    /// Time at which it was made.
    pub created_at: Millis,
}

/// The links of an app, each list by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// To the apps that it may reach.
    pub to: Vec<Link>,
    /// From the apps that may reach it.
    pub from: Vec<Link>,
}

impl Store {
    /// Lets the instances and tasks of `source` reach `target`; whether that is new.
    pub async fn link_apps(&self, source: AppId, target: AppId, by: String) -> Result<bool> {
        self.transact(move |t, _| {
            let sql = "INSERT INTO links (source, target, created_by, created_at) VALUES (?1, ?2, ?3, ?4)
                       ON CONFLICT DO NOTHING";
            Ok(t.execute(sql, (source.0, target.0, by, now()))? > 0)
        })
        .await
    }

    /// Takes back what [`Self::link_apps`] did; whether there was a link.
    pub async fn unlink_apps(&self, source: AppId, target: AppId) -> Result<bool> {
        self.transact(move |t, _| {
            Ok(t.execute("DELETE FROM links WHERE source = ?1 AND target = ?2", (source.0, target.0))? > 0)
        })
        .await
    }

    /// The links of an app.
    pub async fn links(&self, app: AppId) -> Result<Links> {
        self.read(move |t, _| {
            Ok(Links { to: side(t, app, "source", "target")?, from: side(t, app, "target", "source")? })
        })
        .await
    }

    /// Names of the apps that the app of this name may reach.
    pub async fn linked_names(&self, app: AppName) -> Result<Vec<AppName>> {
        self.read(move |t, _| {
            let mut query = t.prepare_cached(
                "SELECT target.name FROM links JOIN apps AS source ON source.id = links.source
                                               JOIN apps AS target ON target.id = links.target
                 WHERE source.name = ?1 AND NOT source.destroying AND NOT target.destroying ORDER BY target.name",
            )?;
            query.query_and_then([app.as_str()], |row| text(row, "name", "app name"))?.collect()
        })
        .await
    }
}

fn side(t: &Transaction<'_>, app: AppId, own: &str, other: &str) -> Result<Vec<Link>> {
    let mut query = t.prepare_cached(&format!(
        "SELECT apps.id, name, created_by, links.created_at FROM links JOIN apps ON apps.id = links.{other}
         WHERE links.{own} = ?1 AND NOT destroying ORDER BY name"
    ))?;
    let links = query.query_and_then([app.0], |row| {
        Ok(Link {
            app: AppId(row.get("id")?),
            name: text(row, "name", "app name")?,
            created_by: row.get("created_by")?,
            created_at: row.get("created_at")?,
        })
    });
    links?.collect()
}

/// Each app that may reach another, with a port that leads to that one.
pub(super) fn ports(t: &Transaction<'_>) -> Result<Vec<(AppId, u16)>> {
    let mut query = t.prepare_cached(
        "SELECT links.source, ports.host_port FROM links JOIN ports ON ports.app = links.target AND ports.active
                                                         JOIN apps AS source ON source.id = links.source
                                                         JOIN apps AS target ON target.id = links.target
         WHERE NOT source.destroying AND NOT target.destroying",
    )?;
    let rows = query.query_map([], |row| Ok((AppId(row.get("source")?), row.get("host_port")?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The apps that others may reach.
pub(super) fn targets(t: &Transaction<'_>) -> Result<BTreeSet<AppId>> {
    let mut query = t.prepare_cached("SELECT DISTINCT target FROM links")?;
    let rows = query.query_map([], |row| Ok(AppId(row.get("target")?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
