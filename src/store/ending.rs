//! Instances that were stopped or replaced and have not ended yet. What is declared does not count them, so that an owner at a limit
//! can release and restart; but no more are started while those of the owner have more than the limit themselves, and nobody
//! comes to own an app with which this would be so.

use rusqlite::Transaction;

use super::{
    columns::text,
    demand::Demand,
    error::{Result, StoreError},
    ids::{AppId, UserId},
    limits::Limits,
    quotas,
    sizes::{self, SizeKind},
    users,
};
use crate::model::{PartialSize, Resource, Size, SizeTarget};

/// Refuses that instances of the app are started or that its owner has come to own it, if those of the owner that are ending have
/// more than the owner may have.
pub(super) fn refuse_too_many(t: &Transaction<'_>, limits: &Limits, app: AppId) -> Result<()> {
    let Some(owner) = quotas::owner(t, app)? else { return Ok(()) };
    let Demand { instances, cpu_millis, memory_mib, .. } = of_owner(t, owner, limits.default_size)?;
    for (resource, ending) in
        [(Resource::Instances, instances), (Resource::Cpu, cpu_millis), (Resource::Memory, memory_mib)]
    {
        let Some(max) = quotas::limit(t, limits, Some(owner), resource)?.filter(|max| ending > *max) else { continue };
        return Err(StoreError::Exhausted(format!(
            "{} may have {}, and those that were stopped or replaced and have not ended yet have {}; wait until they have, and give \
             their process types less time for it (ps:set APP stop-timeout)",
            users::with_id(t, owner)?.name,
            resource.amount(max),
            resource.value(ending)
        )));
    }
    Ok(())
}

/// The same, if the app is not stopped.
pub(super) fn refuse_too_many_if_started(t: &Transaction<'_>, limits: &Limits, app: AppId) -> Result<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM apps WHERE id = ?1 AND NOT stopped AND NOT destroying) AS started";
    let started: bool = t.prepare_cached(sql)?.query_row([app.0], |row| row.get("started"))?;
    if started { refuse_too_many(t, limits, app) } else { Ok(()) }
}

/// What the ending instances of all apps of a user have.
fn of_owner(t: &Transaction<'_>, owner: UserId, default_size: Size) -> Result<Demand> {
    let mut query = t.prepare_cached(
        "SELECT app, process_type, count(*) AS quantity FROM instances
         WHERE state = 'retiring' AND app IN (SELECT app FROM app_owners WHERE user = ?1) GROUP BY app, process_type",
    )?;
    let rows = query.query_and_then([owner.0], |row| {
        Ok((AppId(row.get("app")?), text(row, "process_type", "process type")?, row.get("quantity")?))
    })?;
    let rows: Vec<_> = rows.collect::<Result<_>>()?;
    let mut all = Demand::default();
    for (app, process_type, quantity) in rows {
        let Size { cpu, memory } =
            sizes::of_app(t, app, SizeKind::Limit)?.size(&SizeTarget::Type(process_type), default_size);
        all.add(quantity, PartialSize { cpu: Some(cpu), memory: Some(memory) });
    }
    Ok(all)
}
