//! Where workloads run, and the addresses of this machine: a table that belongs to the local runtime alone.

use std::net::{IpAddr, Ipv4Addr};

use rusqlite::{OptionalExtension as _, Transaction};

use super::{
    database::Store,
    error::{Result, StoreError},
    time::now,
};
use crate::model::AddressPlan;

/// Name of the node that this machine is.
const LOCAL_NODE: &str = "local";

/// How a new workload is placed, in the transaction that adds its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// On this machine, with an address of this plan.
    Local(AddressPlan),
    /// The runtime assigns an address when the workload starts.
    AtStart,
}

/// Where a workload runs.
pub(super) struct Place {
    pub(super) node: String,
    pub(super) endpoint: Option<IpAddr>,
}

impl Placement {
    /// Places the workload of this identity.
    pub(super) fn place(self, t: &Transaction<'_>, id: &str) -> Result<Place> {
        let endpoint = match self {
            Self::Local(plan) => Some(take(t, plan, id)?.into()),
            Self::AtStart => None,
        };
        Ok(Place { node: LOCAL_NODE.to_owned(), endpoint })
    }
}

/// Takes an address on the first bridge with a free one: an address that was never used, or else the one that has been free
/// the longest.
fn take(t: &Transaction<'_>, plan: AddressPlan, holder: &str) -> Result<Ipv4Addr> {
    for bridge in 0..AddressPlan::APP_BRIDGES {
        let slot = match unused(t, bridge)? {
            Some(slot) => Some(slot),
            None => longest_free(t, bridge)?,
        };
        if let Some(slot) = slot {
            t.prepare_cached(
                "INSERT OR REPLACE INTO local_addresses (bridge, slot, holder, freed_at) VALUES (?1, ?2, ?3, NULL)",
            )?
            .execute((bridge, slot, holder))?;
            return Ok(plan.instance(bridge, slot));
        }
    }
    Err(StoreError::Taken("every instance address is in use; scale something down first".to_owned()))
}

fn unused(t: &Transaction<'_>, bridge: u32) -> Result<Option<u32>> {
    let next: u32 = t
        .prepare_cached("SELECT coalesce(max(slot) + 1, 0) AS next FROM local_addresses WHERE bridge = ?1")?
        .query_row([bridge], |row| row.get("next"))?;
    Ok(Some(next).filter(|slot| *slot < AddressPlan::INSTANCES_A_BRIDGE))
}

fn longest_free(t: &Transaction<'_>, bridge: u32) -> Result<Option<u32>> {
    let mut query = t.prepare_cached(
        "SELECT slot FROM local_addresses WHERE bridge = ?1 AND holder IS NULL ORDER BY freed_at, slot LIMIT 1",
    )?;
    Ok(query.query_row([bridge], |row| row.get("slot")).optional()?)
}

/// Frees the address of a workload, if it has one. It is used again after all addresses that have been free for longer.
pub(super) fn free(t: &Transaction<'_>, holder: &str) -> Result<()> {
    t.prepare_cached("UPDATE local_addresses SET holder = NULL, freed_at = ?2 WHERE holder = ?1")?
        .execute((holder, now()))?;
    Ok(())
}

impl Store {
    /// Records the addresses that the workloads of this machine have in this plan: rows of an older database lack them,
    /// and the configured range may have changed.
    pub async fn set_local_endpoints(&self, plan: AddressPlan) -> Result<()> {
        self.transact(move |t, _| {
            let mut held = t.prepare("SELECT holder, bridge, slot FROM local_addresses WHERE holder NOT NULL")?;
            let rows = held.query_map([], |row| Ok((row.get("holder")?, row.get("bridge")?, row.get("slot")?)))?;
            let held: Vec<(String, u32, u32)> = rows.collect::<rusqlite::Result<_>>()?;
            for table in ["instances", "tasks"] {
                let mut set = t.prepare(&format!("UPDATE {table} SET endpoint = ?2 WHERE id = ?1"))?;
                for (holder, bridge, slot) in &held {
                    set.execute((holder, plan.instance(*bridge, *slot).to_string()))?;
                }
            }
            Ok(())
        })
        .await
    }
}
