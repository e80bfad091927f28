//! Sizes of an app's instances, tasks and builds, as they were set; for others, the configuration applies.

mod change;

pub use change::SizeChange;

use std::collections::BTreeMap;

use rusqlite::Transaction;

use super::{
    columns::text,
    database::Store,
    error::{Result, StoreError},
    ids::AppId,
};
use crate::model::{Capacity, CpuMillis, MemoryMib, PartialSize, Size, SizeTarget};

/// What a size says.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SizeKind {
    /// What each of them has at most.
    Limit,
    /// What is kept free for each of them.
    Reserve,
}

impl SizeKind {
    /// Name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Reserve => "reserve",
        }
    }
}

/// The sizes of one kind that are set for an app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppSizes(BTreeMap<SizeTarget, PartialSize>);

impl AppSizes {
    /// The size of a target: its own, or else that of all process types, or else the default one.
    pub fn size(&self, target: &SizeTarget, default: Size) -> Size {
        self.set_for(target).or(default)
    }

    /// What is set for a target: its own, or else that of all process types.
    pub fn set_for(&self, target: &SizeTarget) -> PartialSize {
        let own = self.set(target);
        match target {
            SizeTarget::Type(_) => {
                let general = self.set(&SizeTarget::Instances);
                PartialSize { cpu: own.cpu.or(general.cpu), memory: own.memory.or(general.memory) }
            }
            SizeTarget::Instances | SizeTarget::Tasks | SizeTarget::Builds => own,
        }
    }

    /// What is set for a target itself.
    pub fn set(&self, target: &SizeTarget) -> PartialSize {
        self.0.get(target).copied().unwrap_or_default()
    }

    /// Targets for which something is set.
    pub fn targets(&self) -> impl Iterator<Item = &SizeTarget> {
        self.0.keys()
    }
}

/// The sizes of this kind that are set for the app.
pub(super) fn of_app(t: &Transaction<'_>, app: AppId, kind: SizeKind) -> Result<AppSizes> {
    let mut query =
        t.prepare_cached("SELECT target, cpu_millis, memory_mib FROM sizes WHERE app = ?1 AND kind = ?2")?;
    let invalid = |why| StoreError::Corrupt { what: "size", why };
    let rows = query.query_and_then((app.0, kind.as_str()), |row| {
        let cpu: Option<u32> = row.get("cpu_millis")?;
        let memory: Option<u64> = row.get("memory_mib")?;
        let size = PartialSize {
            cpu: cpu.map(CpuMillis::try_from).transpose().map_err(invalid)?,
            memory: memory.map(MemoryMib::try_from).transpose().map_err(invalid)?,
        };
        Ok::<_, StoreError>((text(row, "target", "target of a size")?, size))
    })?;
    Ok(AppSizes(rows.collect::<Result<_>>()?))
}

impl Store {
    /// The sizes of this kind that are set for the app.
    pub async fn sizes(&self, app: AppId, kind: SizeKind) -> Result<AppSizes> {
        self.read(move |t, _| of_app(t, app, kind)).await
    }

    /// What the machine has, if it is known.
    pub fn capacity(&self) -> Option<Capacity> {
        self.limits().capacity
    }

    /// Size of instances and tasks for which none is set.
    pub fn default_size(&self) -> Size {
        self.limits().default_size
    }
}
