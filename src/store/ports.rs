//! Ports of the host that belong to apps.

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{AppId, Result, Store, StoreError, read};
use crate::model::{AppName, CONTAINER_PORT};

/// How a mapped port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortScheme {
    /// HTTP/1.1.
    Http,
    /// Bytes.
    Tcp,
}

impl PortScheme {
    /// As it is stored and shown.
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

/// `scheme:host-port:container-port` of an app's web process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortMapping {
    /// How it speaks.
    pub scheme: PortScheme,
    /// The port of the host.
    pub host_port: u16,
    /// The port that the instances listen on.
    pub container_port: u16,
}

impl std::fmt::Display for PortMapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.scheme.as_str(), self.host_port, self.container_port)
    }
}

fn from_row(r: &Row<'_>) -> rusqlite::Result<(String, u16, u16)> {
    Ok((r.get(0)?, r.get(1)?, r.get(2)?))
}

fn mapping((scheme, host_port, container_port): (String, u16, u16)) -> Result<PortMapping> {
    Ok(PortMapping { scheme: read("port scheme", &scheme)?, host_port, container_port })
}

/// Gives the app its own port: the lowest of the range that nobody has.
pub(super) fn allocate(
    t: &Transaction<'_>,
    app: AppId,
    range: std::ops::RangeInclusive<u16>,
    avoid: &[u16],
) -> Result<u16> {
    let mut query = t.prepare_cached("SELECT host_port FROM ports")?;
    let used = query.query_map([], |r| r.get(0))?.collect::<rusqlite::Result<std::collections::HashSet<u16>>>()?;
    let (first, last) = (*range.start(), *range.end());
    let port = range.into_iter().find(|p| !used.contains(p) && !avoid.contains(p)).ok_or_else(|| {
        StoreError::Taken(format!(
            "all ports from {first} to {last} are taken; widen router.first_port and router.last_port in paas.toml"
        ))
    })?;
    t.execute("INSERT INTO ports VALUES (?1, ?2, 1, 1, 'http', ?3)", (port, app.0, CONTAINER_PORT))?;
    Ok(port)
}

impl Store {
    /// The app's mappings in force, the automatic one first.
    pub async fn port_mappings(&self, app: AppId) -> Result<Vec<PortMapping>> {
        self.transact(move |t, _| {
            let mut query = t.prepare_cached(
                "SELECT scheme, host_port, container_port FROM ports WHERE app = ?1 AND active
                 ORDER BY automatic DESC, host_port",
            )?;
            query.query_map([app.0], from_row)?.map(|row| mapping(row?)).collect()
        })
        .await
    }

    /// All mappings in force.
    pub async fn all_port_mappings(&self) -> Result<Vec<(AppId, PortMapping)>> {
        self.transact(|t, _| {
            let mut query = t.prepare_cached(
                "SELECT scheme, host_port, container_port, app FROM ports WHERE active ORDER BY automatic DESC, host_port",
            )?;
            query
                .query_map([], |r| Ok((AppId(r.get(3)?), from_row(r)?)))?
                .map(|row| row.map_err(StoreError::from).and_then(|(app, raw)| Ok((app, mapping(raw)?))))
                .collect()
        })
        .await
    }

    /// Replaces the app's mappings; without any, its automatic port comes back. The automatic port stays the app's own
    /// even while it is not in force.
    pub async fn set_port_mappings(&self, app: AppId, mappings: Vec<PortMapping>) -> Result<()> {
        self.transact(move |t, _| {
            t.execute("DELETE FROM ports WHERE app = ?1 AND NOT automatic", [app.0])?;
            t.execute(
                "UPDATE ports SET active = ?2, scheme = 'http', container_port = ?3 WHERE app = ?1",
                (app.0, mappings.is_empty(), CONTAINER_PORT),
            )?;
            for m in &mappings {
                let owner: Option<(i64, String)> = t
                    .query_row(
                        "SELECT app, name FROM ports JOIN apps ON apps.id = app WHERE host_port = ?1",
                        [m.host_port],
                        |r| Ok((r.get(0)?, r.get(1)?)),
                    )
                    .optional()?;
                match owner {
                    Some((id, _)) if id == app.0 => {
                        t.execute(
                            "UPDATE ports SET active = 1, scheme = ?2, container_port = ?3 WHERE host_port = ?1",
                            (m.host_port, m.scheme.as_str(), m.container_port),
                        )?;
                    }
                    Some((_, name)) => {
                        let name: AppName = read("app name", &name)?;
                        return Err(StoreError::Taken(format!(
                            "port {} belongs to the app {name}; choose another, or remove it there first",
                            m.host_port
                        )));
                    }
                    None => {
                        t.execute(
                            "INSERT INTO ports VALUES (?1, ?2, 0, 1, ?3, ?4)",
                            (m.host_port, app.0, m.scheme.as_str(), m.container_port),
                        )?;
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// Gives the app another automatic port, because another program has the present one. Returns the new one.
    pub async fn move_automatic_port(
        &self,
        app: AppId,
        range: std::ops::RangeInclusive<u16>,
        avoid: Vec<u16>,
    ) -> Result<u16> {
        self.transact(move |t, _| {
            t.execute("DELETE FROM ports WHERE app = ?1 AND automatic", [app.0])?;
            allocate(t, app, range, &avoid)
        })
        .await
    }
}
