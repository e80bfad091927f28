//! Changes of sizes.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Transaction;

use super::{SizeKind, of_app};
use crate::{
    model::{CpuMillis, MemoryMib, PartialSize, Resource, Size, SizeTarget},
    store::{
        database::Store,
        error::{Result, StoreError},
        ids::AppId,
        limits::Limits,
        quotas, users,
    },
};

/// Number of process types of an app that may have a size of their own of each kind.
const MAX_SIZED_TYPES: usize = 30;

/// What was set for a target before and after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeChange {
    /// Before.
    pub before: PartialSize,
    /// After.
    pub after: PartialSize,
}

impl Store {
    /// Sets the parts of a size that are given; an empty size clears what is set. Refused if the owner's instances and tasks, or a
    /// build, could then use more than allowed, or if more would be kept free for an instance than it may use.
    pub async fn change_size(
        &self,
        app: AppId,
        kind: SizeKind,
        target: SizeTarget,
        size: PartialSize,
    ) -> Result<SizeChange> {
        let limits = self.limits();
        self.transact(move |t, _| {
            let before = of_app(t, app, kind)?.set(&target);
            let kept = if size.is_empty() { size } else { before };
            let after = PartialSize { cpu: size.cpu.or(kept.cpu), memory: size.memory.or(kept.memory) };
            set(t, &limits, app, kind, &target, after)?;
            Ok(SizeChange { before, after })
        })
        .await
    }

    /// Takes back a change, unless the size was changed again. Refused as a change is.
    pub async fn undo_size_change(
        &self,
        app: AppId,
        kind: SizeKind,
        target: SizeTarget,
        change: SizeChange,
    ) -> Result<()> {
        let limits = self.limits();
        self.transact(move |t, _| {
            if of_app(t, app, kind)?.set(&target) == change.after {
                set(t, &limits, app, kind, &target, change.before)?;
            }
            Ok(())
        })
        .await
    }
}

fn set(
    t: &Transaction<'_>,
    limits: &Limits,
    app: AppId,
    kind: SizeKind,
    target: &SizeTarget,
    size: PartialSize,
) -> Result<()> {
    if *target == SizeTarget::Builds {
        check_build(t, limits, app, size)?;
    }
    quotas::within(t, limits, app, &[Resource::Cpu, Resource::Memory], || {
        let before = Declared::read(t, app, limits.default_size)?;
        let key = (app.0, target.as_str(), kind.as_str());
        t.execute("DELETE FROM sizes WHERE app = ?1 AND target = ?2 AND kind = ?3", key)?;
        if !size.is_empty() {
            let (cpu, memory) = (size.cpu.map(CpuMillis::millis), size.memory.map(MemoryMib::mebibytes));
            t.execute(
                "INSERT INTO sizes (app, target, kind, cpu_millis, memory_mib) VALUES (?1, ?2, ?3, ?4, ?5)",
                (app.0, target.as_str(), kind.as_str(), cpu, memory),
            )?;
        }
        Declared::read(t, app, limits.default_size)?.check(&before)
    })
}

/// Limit and reserve of each instance and task, also of process types that have none of their own.
struct Declared(BTreeMap<SizeTarget, (Size, PartialSize)>);

impl Declared {
    fn read(t: &Transaction<'_>, app: AppId, default: Size) -> Result<Self> {
        let (limits, reserves) = (of_app(t, app, SizeKind::Limit)?, of_app(t, app, SizeKind::Reserve)?);
        let set: BTreeSet<_> = limits.targets().chain(reserves.targets()).chain([&SizeTarget::Instances]).collect();
        let of = |target: &SizeTarget| (target.clone(), (limits.size(target, default), reserves.set_for(target)));
        Ok(Self(set.into_iter().filter(|target| **target != SizeTarget::Builds).map(of).collect()))
    }

    fn types(&self) -> usize {
        self.0.keys().filter(|target| matches!(target, SizeTarget::Type(_))).count()
    }

    /// Refuses what a change has made of `before`, if the engine would refuse it as well, or if there would be too many.
    fn check(&self, before: &Self) -> Result<()> {
        for (target, (limit, reserve)) in &self.0 {
            if before.0.get(target) == Some(&(*limit, *reserve)) {
                continue;
            }
            let (cpu, memory) = (reserve.cpu.filter(|cpu| *cpu > limit.cpu), reserve.memory);
            let numbers = match (cpu, memory.filter(|memory| *memory > limit.memory)) {
                (_, Some(memory)) => format!("{} of memory, and {memory} would be", limit.memory),
                (Some(cpu), None) => format!("{} CPUs, and {cpu} would be", limit.cpu),
                (None, None) => continue,
            };
            let what = match target {
                SizeTarget::Type(name) => format!("{name} instance"),
                SizeTarget::Instances | SizeTarget::Builds => "instance".to_owned(),
                SizeTarget::Tasks => "task".to_owned(),
            };
            return Err(StoreError::Refused(format!(
                "each {what} may use {numbers} kept free for it; keep less free (resource:reserve), or raise the limit \
                 (resource:limit)"
            )));
        }
        let types = self.types();
        if types > MAX_SIZED_TYPES && types > before.types() {
            return Err(StoreError::Exhausted(format!(
                "an app may have sizes of {MAX_SIZED_TYPES} process types, and this would make it {types}; resource:limit-clear \
                 and resource:reserve-clear remove those of one"
            )));
        }
        Ok(())
    }
}

/// Refuses a build that is larger than all instances and tasks of the owner may be.
fn check_build(t: &Transaction<'_>, limits: &Limits, app: AppId, size: PartialSize) -> Result<()> {
    let Some(owner) = quotas::owner(t, app)? else { return Ok(()) };
    let cpu = size.cpu.map(|cpu| (Resource::Cpu, u64::from(cpu.millis())));
    let memory = size.memory.map(|memory| (Resource::Memory, memory.mebibytes()));
    for (resource, asked) in cpu.into_iter().chain(memory) {
        if let Some(max) = quotas::limit(t, limits, Some(owner), resource)?.filter(|max| asked > *max) {
            let (owner, asked) = (users::with_id(t, owner)?.name, resource.value(asked));
            return Err(StoreError::Exhausted(format!(
                "{owner} may have {}, and a build no more than that: it would have {asked}; give less, or an admin raises the \
                 limit with quota:set {owner} {resource}={asked}",
                resource.amount(max)
            )));
        }
    }
    Ok(())
}
