//! Instances. The row of an instance is added before its container is created, and removed after it.

use std::net::IpAddr;

use rusqlite::{Row, Transaction};

use super::{
    columns::{optional_text, text},
    database::Store,
    error::Result,
    ids::AppId,
    placement::{self, Place, Placement},
    ports::PortMapping,
    time::{Millis, now},
};
use crate::model::{CONTAINER_PORT, InstanceId, ProcessType, ReleaseNumber};

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
    /// Why the instance of the same name before it failed, if it replaces one.
    pub last_failure: Option<String>,
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
    /// Name of the node on which it runs.
    pub node: String,
    /// Address at which it can be reached, once it has one.
    pub endpoint: Option<IpAddr>,
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
    /// Whether it passes its readiness checks, if it has some.
    pub ready: bool,
    /// Time at which the row was added.
    pub created_at: Millis,
    /// How often a process of it was killed because it was out of memory.
    pub oom_kills: u32,
    /// Why the instance of the same name before it failed, if it replaces one.
    pub last_failure: Option<String>,
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

const COLUMNS: &str = "id, app, generation, release, process_type, ordinal, node, endpoint, container, state, restarts, \
    not_before, created_at, port, ready, oom_kills, last_failure";

fn instance(row: &Row<'_>) -> Result<Instance> {
    Ok(Instance {
        id: text(row, "id", "instance id")?,
        app: AppId(row.get("app")?),
        generation: row.get("generation")?,
        release: row.get("release")?,
        process_type: text(row, "process_type", "process type")?,
        ordinal: row.get("ordinal")?,
        node: row.get("node")?,
        endpoint: optional_text(row, "endpoint", "address")?,
        container: row.get("container")?,
        state: text(row, "state", "instance state")?,
        restarts: row.get("restarts")?,
        not_before: row.get("not_before")?,
        port: row.get("port")?,
        ready: row.get("ready")?,
        created_at: row.get("created_at")?,
        oom_kills: row.get("oom_kills")?,
        last_failure: row.get("last_failure")?,
    })
}

fn add(t: &Transaction<'_>, new: &NewInstance, placement: Placement) -> Result<Instance> {
    let Place { node, endpoint } = placement.place(t, new.id.as_str())?;
    t.query_row_and_then(
        &format!(
            "INSERT INTO instances ({COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL, 'starting', ?9, ?10, ?11, ?12, 1, 0, ?13) RETURNING {COLUMNS}"
        ),
        (
            new.id.as_str(),
            new.app.0,
            new.generation,
            new.release,
            new.process_type.as_str(),
            new.ordinal,
            node,
            endpoint.map(|address| address.to_string()),
            new.restarts,
            new.not_before,
            now(),
            new.port,
            new.last_failure.as_deref(),
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
    /// Adds the row of an instance and places it.
    pub async fn add_instance(&self, new: NewInstance, placement: Placement) -> Result<Instance> {
        self.transact(move |t, _| add(t, &new, placement)).await
    }

    /// Adds `new` in place of the failed instance `old`, which becomes retiring.
    pub async fn replace_instance(&self, old: InstanceId, new: NewInstance, placement: Placement) -> Result<Instance> {
        self.transact(move |t, _| {
            t.execute("UPDATE instances SET state = 'retiring' WHERE id = ?1", [old.as_str()])?;
            add(t, &new, placement)
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

    /// Records whether an instance passes its readiness checks.
    pub async fn set_ready(&self, id: InstanceId, ready: bool) -> Result<()> {
        self.transact(move |t, _| {
            t.prepare_cached("UPDATE instances SET ready = ?2 WHERE id = ?1")?.execute((id.as_str(), ready))?;
            Ok(())
        })
        .await
    }

    /// Counts that a process of an instance was killed because it was out of memory, at this time in nanoseconds since 1970.
    /// Returns the instance, if it exists and this kill was not counted before; kills are to be counted in their order.
    pub async fn count_oom_kill(&self, id: InstanceId, at: i64) -> Result<Option<Instance>> {
        self.transact(move |t, _| {
            let sql = format!(
                "UPDATE instances SET oom_kills = oom_kills + 1, last_oom_kill = ?2 WHERE id = ?1 AND last_oom_kill < ?2
                 RETURNING {COLUMNS}"
            );
            t.prepare_cached(&sql)?.query_and_then((id.as_str(), at), instance)?.next().transpose()
        })
        .await
    }

    /// Records where an instance was placed when it was started.
    pub async fn set_endpoint(&self, id: InstanceId, endpoint: IpAddr) -> Result<()> {
        self.transact(move |t, _| {
            t.prepare_cached("UPDATE instances SET endpoint = ?2 WHERE id = ?1")?
                .execute((id.as_str(), endpoint.to_string()))?;
            Ok(())
        })
        .await
    }

    /// Removes the row of an instance whose container is removed. Its address is used again after all addresses that
    /// have been free for longer.
    pub async fn remove_instance(&self, id: InstanceId) -> Result<()> {
        self.transact(move |t, _| {
            t.execute("DELETE FROM instances WHERE id = ?1", [id.as_str()])?;
            placement::free(t, id.as_str())?;
            Ok(())
        })
        .await
    }
}
