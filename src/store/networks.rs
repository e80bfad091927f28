//! What apps may reach besides what all may, and the openings in the packet filters that follow from it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use rusqlite::Transaction;

use super::{
    columns::{json, text, to_json},
    database::Store,
    error::Result,
    ids::AppId,
    links,
    time::{Millis, now},
};
use crate::model::{AddressPlan, Destination, NetworkTarget, Opening, Protocol, TargetPlace};

/// What an app may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedTarget {
    /// Where and which port.
    pub target: NetworkTarget,
    /// The addresses of a name, as it resolved last.
    pub addresses: Vec<IpAddr>,
    /// Name of the user who allowed it.
    pub created_by: String,
    /// Time at which it was allowed.
    pub created_at: Millis,
}

impl Store {
    /// Allows an app to reach a target, which is a name with these `addresses`, or another with none; whether it is new.
    pub async fn allow_target(
        &self,
        app: AppId,
        target: NetworkTarget,
        addresses: Vec<IpAddr>,
        by: String,
    ) -> Result<bool> {
        self.transact(move |t, _| {
            let addresses = to_json("addresses", &addresses)?;
            let sql = "INSERT INTO network_targets (app, target, addresses, created_by, created_at)
                       VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
            Ok(t.execute(sql, (app.0, target.to_string(), addresses, by, now()))? > 0)
        })
        .await
    }

    /// Takes back what [`Self::allow_target`] allowed; whether it was allowed.
    pub async fn deny_target(&self, app: AppId, target: NetworkTarget) -> Result<bool> {
        self.transact(move |t, _| {
            let sql = "DELETE FROM network_targets WHERE app = ?1 AND target = ?2";
            Ok(t.execute(sql, (app.0, target.to_string()))? > 0)
        })
        .await
    }

    /// What an app may reach, in the order in which it was allowed.
    pub async fn allowed_targets(&self, app: AppId) -> Result<Vec<AllowedTarget>> {
        self.read(move |t, _| {
            let mut query = t.prepare_cached(
                "SELECT target, addresses, created_by, created_at FROM network_targets WHERE app = ?1
                 ORDER BY created_at, target",
            )?;
            let rows = query.query_and_then([app.0], |row| {
                Ok(AllowedTarget {
                    target: text(row, "target", "network target")?,
                    addresses: json(row, "addresses", "addresses of a network target")?,
                    created_by: row.get("created_by")?,
                    created_at: row.get("created_at")?,
                })
            });
            rows?.collect()
        })
        .await
    }

    /// The targets of all apps that are names, each once, with the addresses that they resolved to last.
    pub async fn named_targets(&self) -> Result<BTreeMap<NetworkTarget, Vec<IpAddr>>> {
        self.read(|t, _| {
            let mut query = t.prepare_cached("SELECT target, addresses FROM network_targets")?;
            let rows = query.query_and_then([], |row| {
                Ok((text(row, "target", "network target")?, json(row, "addresses", "addresses of a network target")?))
            })?;
            let rows = rows.collect::<Result<Vec<(NetworkTarget, Vec<IpAddr>)>>>()?;
            Ok(rows.into_iter().filter(|(target, _)| matches!(target.place, TargetPlace::Name(_))).collect())
        })
        .await
    }

    /// Records what a name resolves to.
    pub async fn set_target_addresses(&self, target: NetworkTarget, addresses: Vec<IpAddr>) -> Result<()> {
        self.transact(move |t, _| {
            let addresses = to_json("addresses", &addresses)?;
            let sql = "UPDATE network_targets SET addresses = ?2 WHERE target = ?1";
            t.execute(sql, (target.to_string(), addresses))?;
            Ok(())
        })
        .await
    }

    /// The openings of all apps: for each address that an instance or task of an app has, what the app may reach.
    pub async fn openings(&self, plan: AddressPlan) -> Result<Vec<Opening>> {
        self.read(move |t, _| {
            let mut openings = Vec::new();
            let mut query = t.prepare_cached("SELECT app, target, addresses FROM network_targets")?;
            let rows = query.query_and_then([], |row| {
                let target: NetworkTarget = text(row, "target", "network target")?;
                Ok((AppId(row.get("app")?), target, json(row, "addresses", "addresses of a network target")?))
            })?;
            let targets = rows.collect::<Result<Vec<(AppId, NetworkTarget, Vec<IpAddr>)>>>()?;
            let links = links::ports(t)?;
            // Most servers have none: then the addresses do not matter.
            if targets.is_empty() && links.is_empty() {
                return Ok(openings);
            }
            let sources = addresses(t, plan)?;
            let router = Destination::Block(IpAddr::from(plan.router_address()).into());
            for (app, port) in links {
                for source in sources.iter().filter(|(owner, _)| *owner == app).map(|(_, address)| *address) {
                    let (source, protocol) = (source.into(), Some(Protocol::Tcp));
                    openings.push(Opening { source, destination: router, protocol, port: Some(port) });
                }
            }
            for (app, target, resolved) in targets {
                let destinations = match target.place {
                    TargetPlace::ThisMachine => vec![Destination::ThisMachine],
                    TargetPlace::Block(block) => vec![Destination::Block(block)],
                    TargetPlace::Name(_) => resolved.into_iter().map(Destination::Resolved).collect(),
                };
                for source in sources.iter().filter(|(owner, _)| *owner == app).map(|(_, address)| *address) {
                    let opening = |destination: &Destination| Opening {
                        source: source.into(),
                        destination: *destination,
                        protocol: None,
                        port: target.port,
                    };
                    openings.extend(destinations.iter().map(opening));
                }
            }
            Ok(openings)
        })
        .await
    }
}

/// The addresses that instances and tasks on this machine have, and the apps that these belong to.
pub(super) fn addresses(t: &Transaction<'_>, plan: AddressPlan) -> Result<Vec<(AppId, Ipv4Addr)>> {
    let mut query = t.prepare_cached(
        "SELECT instances.app, bridge, slot FROM local_addresses JOIN instances ON instances.id = holder
         UNION ALL SELECT tasks.app, bridge, slot FROM local_addresses JOIN tasks ON tasks.id = holder",
    )?;
    let rows =
        query.query_map([], |row| Ok((AppId(row.get("app")?), plan.instance(row.get("bridge")?, row.get("slot")?))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
