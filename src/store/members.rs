//! Members of apps. An app without an owner belongs to the admins.

use std::{cmp::Reverse, collections::BTreeMap};

use rusqlite::{OptionalExtension as _, Transaction};

use super::{
    columns::{parse, text},
    database::Store,
    ending,
    error::{Result, StoreError},
    ids::{AppId, UserId},
    limits::Limits,
    quotas,
    time::{Millis, now},
    users,
};
use crate::model::{AppName, Resource, Role, UserName};

/// A member of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name of the user.
    pub user: UserName,
    /// Role in the app.
    pub role: Role,
    /// Whether the user is a machine.
    pub machine: bool,
    /// Time since which the user has this role.
    pub since: Millis,
}

/// Who changes the members of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changer {
    /// User; `None` for the local socket.
    pub user: Option<UserId>,
    /// Whether an admin acts.
    pub admin: bool,
}

impl Changer {
    /// Refuses that the app comes to count against a user who does not act, unless an admin does.
    fn check(self, t: &Transaction<'_>, app: AppId, next: UserId) -> Result<()> {
        if self.admin || self.user == Some(next) {
            return Ok(());
        }
        let owns = role(t, app, next)? == Some(Role::Owner);
        let (next, app) = (users::with_id(t, next)?.name, app_name(t, app)?);
        let takes = format!("takes it with access:transfer {app} {next}");
        let remedy = if owns {
            format!("{next} {takes}")
        } else {
            format!("make {next} an owner (access:add {app} {next} owner), who then {takes}")
        };
        Err(StoreError::Refused(format!(
            "{app} would count against {next}, and only {next} or an admin may do that; {remedy}"
        )))
    }
}

/// What an app counts for against its owner.
const OWNED: [Resource; 8] = [
    Resource::Apps,
    Resource::Ports,
    Resource::Tasks,
    Resource::Instances,
    Resource::Cpu,
    Resource::Memory,
    Resource::Volumes,
    Resource::Logs,
];

fn app_name(t: &Transaction<'_>, app: AppId) -> Result<AppName> {
    let name: Option<String> =
        t.query_row("SELECT name FROM apps WHERE id = ?1", [app.0], |row| row.get("name")).optional()?;
    let name = name.ok_or_else(|| StoreError::NotFound("this app was destroyed; apps:list shows all".to_owned()))?;
    parse("app name", &name)
}

fn role(t: &Transaction<'_>, app: AppId, user: UserId) -> Result<Option<Role>> {
    let mut query = t.prepare_cached("SELECT role FROM members WHERE app = ?1 AND user = ?2")?;
    query.query_and_then((app.0, user.0), |row| text(row, "role", "role"))?.next().transpose()
}

/// Refuses to take the role from a user who is the app's only owner.
fn refuse_only_owner(t: &Transaction<'_>, app: AppId, user: UserId) -> Result<()> {
    let others: bool = t.query_row(
        "SELECT EXISTS (SELECT 1 FROM members WHERE app = ?1 AND user != ?2 AND role = 'owner') AS others",
        (app.0, user.0),
        |row| row.get("others"),
    )?;
    if others || role(t, app, user)? != Some(Role::Owner) {
        return Ok(());
    }
    let (user, app) = (users::with_id(t, user)?.name, app_name(t, app)?);
    Err(StoreError::Refused(format!(
        "{user} is the only owner of {app}; make another user an owner first (access:add {app} USER owner), who then takes it with \
         access:transfer {app} USER"
    )))
}

fn put(t: &Transaction<'_>, app: AppId, user: UserId, role: Role) -> Result<()> {
    // Both must exist: a broken reference would be reported as a failure of the database.
    app_name(t, app)?;
    users::with_id(t, user)?;
    t.execute(
        "INSERT INTO members (app, user, role, since) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET role = excluded.role,
            since = CASE role WHEN excluded.role THEN since ELSE excluded.since END",
        (app.0, user.0, role.as_str(), now()),
    )?;
    Ok(())
}

/// Gives the user this role, unless that would take the app's last owner away.
pub(super) fn set(t: &Transaction<'_>, app: AppId, user: UserId, role: Role) -> Result<()> {
    if role != Role::Owner {
        refuse_only_owner(t, app, user)?;
    }
    put(t, app, user, role)
}

/// Gives the user this role, unless the user has a higher one.
pub(super) fn raise(t: &Transaction<'_>, app: AppId, user: UserId, to: Role) -> Result<()> {
    if let Some(present) = role(t, app, user)?
        && present > to
    {
        let (user, app) = (users::with_id(t, user)?.name, app_name(t, app)?);
        return Err(StoreError::Refused(format!(
            "{user} is {present} of {app} already, which is more than {to}; name another user for this key"
        )));
    }
    put(t, app, user, to)
}

/// Runs `work`, which changes the members of the app. Refused if the app then counts against another user, who does not act or
/// may not have what it has, also of instances that are ending. In that case it is run twice: what that user has is measured before it.
fn change(t: &Transaction<'_>, limits: &Limits, app: AppId, by: Changer, work: impl Fn() -> Result<()>) -> Result<()> {
    let before = quotas::owner(t, app)?;
    t.execute_batch("SAVEPOINT members")?;
    work()?;
    let after = quotas::owner(t, app)?;
    if after == before {
        return Ok(t.execute_batch("RELEASE members")?);
    }
    t.execute_batch("ROLLBACK TO members; RELEASE members")?;
    if let Some(next) = after {
        by.check(t, app, next)?;
    }
    quotas::within_owner(t, limits, after, None, &OWNED, work)?;
    ending::refuse_too_many(t, limits, app)
}

impl Store {
    /// Role of the user in the app; `None` if the user is not a member.
    pub async fn role(&self, app: AppId, user: UserId) -> Result<Option<Role>> {
        self.read(move |t, _| role(t, app, user)).await
    }

    /// Roles of the user in all apps.
    pub async fn roles_of(&self, user: UserId) -> Result<BTreeMap<AppId, Role>> {
        self.read(move |t, _| {
            let mut query = t.prepare_cached("SELECT app, role FROM members WHERE user = ?1")?;
            query.query_and_then([user.0], |row| Ok((AppId(row.get("app")?), text(row, "role", "role")?)))?.collect()
        })
        .await
    }

    /// Members of the app: owners first, then by descending role, then by name.
    pub async fn members(&self, app: AppId) -> Result<Vec<Member>> {
        self.read(move |t, _| {
            let mut query = t.prepare_cached(
                "SELECT u.name AS name, m.role AS role, u.machine AS machine, m.since AS since
                 FROM members m JOIN users u ON u.id = m.user WHERE m.app = ?1 ORDER BY u.name",
            )?;
            let members = query.query_and_then([app.0], |row| {
                Ok(Member {
                    user: text(row, "name", "user name")?,
                    role: text(row, "role", "role")?,
                    machine: row.get("machine")?,
                    since: row.get("since")?,
                })
            })?;
            let mut members: Vec<_> = members.collect::<Result<_>>()?;
            members.sort_by_key(|member| Reverse(member.role));
            Ok(members)
        })
        .await
    }

    /// For each app that has one, the user who is its owner the longest.
    pub async fn owners(&self) -> Result<BTreeMap<AppId, UserName>> {
        self.read(|t, _| {
            let mut query = t.prepare_cached("SELECT app, name FROM app_owners")?;
            query.query_and_then([], |row| Ok((AppId(row.get("app")?), text(row, "name", "user name")?)))?.collect()
        })
        .await
    }

    /// The user whom the app counts against once this one has this role, or none.
    pub async fn owner_after(&self, app: AppId, user: UserId, role: Option<Role>) -> Result<Option<UserId>> {
        self.read(move |t, _| {
            let owner = quotas::owner(t, app)?;
            if role == Some(Role::Owner) {
                return Ok(owner.or(Some(user)));
            }
            let mut query = t.prepare_cached(
                "SELECT m.user AS user FROM members m JOIN users u ON u.id = m.user
                 WHERE m.app = ?1 AND m.user != ?2 AND m.role = 'owner' ORDER BY m.since, u.name LIMIT 1",
            )?;
            Ok(query.query_row((app.0, user.0), |row| row.get("user")).optional()?.map(UserId))
        })
        .await
    }

    /// Adds a member or changes its role. Refused if it would take the last owner away, or if the app then counts against a user
    /// who does not act or may not have what it has.
    pub async fn set_member(&self, app: AppId, user: UserId, role: Role, by: Changer) -> Result<()> {
        let limits = self.limits();
        self.transact(move |t, _| change(t, &limits, app, by, || set(t, app, user, role))).await
    }

    /// Adds a member; one who has a role already keeps it.
    pub async fn add_member(&self, app: AppId, user: UserId, to: Role) -> Result<()> {
        self.transact(move |t, _| match role(t, app, user)? {
            Some(_) => Ok(()),
            None => put(t, app, user, to),
        })
        .await
    }

    /// Removes a member. Refused for the last owner, and if the app then counts against a user who does not act or may not have
    /// what it has.
    pub async fn remove_member(&self, app: AppId, user: UserId, by: Changer) -> Result<()> {
        let limits = self.limits();
        self.transact(move |t, _| {
            change(t, &limits, app, by, || {
                refuse_only_owner(t, app, user)?;
                if t.execute("DELETE FROM members WHERE app = ?1 AND user = ?2", (app.0, user.0))? == 0 {
                    let (user, app) = (users::with_id(t, user)?.name, app_name(t, app)?);
                    return Err(StoreError::NotFound(format!(
                        "{user} is not a member of {app}; access:list {app} lists the members"
                    )));
                }
                Ok(())
            })
        })
        .await
    }

    /// Makes the user the app's only owner; earlier owners become operators. Refused if the app then counts against a user who
    /// does not act or may not have what it has.
    pub async fn transfer(&self, app: AppId, user: UserId, by: Changer) -> Result<()> {
        let limits = self.limits();
        self.transact(move |t, _| {
            change(t, &limits, app, by, || {
                put(t, app, user, Role::Owner)?;
                t.execute(
                    "UPDATE members SET role = 'operator', since = ?3 WHERE app = ?1 AND user != ?2 AND role = 'owner'",
                    (app.0, user.0, now()),
                )?;
                Ok(())
            })
        })
        .await
    }
}
