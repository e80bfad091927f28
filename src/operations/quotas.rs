//! Operations of quotas: what each owner of apps may have.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::{Context, Requirement},
    failure::{Failure, Result},
    operation::Operation,
    target::Server,
};
use crate::{
    deploy::OwnerDiskUse,
    model::{QuotaScope, Resource, Right, UserName},
    store::{Effect, QuotaRow},
};

/// Shows the limits of a user, and what is used of them.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ShowQuota {
    /// User; without one, the caller.
    #[serde(default)]
    pub user: Option<UserName>,
}

/// The limits of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UserQuota {
    /// User.
    pub user: UserName,
    /// Limits.
    pub limits: Vec<QuotaLimit>,
}

/// A limit of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QuotaLimit {
    /// What is limited; `cpu` counts thousandths of a CPU, `memory`, `volumes`, `repository`, `repositories`,
    /// `images`, `logs`, `written` and `build-cache` MiB, `config` bytes.
    pub resource: Resource,
    /// Whether the limit holds for each app, or for all apps together.
    pub per_app: bool,
    /// What is used of it; of a limit for each app, by the app that uses most. None where it is not counted.
    pub used: Option<u64>,
    /// The limit; without one, any amount is allowed.
    pub limit: Option<u64>,
    /// Whether it was set for this user.
    pub own: bool,
}

impl From<QuotaRow> for QuotaLimit {
    fn from(row: QuotaRow) -> Self {
        let QuotaRow { resource, used, max, own } = row;
        Self { resource, per_app: resource.scope() == QuotaScope::App, used, limit: max, own }
    }
}

impl Operation for ShowQuota {
    const NAME: &'static str = "quota";
    const RIGHT: Right = Right::Use;
    const EFFECT: Effect = Effect::Read;
    type Target = Server;
    type Output = UserQuota;

    fn target(&self) {}

    fn audit(&self) -> String {
        self.user.as_ref().map_or_else(String::new, ToString::to_string)
    }

    async fn requirement(&self, context: &Context<'_>, _: &Server) -> Result<Option<Requirement>> {
        let other = self.user.as_ref().filter(|user| user.as_str() != context.caller.name());
        let reason = || "only an admin may see the limits of another user; quota shows yours".to_owned();
        Ok(other.map(|_| Requirement { right: Right::Admin, reason: reason() }))
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<UserQuota> {
        let caller = || context.caller.actor.user.and_then(|_| context.caller.name().parse().ok());
        let Some(user) = self.user.or_else(caller) else {
            return Err(Failure::invalid("no user is named; name one, as in quota ada: users:list lists all"));
        };
        quota_of(context, user).await
    }
}

/// A limit as it is set: `apps=60`; `apps=default` for that of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLimit {
    /// What is limited.
    pub resource: Resource,
    /// The limit, in the unit in which it is shown; without one, that of the configuration applies again.
    #[serde(default)]
    pub limit: Option<u64>,
}

impl std::str::FromStr for NewLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write LIMIT=VALUE, for example apps=60 or memory=8g")?;
        let resource: Resource = name.parse()?;
        let limit = match value {
            "default" => None,
            value => Some(resource.parse_amount(value)?),
        };
        Ok(Self { resource, limit })
    }
}

impl std::fmt::Display for NewLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.limit.map_or_else(|| "default".to_owned(), |limit| self.resource.value(limit));
        write!(f, "{}={value}", self.resource)
    }
}

/// Sets limits of a user.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SetQuota {
    /// User.
    pub user: UserName,
    /// LIMIT=VALUE; LIMIT=default for that of the configuration.
    #[arg(value_name = "LIMIT=VALUE", required = true)]
    #[schemars(length(min = 1))]
    pub limits: Vec<NewLimit>,
}

impl Operation for SetQuota {
    const NAME: &'static str = "quota:set";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = UserQuota;

    fn target(&self) {}

    fn audit(&self) -> String {
        let limits: Vec<_> = self.limits.iter().map(ToString::to_string).collect();
        format!("{} {}", self.user, limits.join(" "))
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<UserQuota> {
        if self.limits.is_empty() {
            return Err(Failure::invalid("no limit is given; give at least one, such as apps=60"));
        }
        let user = context.store.user_named(self.user.clone()).await?;
        let mut limits = BTreeMap::new();
        for NewLimit { resource, limit } in self.limits {
            if limits.insert(resource, limit).is_some() {
                return Err(Failure::invalid(format!("{resource} is given twice; give it once")));
            }
            if limit == Some(0) && resource.is_at_a_time() {
                return Err(Failure::invalid(format!("{resource} must be at least 1: what waits would wait for ever")));
            }
            if limit.is_some_and(|limit| limit > MAX_LIMIT) {
                return Err(Failure::invalid(format!(
                    "the limit of {resource} is too large; give at most {MAX_LIMIT}"
                )));
            }
        }
        context.store.set_quotas(user.id, limits).await?;
        quota_of(context, self.user).await
    }
}

/// The largest limit that can be set.
const MAX_LIMIT: u64 = 1_000_000_000_000;

async fn quota_of(context: &Context<'_>, name: UserName) -> Result<UserQuota> {
    let user = context.store.user_named(name).await?;
    let rows = context.store.quotas(user.id).await?;
    let mut limits: Vec<_> = rows.into_iter().map(QuotaLimit::from).collect();
    let OwnerDiskUse { repository_mib, repositories_mib, images_mib, written_mib, build_cache_mib } =
        context.deployer.owner_disk_use(user.id).await?;
    for (resource, used) in [
        (Resource::Repository, repository_mib),
        (Resource::Repositories, repositories_mib),
        (Resource::Images, images_mib),
        (Resource::Written, written_mib),
        (Resource::BuildCache, build_cache_mib),
    ] {
        for limit in limits.iter_mut().filter(|limit| limit.resource == resource) {
            limit.used = Some(used);
        }
    }
    Ok(UserQuota { user: user.name, limits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_shown_in_their_unit() {
        for text in ["apps=60", "cpu=1.5", "memory=8192", "config=default"] {
            assert_eq!(text.parse::<NewLimit>().unwrap().to_string(), text);
        }
        assert_eq!("memory=8g".parse::<NewLimit>().unwrap().limit, Some(8192));
        for bad in ["apps", "apps=", "apps=x", "nothing=1", "=1", "apps=-1"] {
            assert!(bad.parse::<NewLimit>().is_err(), "{bad}");
        }
    }
}
