//! Port mappings: ports of the router that lead to the instances of an app's exposed process type.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{
    columns::text,
    database::Store,
    error::{Result, StoreError},
    ids::AppId,
    quotas,
    time::{Millis, now},
};
use crate::model::{CONTAINER_PORT, Resource};

/// Protocol of a mapped port.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PortScheme {
    /// HTTP/1.1.
    Http,
    /// A stream of bytes.
    Tcp,
}

impl PortScheme {
    /// Name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

impl std::str::FromStr for PortScheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Http, Self::Tcp].into_iter().find(|s| s.as_str() == text).ok_or_else(|| text.to_owned())
    }
}

/// `scheme:host-port:container-port` of an app's exposed process type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortMapping {
    /// Protocol.
    pub scheme: PortScheme,
    /// Port of the router.
    pub host_port: u16,
    /// Port that the instances listen on.
    pub container_port: u16,
}

impl std::fmt::Display for PortMapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.scheme.as_str(), self.host_port, self.container_port)
    }
}

fn mapping(row: &Row<'_>) -> Result<PortMapping> {
    Ok(PortMapping {
        scheme: text(row, "scheme", "port scheme")?,
        host_port: row.get("host_port")?,
        container_port: row.get("container_port")?,
    })
}

/// Active port mappings of all apps.
pub(super) fn all(t: &Transaction<'_>) -> Result<Vec<(AppId, PortMapping)>> {
    let mut query = t.prepare_cached(
        "SELECT scheme, host_port, container_port, app FROM ports WHERE active ORDER BY automatic DESC, host_port",
    )?;
    query.query_and_then([], |row| Ok((AppId(row.get("app")?), mapping(row)?)))?.collect()
}

/// Ports that apps of other owners have freed, and when.
fn freed(t: &Transaction<'_>, app: AppId) -> Result<HashMap<u16, Millis>> {
    let mut query = t.prepare_cached(
        "SELECT host_port, freed_at FROM freed_ports WHERE owner IS NOT (SELECT user FROM app_owners WHERE app = ?1)",
    )?;
    Ok(query
        .query_map([app.0], |row| Ok((row.get("host_port")?, row.get("freed_at")?)))?
        .collect::<rusqlite::Result<_>>()?)
}

/// Milliseconds for which a port still rests that was freed at this time. A time in the future means that the clock was set
/// back.
fn resting(freed_at: Millis, rest: Duration) -> Millis {
    let rest = Millis::try_from(rest.as_millis()).unwrap_or(Millis::MAX);
    let since = now() - freed_at;
    if since < 0 { 0 } else { (rest - since).max(0) }
}

/// Gives the app its automatic port: the lowest of the range that belongs to no app, is not in `avoid` and did not belong to
/// another owner a short time ago; if there is none, the one of these that has been free the longest.
pub(super) fn allocate(
    t: &Transaction<'_>,
    app: AppId,
    range: std::ops::RangeInclusive<u16>,
    avoid: &[u16],
    rest: Duration,
) -> Result<u16> {
    let mut query = t.prepare_cached("SELECT host_port FROM ports")?;
    let used = query.query_map([], |row| row.get("host_port"))?.collect::<rusqlite::Result<HashSet<u16>>>()?;
    let freed = freed(t, app)?;
    let (first, last) = (*range.start(), *range.end());
    let free = range.into_iter().filter(|port| !used.contains(port) && !avoid.contains(port));
    let rests = |port: &u16| freed.get(port).is_some_and(|at| resting(*at, rest) > 0);
    let port = free.min_by_key(|port| if rests(port) { (1, freed[port]) } else { (0, port.to_owned().into()) });
    let port = port.ok_or_else(|| {
        StoreError::Exhausted(format!(
            "all ports from {first} to {last} are taken; widen router.first_port and router.last_port in paas.toml"
        ))
    })?;
    t.execute("INSERT INTO ports (host_port, app, automatic, active, scheme, container_port) VALUES (?1, ?2, 1, 1, 'http', ?3)", (port, app.0, CONTAINER_PORT))?;
    Ok(port)
}

impl Store {
    /// Active port mappings of the app, the automatic one first.
    pub async fn port_mappings(&self, app: AppId) -> Result<Vec<PortMapping>> {
        self.read(move |t, _| {
            let mut query = t.prepare_cached(
                "SELECT scheme, host_port, container_port FROM ports WHERE app = ?1 AND active
                 ORDER BY automatic DESC, host_port",
            )?;
            query.query_and_then([app.0], mapping)?.collect()
        })
        .await
    }

    /// Replaces the app's port mappings. Without any, the automatic port is active again; until then it stays reserved
    /// for the app.
    pub async fn set_port_mappings(&self, app: AppId, mappings: Vec<PortMapping>) -> Result<()> {
        let limits = self.limits();
        let rest = limits.port_rest;
        self.transact(move |t, _| quotas::within(t, &limits, app, &[Resource::Mappings, Resource::Ports], || {
            let freed = freed(t, app)?;
            t.execute("DELETE FROM ports WHERE app = ?1 AND NOT automatic", [app.0])?;
            t.execute(
                "UPDATE ports SET active = ?2, scheme = 'http', container_port = ?3 WHERE app = ?1",
                (app.0, mappings.is_empty(), CONTAINER_PORT),
            )?;
            for m in &mappings {
                let owner: Option<i64> = t
                    .query_row("SELECT app FROM ports WHERE host_port = ?1", [m.host_port], |row| row.get("app"))
                    .optional()?;
                match owner {
                    Some(owner) if owner == app.0 => {
                        t.execute(
                            "UPDATE ports SET active = 1, scheme = ?2, container_port = ?3 WHERE host_port = ?1",
                            (m.host_port, m.scheme.as_str(), m.container_port),
                        )?;
                    }
                    // Not which one: the caller may not see it.
                    Some(_) => {
                        let text = format!("port {} belongs to another app; choose another port", m.host_port);
                        return Err(StoreError::Taken(text));
                    }
                    None => {
                        let rests = freed.get(&m.host_port).map_or(0, |at| resting(*at, rest));
                        if rests > 0 {
                            return Err(StoreError::Taken(format!(
                                "port {} belonged to another owner until a short time ago; choose another port, or wait for {} s",
                                m.host_port,
                                (rests + 999) / 1000
                            )));
                        }
                        t.execute(
                            "INSERT INTO ports (host_port, app, automatic, active, scheme, container_port)
                             VALUES (?1, ?2, 0, 1, ?3, ?4)",
                            (m.host_port, app.0, m.scheme.as_str(), m.container_port),
                        )?;
                    }
                }
            }
            Ok(())
        }))
        .await
    }

    /// Gives the app another automatic port, because another program listens on the present one. Returns the new port.
    pub async fn move_automatic_port(
        &self,
        app: AppId,
        range: std::ops::RangeInclusive<u16>,
        avoid: Vec<u16>,
    ) -> Result<u16> {
        let rest = self.limits().port_rest;
        self.transact(move |t, _| {
            t.execute("DELETE FROM ports WHERE app = ?1 AND automatic", [app.0])?;
            allocate(t, app, range, &avoid, rest)
        })
        .await
    }
}
