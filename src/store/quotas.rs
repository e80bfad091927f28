//! Quotas: how much of each [`Resource`] an owner, or each app of an owner, may have. They are checked in the transaction
//! that takes.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Transaction};

use super::{
    columns::text,
    database::Store,
    demand::{self, Demand},
    error::{Result, StoreError},
    ids::{AppId, UserId},
    limits::Limits,
    reserves::Reserves,
    secrets::Cipher,
    users,
};
use crate::model::{QuotaScope, Resource, UserName};

/// How much the owner, or each app of the owner, may have; `None` for any amount.
pub(super) fn limit(
    t: &Transaction<'_>,
    limits: &Limits,
    owner: Option<UserId>,
    resource: Resource,
) -> Result<Option<u64>> {
    let (_, default) = limits.quota.entry(resource);
    let Some(owner) = owner else { return Ok(for_admins(default, resource)) };
    let own = t
        .prepare_cached("SELECT max FROM quotas WHERE user = ?1 AND resource = ?2")?
        .query_row((owner.0, resource.as_str()), |row| row.get("max"))
        .optional()?;
    match own {
        Some(own) => Ok(Some(own)),
        None if users::with_id(t, owner)?.admin => Ok(for_admins(default, resource)),
        None => Ok(Some(default)),
    }
}

/// Admins, and the apps that belong to them all, are bound only by what holds for every app.
fn for_admins(default: u64, resource: Resource) -> Option<u64> {
    match resource.scope() {
        QuotaScope::Owner => None,
        QuotaScope::App => Some(default),
    }
}

/// What more declared instances take.
pub(super) const INSTANCES: [Resource; 4] = [Resource::Instances, Resource::Cpu, Resource::Memory, Resource::Logs];

/// What the database does not know.
const ELSEWHERE: [Resource; 8] = [
    Resource::Repository,
    Resource::Repositories,
    Resource::Images,
    Resource::Written,
    Resource::BuildCache,
    Resource::Builds,
    Resource::Pushes,
    Resource::Sessions,
];

/// What another task takes.
pub(super) const TASKS: [Resource; 4] = [Resource::Tasks, Resource::Cpu, Resource::Memory, Resource::Logs];

/// Whom or what an amount is counted for.
#[derive(Debug, Clone, Copy)]
enum Account {
    Owner(UserId),
    App(AppId),
}

/// The user whom the app counts against; without one, it belongs to the admins.
pub(super) fn owner(t: &Transaction<'_>, app: AppId) -> Result<Option<UserId>> {
    let mut query = t.prepare_cached("SELECT user FROM app_owners WHERE app = ?1")?;
    Ok(query.query_row([app.0], |row| row.get("user")).optional()?.map(UserId))
}

/// The apps that count against a user.
fn owned_apps(t: &Transaction<'_>, user: UserId) -> Result<Vec<AppId>> {
    let mut query = t.prepare_cached("SELECT app FROM app_owners WHERE user = ?1")?;
    let apps = query.query_map([user.0], |row| row.get("app").map(AppId))?;
    Ok(apps.collect::<rusqlite::Result<_>>()?)
}

/// Runs `work`, which changes what the app has of these resources. Refused, so that the transaction is rolled back, if its
/// owner, or the app, then has more than allowed and more than before.
pub(super) fn within<T>(
    t: &Transaction<'_>,
    limits: &Limits,
    app: AppId,
    resources: &[Resource],
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let owner = owner(t, app)?;
    within_owner(t, limits, owner, Some(app), resources, work)
}

/// The same for a change that gives the app to this owner, or creates it.
pub(super) fn within_owner<T>(
    t: &Transaction<'_>,
    limits: &Limits,
    owner: Option<UserId>,
    app: Option<AppId>,
    resources: &[Resource],
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let mut checked = Vec::new();
    let mut meter = Meter::new(t, limits);
    for resource in resources {
        if let Some(bound) = Bound::find(t, limits, owner, app, *resource)? {
            let before = meter.used(bound.account, bound.resource)?;
            checked.push((bound, before));
        }
    }
    let reserves = match limits.capacity {
        Some(capacity) if resources.contains(&Resource::Memory) => Some(Reserves::find(t, owner, capacity)?),
        _ => None,
    };
    let done = work()?;
    if let Some(reserves) = reserves {
        reserves.check(t)?;
    }
    let mut meter = Meter::new(t, limits);
    for (bound, before) in checked {
        bound.check(t, limits, before, meter.used(bound.account, bound.resource)?)?;
    }
    Ok(done)
}

/// How much an account may have of a resource.
struct Bound {
    owner: Option<UserId>,
    account: Account,
    resource: Resource,
    max: u64,
}

impl Bound {
    /// That of the owner or, if it holds for each app, of the app; `None` for any amount.
    fn find(
        t: &Transaction<'_>,
        limits: &Limits,
        owner: Option<UserId>,
        app: Option<AppId>,
        resource: Resource,
    ) -> Result<Option<Self>> {
        let account = match resource.scope() {
            QuotaScope::Owner => owner.map(Account::Owner),
            QuotaScope::App => app.map(Account::App),
        };
        let max = limit(t, limits, owner, resource)?;
        Ok(account.zip(max).map(|(account, max)| Self { owner, account, resource, max }))
    }

    /// Refuses more than allowed, unless it is no more than before.
    fn check(&self, t: &Transaction<'_>, limits: &Limits, before: u64, after: u64) -> Result<()> {
        if after <= self.max || after <= before {
            return Ok(());
        }
        let Self { resource, max, .. } = *self;
        let owner = self.owner.map(|owner| users::with_id(t, owner)).transpose()?.map(|user| user.name);
        let who = match (self.account, &owner) {
            (Account::Owner(_), Some(owner)) => owner.to_string(),
            (Account::App(_), _) | (Account::Owner(_), None) => "an app".to_owned(),
        };
        let what = format!("{who} may have {}, and this would make it {}", resource.amount(max), resource.value(after));
        let remedy = match &owner {
            Some(owner) => {
                let raise = format!("quota:set {owner} {resource}={}", resource.value(after));
                format!("quota shows what is used, and an admin raises the limit with {raise}")
            }
            None => format!("an admin raises the limit in paas.toml: quota.{}", limits.quota.entry(resource).0),
        };
        Err(StoreError::Exhausted(format!("{what}; {remedy}")))
    }
}

/// Tells how much there is of resources at a moment, of one owner and its apps. What several of them are counted from is read
/// once.
struct Meter<'a> {
    t: &'a Transaction<'a>,
    limits: &'a Limits,
    demand: Option<Demand>,
}

impl<'a> Meter<'a> {
    fn new(t: &'a Transaction<'a>, limits: &'a Limits) -> Self {
        Self { t, limits, demand: None }
    }

    fn demand(&mut self, owner: UserId) -> Result<Demand> {
        match self.demand {
            Some(demand) => Ok(demand),
            None => Ok(*self.demand.insert(demand::of_owner(self.t, owner, self.limits.default_size)?)),
        }
    }

    /// How much there is of a resource.
    fn used(&mut self, account: Account, resource: Resource) -> Result<u64> {
        let t = self.t;
        let count =
            |sql: &str, id: i64| -> Result<u64> { Ok(t.prepare_cached(sql)?.query_row([id], |row| row.get("used"))?) };
        match (account, resource) {
            (Account::Owner(user), Resource::Apps) => {
                count("SELECT count(*) AS used FROM app_owners WHERE user = ?1", user.0)
            }
            (Account::Owner(user), Resource::Ports) => count(
                "SELECT count(*) AS used FROM ports WHERE app IN (SELECT app FROM app_owners WHERE user = ?1)",
                user.0,
            ),
            (Account::Owner(user), Resource::Tasks) => Ok(self.demand(user)?.tasks),
            (Account::Owner(user), Resource::Instances) => Ok(self.demand(user)?.instances),
            (Account::Owner(user), Resource::Cpu) => Ok(self.demand(user)?.cpu_millis),
            (Account::Owner(user), Resource::Memory) => Ok(self.demand(user)?.memory_mib),
            (Account::Owner(user), Resource::Logs) => {
                let demand = self.demand(user)?;
                Ok((demand.instances + demand.tasks) * self.limits.log_mib)
            }
            (Account::App(app), Resource::Mappings) => {
                count("SELECT count(*) AS used FROM ports WHERE active AND app = ?1", app.0)
            }
            (Account::App(app), Resource::ProcessTypes) => {
                let types = demand::releases(t, app)?.into_values().map(|processes| processes.len()).max();
                Ok(types.unwrap_or(0).try_into().unwrap_or(u64::MAX))
            }
            (Account::App(app), Resource::Config) => {
                let sql = format!(
                    "SELECT coalesce(sum(length(name) + length(value) - {}), 0) AS used FROM config_vars WHERE app = ?1",
                    Cipher::OVERHEAD
                );
                count(&sql, app.0)
            }
            (Account::App(app), Resource::Bindings) => {
                count("SELECT coalesce(sum(bytes), 0) AS used FROM bindings WHERE app = ?1", app.0)
            }
            (Account::Owner(user), Resource::Volumes) => count(
                "SELECT coalesce(sum(size_mib), 0) AS used FROM volumes WHERE app IN (
                    SELECT app FROM app_owners WHERE user = ?1)",
                user.0,
            ),
            // Not in the database, or of the other scope.
            (
                Account::Owner(_),
                Resource::Mappings
                | Resource::ProcessTypes
                | Resource::Config
                | Resource::Bindings
                | Resource::Repository
                | Resource::Repositories
                | Resource::Images
                | Resource::Written
                | Resource::BuildCache
                | Resource::Builds
                | Resource::Pushes
                | Resource::Sessions,
            )
            | (
                Account::App(_),
                Resource::Apps
                | Resource::Ports
                | Resource::Tasks
                | Resource::Instances
                | Resource::Cpu
                | Resource::Memory
                | Resource::Volumes
                | Resource::Repository
                | Resource::Repositories
                | Resource::Images
                | Resource::Logs
                | Resource::Written
                | Resource::BuildCache
                | Resource::Builds
                | Resource::Pushes
                | Resource::Sessions,
            ) => Ok(0),
        }
    }
}

/// Refuses config vars, or service bindings, of this size, which are to become those of the app or a release, if that is more
/// than allowed, and more than the app has.
pub(super) fn check_bytes(
    t: &Transaction<'_>,
    limits: &Limits,
    app: AppId,
    resource: Resource,
    bytes: u64,
) -> Result<()> {
    let Some(bound) = Bound::find(t, limits, owner(t, app)?, Some(app), resource)? else { return Ok(()) };
    let before = Meter::new(t, limits).used(bound.account, bound.resource)?;
    bound.check(t, limits, before, bytes)
}

/// Refuses that a part of what the app has of a resource becomes this large, as the change itself would be.
pub(super) fn check_change(
    t: &Transaction<'_>,
    limits: &Limits,
    app: AppId,
    resource: Resource,
    (from, to): (u64, u64),
) -> Result<()> {
    let Some(bound) = Bound::find(t, limits, owner(t, app)?, Some(app), resource)? else { return Ok(()) };
    let before = Meter::new(t, limits).used(bound.account, bound.resource)?;
    bound.check(t, limits, before, before.saturating_sub(from).saturating_add(to))
}

/// How much of something the apps of an owner may have in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerLimit {
    /// The owner's name.
    pub name: UserName,
    /// How much there may be.
    pub max: u64,
    /// The apps that count.
    pub apps: Vec<AppId>,
}

/// A limit of a user, and what is used of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaRow {
    /// Resource.
    pub resource: Resource,
    /// How much there is now; of a limit for each app, the largest amount of one app. `None` for what the database does not
    /// know.
    pub used: Option<u64>,
    /// How much there may be; `None` for any amount.
    pub max: Option<u64>,
    /// Whether the limit was set for this user.
    pub own: bool,
}

impl Store {
    /// All limits of a user, and what is used of them.
    pub async fn quotas(&self, owner: UserId) -> Result<Vec<QuotaRow>> {
        let limits = self.limits();
        self.read(move |t, _| {
            let mut query = t.prepare_cached("SELECT resource FROM quotas WHERE user = ?1")?;
            let own = query.query_and_then([owner.0], |row| text(row, "resource", "name of a limit"))?;
            let own: Vec<Resource> = own.collect::<Result<_>>()?;
            let apps = owned_apps(t, owner)?;
            let mut meter = Meter::new(t, &limits);
            let row = |resource: Resource| {
                let amount = match resource.scope() {
                    QuotaScope::Owner => meter.used(Account::Owner(owner), resource)?,
                    QuotaScope::App => {
                        let amounts = apps.iter().map(|app| meter.used(Account::App(*app), resource));
                        amounts.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0)
                    }
                };
                let used = Some(amount).filter(|_| !ELSEWHERE.contains(&resource));
                let max = limit(t, &limits, Some(owner), resource)?;
                Ok(QuotaRow { resource, used, max, own: own.contains(&resource) })
            };
            Resource::ALL.into_iter().map(row).collect()
        })
        .await
    }

    /// Sets limits of a user; those without a value are those of the configuration again.
    pub async fn set_quotas(&self, user: UserId, quotas: BTreeMap<Resource, Option<u64>>) -> Result<()> {
        self.transact(move |t, _| {
            users::with_id(t, user)?;
            for (resource, max) in &quotas {
                match max {
                    Some(max) => t.execute(
                        "INSERT INTO quotas (user, resource, max) VALUES (?1, ?2, ?3)
                         ON CONFLICT DO UPDATE SET max = excluded.max",
                        (user.0, resource.as_str(), max),
                    )?,
                    None => {
                        t.execute("DELETE FROM quotas WHERE user = ?1 AND resource = ?2", (user.0, resource.as_str()))?
                    }
                };
            }
            Ok(())
        })
        .await
    }

    /// How much of a resource a user, or each app of the user, may have; `None` for any amount.
    pub async fn limit_of(&self, user: UserId, resource: Resource) -> Result<Option<u64>> {
        let limits = self.limits();
        self.read(move |t, _| limit(t, &limits, Some(user), resource)).await
    }

    /// Refuses that the owner of the app, or the app, gets more than allowed of something that the database does not know.
    pub async fn check_amount(&self, app: AppId, resource: Resource, before: u64, after: u64) -> Result<()> {
        let limits = self.limits();
        self.read(move |t, _| {
            let bound = Bound::find(t, &limits, owner(t, app)?, Some(app), resource)?;
            bound.map_or(Ok(()), |bound| bound.check(t, &limits, before, after))
        })
        .await
    }

    /// Refuses that a user gets more than allowed of something that the database does not know.
    pub async fn check_amount_of(&self, owner: UserId, resource: Resource, before: u64, after: u64) -> Result<()> {
        let limits = self.limits();
        self.read(move |t, _| {
            let bound = Bound::find(t, &limits, Some(owner), None, resource)?;
            bound.map_or(Ok(()), |bound| bound.check(t, &limits, before, after))
        })
        .await
    }

    /// The limits of all owners of apps who may not have any amount of a resource.
    pub async fn owner_limits(&self, resource: Resource) -> Result<Vec<OwnerLimit>> {
        let limits = self.limits();
        self.read(move |t, _| {
            let mut query = t.prepare_cached("SELECT DISTINCT user FROM app_owners")?;
            let owners: Vec<_> =
                query.query_map([], |row| row.get("user").map(UserId))?.collect::<rusqlite::Result<_>>()?;
            let mut found = Vec::new();
            for user in owners {
                if let Some(max) = limit(t, &limits, Some(user), resource)? {
                    let name = users::with_id(t, user)?.name;
                    found.push(OwnerLimit { name, max, apps: owned_apps(t, user)? });
                }
            }
            Ok(found)
        })
        .await
    }

    /// The apps that count against a user.
    pub async fn apps_owned_by(&self, user: UserId) -> Result<Vec<AppId>> {
        self.read(move |t, _| owned_apps(t, user)).await
    }

    /// The user whom the app counts against, and how much of a resource this one may have; `None` for any amount.
    pub async fn owner_and_limit(&self, app: AppId, resource: Resource) -> Result<(Option<UserId>, Option<u64>)> {
        let limits = self.limits();
        self.read(move |t, _| {
            let owner = owner(t, app)?;
            Ok((owner, limit(t, &limits, owner, resource)?))
        })
        .await
    }
}
