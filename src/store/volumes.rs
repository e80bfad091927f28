//! Volumes of apps, and what is mounted into the containers of an app.

use rusqlite::{Row, Transaction};

use super::{
    columns::{optional_text, text},
    database::Store,
    error::{Result, StoreError, taken},
    ids::{AppId, VolumeId},
    quotas,
    time::{Millis, now},
};
use crate::model::{HostPath, MountPath, MountSpec, NamedSource, ProcessType, Resource, VolumeName, VolumeSize};

/// A volume of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Identity.
    pub id: VolumeId,
    /// Owning app.
    pub app: AppId,
    /// Name, unique in the app.
    pub name: VolumeName,
    /// Declared size.
    pub size: VolumeSize,
    /// Whether it has a disk. That of a volume that is ready is never created again.
    pub ready: bool,
    /// Name of the user who created it.
    pub created_by: String,
    /// Time of creation.
    pub created_at: Millis,
}

/// What is mounted into the containers of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A volume of the app.
    Volume(VolumeId, VolumeName),
    /// A folder of the machine.
    Host(HostPath),
}

impl std::fmt::Display for MountSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Volume(_, name) => name.fmt(f),
            Self::Host(path) => path.fmt(f),
        }
    }
}

/// A declared mount of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Where, in the containers.
    pub target: MountPath,
    /// Whether they can only read it.
    pub read_only: bool,
    /// The only process type whose instances have it; `None` for all.
    pub process_type: Option<ProcessType>,
}

impl Mount {
    /// It, as a user writes it.
    pub fn spec(&self) -> MountSpec {
        let source = match &self.source {
            MountSource::Volume(_, name) => NamedSource::Volume(name.clone()),
            MountSource::Host(path) => NamedSource::Host(path.clone()),
        };
        MountSpec { source, target: self.target.clone(), read_only: self.read_only }
    }

    /// Whether instances of this process type have it.
    pub fn is_for(&self, process_type: &ProcessType) -> bool {
        self.process_type.as_ref().is_none_or(|only| only == process_type)
    }
}

/// Maximum number of mounts of an app.
const MAX_MOUNTS: u32 = 30;

const COLUMNS: &str = "id, app, name, size_mib, ready, created_by, created_at";

fn volume(row: &Row<'_>) -> Result<Volume> {
    let size: u64 = row.get("size_mib")?;
    Ok(Volume {
        id: VolumeId(row.get("id")?),
        app: AppId(row.get("app")?),
        name: text(row, "name", "volume name")?,
        size: size.try_into().map_err(|why| StoreError::Corrupt { what: "size of a volume", why })?,
        ready: row.get("ready")?,
        created_by: row.get("created_by")?,
        created_at: row.get("created_at")?,
    })
}

fn with_id(t: &Transaction<'_>, id: VolumeId) -> Result<Volume> {
    let mut query = t.prepare_cached(&format!("SELECT {COLUMNS} FROM volumes WHERE id = ?1"))?;
    let found = query.query_and_then([id.0], volume)?.next().transpose()?;
    found.ok_or_else(|| {
        StoreError::NotFound("the volume was destroyed; storage:report shows those that are left".to_owned())
    })
}

/// The declared mounts of an app, in the order in which they are mounted: a folder before what is below it.
pub(super) fn mounts(t: &Transaction<'_>, app: AppId) -> Result<Vec<Mount>> {
    let mut query = t.prepare_cached(
        "SELECT target, volume, volumes.name, host_path, read_only, process_type
         FROM mounts LEFT JOIN volumes ON volumes.id = mounts.volume WHERE mounts.app = ?1 ORDER BY target",
    )?;
    let rows = query.query_and_then([app.0], |row| {
        let host_path: Option<HostPath> = optional_text(row, "host_path", "folder of this machine")?;
        let source = match host_path {
            Some(path) => MountSource::Host(path),
            None => MountSource::Volume(VolumeId(row.get("volume")?), text(row, "name", "volume name")?),
        };
        Ok(Mount {
            source,
            target: text(row, "target", "path in a container")?,
            read_only: row.get("read_only")?,
            process_type: optional_text(row, "process_type", "process type")?,
        })
    });
    rows?.collect()
}

impl Store {
    /// Adds a volume, which has no disk yet; refused if the owner of the app may not have its size.
    pub async fn create_volume(&self, app: AppId, name: VolumeName, size: VolumeSize, by: String) -> Result<Volume> {
        let limits = self.limits();
        self.transact(move |t, _| {
            let create = || {
                let sql =
                    "INSERT INTO volumes (app, name, size_mib, created_by, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";
                let added = t.execute(sql, (app.0, name.as_str(), size.mib(), by, now()));
                added.map_err(taken(|| {
                    format!("the app has a volume {name} already; storage:resize changes its size")
                }))?;
                with_id(t, VolumeId(t.last_insert_rowid()))
            };
            quotas::within(t, &limits, app, &[Resource::Volumes], create)
        })
        .await
    }

    /// Records that a volume has its disk.
    pub async fn set_volume_ready(&self, id: VolumeId) -> Result<()> {
        self.transact(move |t, _| {
            t.execute("UPDATE volumes SET ready = 1 WHERE id = ?1", [id.0])?;
            Ok(())
        })
        .await
    }

    /// Refuses a size as [`Store::resize_volume`] does.
    pub async fn check_volume_size(&self, id: VolumeId, size: VolumeSize) -> Result<()> {
        let limits = self.limits();
        self.read(move |t, _| {
            let volume = with_id(t, id)?;
            let sizes = (volume.size.mib(), size.mib());
            quotas::check_change(t, &limits, volume.app, Resource::Volumes, sizes)
        })
        .await
    }

    /// Changes the declared size of a volume; refused if the owner of the app may not have it.
    pub async fn resize_volume(&self, id: VolumeId, size: VolumeSize) -> Result<()> {
        let limits = self.limits();
        self.transact(move |t, _| {
            let app = with_id(t, id)?.app;
            quotas::within(t, &limits, app, &[Resource::Volumes], || {
                t.execute("UPDATE volumes SET size_mib = ?2 WHERE id = ?1", (id.0, size.mib()))?;
                Ok(())
            })
        })
        .await
    }

    /// Removes the row of a volume whose disk is removed.
    pub async fn forget_volume(&self, id: VolumeId) -> Result<()> {
        self.transact(move |t, _| {
            t.execute("DELETE FROM volumes WHERE id = ?1", [id.0])?;
            Ok(())
        })
        .await
    }

    /// The volumes of an app, by name.
    pub async fn volumes(&self, app: AppId) -> Result<Vec<Volume>> {
        self.read(move |t, _| {
            let mut query = t.prepare_cached(&format!("SELECT {COLUMNS} FROM volumes WHERE app = ?1 ORDER BY name"))?;
            query.query_and_then([app.0], volume)?.collect()
        })
        .await
    }

    /// The volume with this identity, or [`StoreError::NotFound`].
    pub async fn volume(&self, id: VolumeId) -> Result<Volume> {
        self.read(move |t, _| with_id(t, id)).await
    }

    /// Declares a mount of an app; refused if it has many already.
    pub async fn add_mount(&self, app: AppId, mount: Mount, by: String) -> Result<()> {
        self.transact(move |t, _| {
            let Mount { source, target, read_only, process_type } = mount;
            let (volume, host_path) = match source {
                MountSource::Volume(id, _) => (Some(with_id(t, id)?.id.0), None),
                MountSource::Host(path) => (None, Some(path)),
            };
            let sql =
                "INSERT INTO mounts (app, target, volume, host_path, read_only, process_type, created_by, created_at)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            let host_path = host_path.as_ref().map(HostPath::as_str);
            let process_type = process_type.as_ref().map(ProcessType::as_str);
            let row = (app.0, target.as_str(), volume, host_path, read_only, process_type, by, now());
            t.execute(sql, row).map_err(taken(|| {
                format!("something is mounted at {target} already; storage:list shows it, storage:unmount removes it")
            }))?;
            let sql = "SELECT count(*) AS mounts FROM mounts WHERE app = ?1";
            let mounts: u32 = t.query_row(sql, [app.0], |row| row.get("mounts"))?;
            if mounts > MAX_MOUNTS {
                return Err(StoreError::Exhausted(format!(
                    "an app may have {MAX_MOUNTS} mounts, and this would make it {mounts}; storage:list shows them, storage:unmount \
                     removes one"
                )));
            }
            Ok(())
        })
        .await
    }

    /// Takes back a declared mount; whether there was one.
    pub async fn remove_mount(&self, app: AppId, target: MountPath) -> Result<bool> {
        self.transact(move |t, _| {
            Ok(t.execute("DELETE FROM mounts WHERE app = ?1 AND target = ?2", (app.0, target.as_str()))? > 0)
        })
        .await
    }
}
