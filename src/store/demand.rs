//! What the declared instances and the tasks of apps may use, or have kept free, in all.

use std::collections::BTreeMap;

use rusqlite::Transaction;

use super::{
    columns::json,
    error::Result,
    formation,
    ids::{AppId, UserId},
    process_spec::ProcessSpec,
    sizes::{self, SizeKind},
};
use crate::model::{MemoryMib, PartialSize, ProcessType, Size, SizeTarget};

/// What instances and tasks may use in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) instances: u64,
    pub(super) tasks: u64,
    pub(super) cpu_millis: u64,
    pub(super) memory_mib: u64,
}

impl Demand {
    pub(super) fn add(&mut self, quantity: u32, size: PartialSize) {
        let quantity = u64::from(quantity);
        self.instances += quantity;
        self.cpu_millis += quantity * size.cpu.map_or(0, |cpu| cpu.millis().into());
        self.memory_mib += quantity * size.memory.map_or(0, MemoryMib::mebibytes);
    }

    /// The larger one of each part.
    fn max(self, other: Self) -> Self {
        Self {
            instances: self.instances.max(other.instances),
            tasks: self.tasks.max(other.tasks),
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
            memory_mib: self.memory_mib.max(other.memory_mib),
        }
    }
}

/// What the instances and tasks of all apps of a user may use. An app that is stopped has tasks only.
pub(super) fn of_owner(t: &Transaction<'_>, owner: UserId, default_size: Size) -> Result<Demand> {
    let mut query = t.prepare_cached(
        "SELECT id, stopped OR destroying AS stopped,
            (SELECT count(*) FROM tasks WHERE app = apps.id AND state != 'ended') AS tasks
         FROM apps WHERE id IN (SELECT app FROM app_owners WHERE user = ?1)",
    )?;
    let apps = query.query_map([owner.0], |row| Ok((AppId(row.get("id")?), row.get("stopped")?, row.get("tasks")?)))?;
    let apps: Vec<(AppId, bool, u32)> = apps.collect::<rusqlite::Result<_>>()?;
    let mut all = Demand::default();
    for (app, stopped, tasks) in apps {
        let sizes = sizes::of_app(t, app, SizeKind::Limit)?;
        let size = |target: &SizeTarget| {
            let Size { cpu, memory } = sizes.size(target, default_size);
            PartialSize { cpu: Some(cpu), memory: Some(memory) }
        };
        let of_instances = if stopped { Demand::default() } else { demand_of_instances(t, app, size)? };
        let mut of_tasks = Demand::default();
        of_tasks.add(tasks, size(&SizeTarget::Tasks));
        all.instances += of_instances.instances;
        all.tasks += u64::from(tasks);
        all.cpu_millis += of_instances.cpu_millis + of_tasks.cpu_millis;
        all.memory_mib += of_instances.memory_mib + of_tasks.memory_mib;
    }
    Ok(all)
}

/// What the declared instances of an app, of its current release or one that is about to become current, have of these sizes.
fn demand_of_instances(t: &Transaction<'_>, app: AppId, size: impl Fn(&SizeTarget) -> PartialSize) -> Result<Demand> {
    let formation = formation::of_app(t, app)?;
    let demands = releases(t, app)?.into_values().map(|processes| {
        let mut demand = Demand::default();
        for spec in processes {
            let name = spec.process.process_type;
            let quantity = quantity(&formation, &name, spec.default_quantity);
            demand.add(quantity, size(&SizeTarget::Type(name)));
        }
        demand
    });
    Ok(demands.fold(Demand::default(), Demand::max))
}

fn quantity(formation: &BTreeMap<ProcessType, u32>, name: &ProcessType, default: u32) -> u32 {
    if name.is_release() { 0 } else { formation.get(name).copied().unwrap_or(default) }
}

/// The process types of the app's current release, and of those that are about to become current.
pub(super) fn releases(t: &Transaction<'_>, app: AppId) -> Result<BTreeMap<u64, Vec<ProcessSpec>>> {
    let mut query = t.prepare_cached(
        "SELECT number, processes FROM releases WHERE app = ?1 AND (state = 'candidate' OR number IN (
            SELECT current_release FROM apps WHERE id = ?1 UNION SELECT candidate_release FROM apps WHERE id = ?1))",
    )?;
    query.query_and_then([app.0], |row| Ok((row.get("number")?, json(row, "processes", "processes")?)))?.collect()
}

/// What is kept free for the declared instances of the apps that are not stopped: those of this owner, or all.
pub(super) fn reserved(t: &Transaction<'_>, owner: Option<UserId>) -> Result<Demand> {
    let mut query = t.prepare_cached(
        "SELECT id FROM apps WHERE NOT stopped AND NOT destroying
         AND EXISTS (SELECT 1 FROM sizes WHERE app = apps.id AND kind = 'reserve')
         AND (?1 IS NULL OR id IN (SELECT app FROM app_owners WHERE user = ?1))",
    )?;
    let apps = query.query_map([owner.map(|owner| owner.0)], |row| row.get("id").map(AppId))?;
    let apps: Vec<AppId> = apps.collect::<rusqlite::Result<_>>()?;
    let mut all = Demand::default();
    for app in apps {
        let sizes = sizes::of_app(t, app, SizeKind::Reserve)?;
        let of_app = demand_of_instances(t, app, |target| sizes.set_for(target))?;
        all.cpu_millis += of_app.cpu_millis;
        all.memory_mib += of_app.memory_mib;
    }
    Ok(all)
}
