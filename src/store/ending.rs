//! Instances that were stopped or replaced and have not ended yet. What is declared does not count them, so that an owner at a limit
//! can release and restart; but no more are started while those of the owner have more than the limit themselves, and nobody
//! comes to own an app with which this would be so.

use std::collections::BTreeSet;

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
use crate::model::{AppName, PartialSize, Resource, Size, SizeTarget};

/// Refuses that instances of the app are started or that its owner has come to own it, if those of the owner that are ending have
/// more than the owner may have.
pub(super) fn refuse_too_many(t: &Transaction<'_>, limits: &Limits, app: AppId) -> Result<()> {
    let Some(owner) = quotas::owner(t, app)? else { return Ok(()) };
    let Ending { demand: Demand { instances, cpu_millis, memory_mib, .. }, apps } =
        of_owner(t, owner, limits.default_size)?;
    for (resource, ending) in
        [(Resource::Instances, instances), (Resource::Cpu, cpu_millis), (Resource::Memory, memory_mib)]
    {
        let Some(max) = quotas::limit(t, limits, Some(owner), resource)?.filter(|max| ending > *max) else { continue };
        let shorten = apps.iter().map(|app| format!("ps:set {app} stop-timeout")).collect::<Vec<_>>().join(", ");
        return Err(StoreError::Exhausted(format!(
            "{} may have {}, and those that were stopped or replaced and have not ended yet have {}; wait until they have, and give \
             their process types less time for it ({shorten})",
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

/// The ending instances of all apps of a user.
struct Ending {
    demand: Demand,
    /// Names of the apps that have some.
    apps: BTreeSet<AppName>,
}

fn of_owner(t: &Transaction<'_>, owner: UserId, default_size: Size) -> Result<Ending> {
    let mut query = t.prepare_cached(
        "SELECT i.app AS app, a.name AS name, i.process_type AS process_type, count(*) AS quantity
         FROM instances i JOIN apps a ON a.id = i.app
         WHERE i.state = 'retiring' AND i.app IN (SELECT app FROM app_owners WHERE user = ?1)
         GROUP BY i.app, i.process_type",
    )?;
    let rows = query.query_and_then([owner.0], |row| {
        let name = text(row, "name", "app name")?;
        Ok((AppId(row.get("app")?), name, text(row, "process_type", "process type")?, row.get("quantity")?))
    })?;
    let rows: Vec<_> = rows.collect::<Result<_>>()?;
    let mut all = Ending { demand: Demand::default(), apps: BTreeSet::new() };
    for (app, name, process_type, quantity) in rows {
        let Size { cpu, memory } =
            sizes::of_app(t, app, SizeKind::Limit)?.size(&SizeTarget::Type(process_type), default_size);
        all.demand.add(quantity, PartialSize { cpu: Some(cpu), memory: Some(memory) });
        all.apps.insert(name);
    }
    Ok(all)
}
