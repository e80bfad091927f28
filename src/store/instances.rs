//! Instances. The row of an instance is added before its container is created, and removed after it.

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{
    columns::text,
    database::Store,
    error::{Result, StoreError},
    ids::AppId,
    ports::PortMapping,
    time::{Millis, now},
};
use crate::model::{AddressPlan, CONTAINER_PORT, InstanceId, ProcessType, ReleaseNumber};

/// State of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// The container is created, started and checked, from `not_before` on.
    Starting,
    /// The instance passed its health check.
    Healthy,
    /// The instance is drained, stopped and removed.
    Retiring,
}

impl InstanceState {
    /// Name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Retiring => "retiring",
        }
    }
}

impl std::str::FromStr for InstanceState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Starting, Self::Healthy, Self::Retiring]
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| text.to_owned())
    }
}

/// An instance to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInstance {
    /// Random identity.
    pub id: InstanceId,
    /// Owning app.
    pub app: AppId,
    /// Generation of the deployment.
    pub generation: u64,
    /// Number of the release.
    pub release: ReleaseNumber,
    /// Process type.
    pub process_type: ProcessType,
    /// Number within the process type, from 1.
    pub ordinal: u32,
    /// How many predecessors of the same name failed in a row.
    pub restarts: u32,
    /// Earliest time of the start.
    pub not_before: Millis,
    /// Port that the release declares; a port mapping may name another.
    pub port: u16,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Random identity, and name of the container.
    pub id: InstanceId,
    /// Owning app.
    pub app: AppId,
    /// Generation of the deployment; it changes when other process types of the app are restarted.
    pub generation: u64,
    /// Number of the release.
    pub release: ReleaseNumber,
    /// Process type.
    pub process_type: ProcessType,
    /// Number within the process type, from 1.
    pub ordinal: u32,
    /// Bridge network of the address.
    pub bridge: u32,
    /// Number of the address on the bridge; see [`AddressPlan::instance`].
    pub slot: u32,
    /// Identity of the container, once it is created.
    pub container: Option<String>,
    /// State.
    pub state: InstanceState,
    /// How many predecessors of the same name failed in a row.
    pub restarts: u32,
    /// Earliest time of the start.
    pub not_before: Millis,
    /// Port that the release declares; a port mapping may name another.
    pub port: u16,
    /// Time at which the row was added.
    pub created_at: Millis,
}

impl Instance {
    /// Name within the app: `web.1`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.process_type, self.ordinal)
    }

    /// Port to which requests of a mapping go. The mapping's default container port stands for the release's port.
    pub fn port_of(&self, mapping: Option<&PortMapping>) -> u16 {
        let mapped = mapping.map(|mapping| mapping.container_port).filter(|port| *port != CONTAINER_PORT);
        mapped.unwrap_or(self.port)
    }
}

const COLUMNS: &str = "id, app, generation, release, process_type, ordinal, bridge, slot, container, state, restarts, \
    not_before, created_at, port";

fn instance(row: &Row<'_>) -> Result<Instance> {
    Ok(Instance {
        id: text(row, "id", "instance id")?,
        app: AppId(row.get("app")?),
        generation: row.get("generation")?,
        release: row.get("release")?,
        process_type: text(row, "process_type", "process type")?,
        ordinal: row.get("ordinal")?,
        bridge: row.get("bridge")?,
        slot: row.get("slot")?,
        container: row.get("container")?,
        state: text(row, "state", "instance state")?,
        restarts: row.get("restarts")?,
        not_before: row.get("not_before")?,
        port: row.get("port")?,
        created_at: row.get("created_at")?,
    })
}

/// Chooses an address on the first bridge with a free one: an address that was never used, or else the one that has
/// been free the longest.
fn allocate(t: &Transaction<'_>) -> Result<(u32, u32)> {
    for bridge in 0..AddressPlan::APP_BRIDGES {
        let in_use: u32 =
            t.query_row("SELECT count(*) AS used FROM instances WHERE bridge = ?1", [bridge], |row| row.get("used"))?;
        if in_use >= AddressPlan::INSTANCES_A_BRIDGE {
            continue;
        }
        let next: u32 = t.query_row(
            "SELECT coalesce(max(slot) + 1, 0) AS next FROM (
                SELECT slot FROM instances WHERE bridge = ?1 UNION ALL SELECT slot FROM freed_addresses WHERE bridge = ?1)",
            [bridge],
            |row| row.get("next"),
        )?;
        if next < AddressPlan::INSTANCES_A_BRIDGE {
            return Ok((bridge, next));
        }
        let oldest: Option<u32> = t
            .query_row(
                "SELECT slot FROM freed_addresses f WHERE bridge = ?1 AND NOT EXISTS (
                    SELECT 1 FROM instances i WHERE i.bridge = f.bridge AND i.slot = f.slot)
                 ORDER BY freed_at, slot LIMIT 1",
                [bridge],
                |row| row.get("slot"),
            )
            .optional()?;
        if let Some(slot) = oldest {
            return Ok((bridge, slot));
        }
    }
    Err(StoreError::Taken("every instance address is in use; scale something down first".to_owned()))
}

fn add(t: &Transaction<'_>, new: &NewInstance) -> Result<Instance> {
    let (bridge, slot) = allocate(t)?;
    t.execute("DELETE FROM freed_addresses WHERE bridge = ?1 AND slot = ?2", (bridge, slot))?;
    t.query_row_and_then(
        &format!(
            "INSERT INTO instances ({COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL, 'starting', ?9, ?10, ?11, ?12) RETURNING {COLUMNS}"
        ),
        (
            new.id.as_str(),
            new.app.0,
            new.generation,
            new.release,
            new.process_type.as_str(),
            new.ordinal,
            bridge,
            slot,
            new.restarts,
            new.not_before,
            now(),
            new.port,
        ),
        instance,
    )
}

/// The instances of all apps.
pub(super) fn all(t: &Transaction<'_>) -> Result<Vec<Instance>> {
    let sql = format!("SELECT {COLUMNS} FROM instances ORDER BY app, created_at, ordinal");
    t.prepare_cached(&sql)?.query_and_then([], instance)?.collect()
}

impl Store {
    /// Adds the row of an instance and gives it an address.
    pub async fn add_instance(&self, new: NewInstance) -> Result<Instance> {
        self.transact(move |t, _| add(t, &new)).await
    }

    /// Adds `new` in place of the failed instance `old`, which becomes retiring.
    pub async fn replace_instance(&self, old: InstanceId, new: NewInstance) -> Result<Instance> {
        self.transact(move |t, _| {
            t.execute("UPDATE instances SET state = 'retiring' WHERE id = ?1", [old.as_str()])?;
            add(t, &new)
        })
        .await
    }

    /// The instance with this identity; `None` once it is removed.
    pub async fn instance(&self, id: InstanceId) -> Result<Option<Instance>> {
        self.read(move |t, _| {
            let sql = format!("SELECT {COLUMNS} FROM instances WHERE id = ?1");
            t.prepare_cached(&sql)?.query_and_then([id.as_str()], instance)?.next().transpose()
        })
        .await
    }

    /// The app's instances, oldest first.
    pub async fn instances(&self, app: AppId) -> Result<Vec<Instance>> {
        self.read(move |t, _| {
            let sql = format!("SELECT {COLUMNS} FROM instances WHERE app = ?1 ORDER BY created_at, ordinal");
            t.prepare_cached(&sql)?.query_and_then([app.0], instance)?.collect()
        })
        .await
    }

    /// The instances of all apps.
    pub async fn all_instances(&self) -> Result<Vec<Instance>> {
        self.read(|t, _| all(t)).await
    }

    /// Sets the container and the state of an instance.
    pub async fn set_instance(&self, id: InstanceId, container: Option<String>, state: InstanceState) -> Result<()> {
        self.transact(move |t, _| {
            t.prepare_cached("UPDATE instances SET container = ?2, state = ?3 WHERE id = ?1")?.execute((
                id.as_str(),
                container,
                state.as_str(),
            ))?;
            Ok(())
        })
        .await
    }

    /// Removes the row of an instance whose container is removed. Its address is used again after all addresses that
    /// have been free for longer.
    pub async fn remove_instance(&self, id: InstanceId) -> Result<()> {
        self.transact(move |t, _| {
            let address: Option<(u32, u32)> = t
                .query_row("DELETE FROM instances WHERE id = ?1 RETURNING bridge, slot", [id.as_str()], |row| {
                    Ok((row.get("bridge")?, row.get("slot")?))
                })
                .optional()?;
            if let Some((bridge, slot)) = address {
                t.execute(
                    "INSERT OR REPLACE INTO freed_addresses (bridge, slot, freed_at) VALUES (?1, ?2, ?3)",
                    (bridge, slot, now()),
                )?;
            }
            Ok(())
        })
        .await
    }
}
