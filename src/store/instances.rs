//! Instances: a row is written before the container is made, and goes only when its removal is confirmed.

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{AppId, Millis, PortMapping, Result, Store, StoreError, now, read};
use crate::{
    config::AddressPlan,
    model::{CONTAINER_PORT, InstanceId, ProcessType, ReleaseNumber},
};

/// How far an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// Its container is made, started and checked, not before `not_before`.
    Starting,
    /// It passed its check.
    Healthy,
    /// It is drained, stopped and removed.
    Retiring,
}

impl InstanceState {
    /// As it is stored and shown.
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

/// An instance to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInstance {
    /// Its random identity.
    pub id: InstanceId,
    /// Its app.
    pub app: AppId,
    /// The deployment it belongs to.
    pub generation: u64,
    /// The release it runs.
    pub release: ReleaseNumber,
    /// Its process type.
    pub process_type: ProcessType,
    /// Counted from 1 within the type: `web.1`.
    pub ordinal: u32,
    /// How often its predecessor in this place failed.
    pub restarts: u32,
    /// When it may be started.
    pub not_before: Millis,
    /// The port that its release declares for it; a mapping may name another.
    pub port: u16,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its random identity, also its container's name.
    pub id: InstanceId,
    /// Its app.
    pub app: AppId,
    /// The deployment it belongs to.
    pub generation: u64,
    /// The release it runs.
    pub release: ReleaseNumber,
    /// Its process type.
    pub process_type: ProcessType,
    /// Counted from 1 within the type.
    pub ordinal: u32,
    /// The bridge it is on.
    pub bridge: u32,
    /// Its place on the bridge; see [`AddressPlan::instance`].
    pub slot: u32,
    /// Its container, once that is made.
    pub container: Option<String>,
    /// How far it is.
    pub state: InstanceState,
    /// How often its predecessor in this place failed.
    pub restarts: u32,
    /// When it may be started.
    pub not_before: Millis,
    /// The port that its release declares for it; a mapping may name another.
    pub port: u16,
    /// When its row was written.
    pub created_at: Millis,
}

impl Instance {
    /// The port of it that a mapping means: the usual one stands for the one that its release declares.
    pub fn port_of(&self, mapping: Option<&PortMapping>) -> u16 {
        let mapped = mapping.map(|mapping| mapping.container_port).filter(|port| *port != CONTAINER_PORT);
        mapped.unwrap_or(self.port)
    }
}

const COLUMNS: &str = "id, app, generation, release, process_type, ordinal, bridge, slot, container, state, restarts, \
    not_before, created_at, port";

struct Raw {
    texts: [String; 3],
    app: i64,
    numbers: [u64; 2],
    small: [u32; 4],
    container: Option<String>,
    times: [i64; 2],
    port: u16,
}

fn from_row(r: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        texts: [r.get(0)?, r.get(4)?, r.get(9)?],
        app: r.get(1)?,
        numbers: [r.get(2)?, r.get(3)?],
        small: [r.get(5)?, r.get(6)?, r.get(7)?, r.get(10)?],
        container: r.get(8)?,
        times: [r.get(11)?, r.get(12)?],
        port: r.get(13)?,
    })
}

fn instance(raw: Raw) -> Result<Instance> {
    let [id, process_type, state] = raw.texts;
    let [ordinal, bridge, slot, restarts] = raw.small;
    Ok(Instance {
        id: read("instance id", &id)?,
        app: AppId(raw.app),
        generation: raw.numbers[0],
        release: raw.numbers[1],
        process_type: read("process type", &process_type)?,
        ordinal,
        bridge,
        slot,
        container: raw.container,
        state: read("instance state", &state)?,
        restarts,
        not_before: raw.times[0],
        port: raw.port,
        created_at: raw.times[1],
    })
}

/// The address that has been free the longest, on the first bridge that has one: never used before used.
fn allocate(t: &Transaction<'_>) -> Result<(u32, u32)> {
    for bridge in 0..AddressPlan::APP_BRIDGES {
        let in_use: u32 = t.query_row("SELECT count(*) FROM instances WHERE bridge = ?1", [bridge], |r| r.get(0))?;
        if in_use >= AddressPlan::INSTANCES_A_BRIDGE {
            continue;
        }
        let next: u32 = t.query_row(
            "SELECT coalesce(max(slot) + 1, 0) FROM (
                SELECT slot FROM instances WHERE bridge = ?1 UNION ALL SELECT slot FROM freed_addresses WHERE bridge = ?1)",
            [bridge],
            |r| r.get(0),
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
                |r| r.get(0),
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
    let raw = t.query_row(
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
        from_row,
    )?;
    instance(raw)
}

impl Store {
    /// Writes the row of an instance to be, with an address of its own.
    pub async fn add_instance(&self, new: NewInstance) -> Result<Instance> {
        self.transact(move |t, _| add(t, &new)).await
    }

    /// The instance `old` has failed: it retires, and `new` takes its place.
    pub async fn replace_instance(&self, old: InstanceId, new: NewInstance) -> Result<Instance> {
        self.transact(move |t, _| {
            t.execute("UPDATE instances SET state = 'retiring' WHERE id = ?1", [old.as_str()])?;
            add(t, &new)
        })
        .await
    }

    /// The instance with this identity; `None` once it is gone.
    pub async fn instance(&self, id: InstanceId) -> Result<Option<Instance>> {
        self.transact(move |t, _| {
            let sql = format!("SELECT {COLUMNS} FROM instances WHERE id = ?1");
            t.prepare_cached(&sql)?.query_row([id.as_str()], from_row).optional()?.map(instance).transpose()
        })
        .await
    }

    /// The app's instances, in the order in which they were made.
    pub async fn instances(&self, app: AppId) -> Result<Vec<Instance>> {
        self.transact(move |t, _| {
            let sql = format!("SELECT {COLUMNS} FROM instances WHERE app = ?1 ORDER BY created_at, ordinal");
            t.prepare_cached(&sql)?.query_map([app.0], from_row)?.map(|row| instance(row?)).collect()
        })
        .await
    }

    /// All instances.
    pub async fn all_instances(&self) -> Result<Vec<Instance>> {
        self.transact(|t, _| {
            let sql = format!("SELECT {COLUMNS} FROM instances ORDER BY app, created_at, ordinal");
            t.prepare_cached(&sql)?.query_map([], from_row)?.map(|row| instance(row?)).collect()
        })
        .await
    }

    /// Notes which container an instance has, and how far it is.
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

    /// The instance is gone for certain: its address may be used again, after all that have been free for longer.
    pub async fn remove_instance(&self, id: InstanceId) -> Result<()> {
        self.transact(move |t, _| {
            let place: Option<(u32, u32)> = t
                .query_row("DELETE FROM instances WHERE id = ?1 RETURNING bridge, slot", [id.as_str()], |r| {
                    Ok((r.get(0)?, r.get(1)?))
                })
                .optional()?;
            if let Some((bridge, slot)) = place {
                t.execute("INSERT OR REPLACE INTO freed_addresses VALUES (?1, ?2, ?3)", (bridge, slot, now()))?;
            }
            Ok(())
        })
        .await
    }
}
