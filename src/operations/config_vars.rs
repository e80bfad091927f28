//! Operations of config vars.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    failure::{Failure, Result},
    operation::Operation,
};
use crate::{
    deploy::ConfigChange,
    model::{AppName, ConfigKey, ReleaseNumber, Right, Secret},
    progress::Progress,
    store::{App, ConfigVars, Effect},
};

/// Maximum size of a value, in bytes.
const MAX_VALUE_BYTES: usize = 64 * 1024;

/// The variables that paas itself sets for every instance.
const RESERVED: [&str; 4] = ["PORT", "PAAS_APP", "PAAS_PROCESS", "PAAS_RELEASE"];

/// Sets config vars, removes others, and makes a release with them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetConfig {
    /// App.
    pub app: AppName,
    /// Values by name; null removes the config var.
    #[schemars(schema_with = "vars")]
    pub vars: BTreeMap<ConfigKey, Option<Secret>>,
    /// Make no release: the change takes effect with the next one.
    #[serde(default)]
    pub no_restart: bool,
    /// Make them visible to builds, too, until they are unset.
    #[serde(default)]
    pub build: bool,
}

/// The schema of config vars that are set or removed.
fn vars(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = BTreeMap::<ConfigKey, Option<Secret>>::json_schema(generator);
    let of_names = schema.get_mut("patternProperties").and_then(serde_json::Value::as_object_mut);
    for value in of_names.into_iter().flat_map(serde_json::Map::values_mut) {
        value["pattern"] = r"^[^\x00]*$".into();
        // In characters; the limit itself is in bytes.
        value["maxLength"] = MAX_VALUE_BYTES.into();
    }
    schema.insert("minProperties".to_owned(), 1.into());
    schema
}

/// A change of config vars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChangedConfig {
    /// App.
    pub app: AppName,
    /// Number of the release that was made for them; none if the change takes effect with the next release, or if
    /// nothing has changed.
    pub release: Option<ReleaseNumber>,
    /// Names of those that are set.
    pub set: Vec<ConfigKey>,
    /// Names of those that are unset.
    pub unset: Vec<ConfigKey>,
}

impl Operation for SetConfig {
    const NAME: &'static str = "config:set";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedConfig;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        join(self.vars.keys(), " ")
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedConfig> {
        if self.vars.is_empty() {
            return Err(Failure::invalid("no config var is given; give at least one"));
        }
        let (mut values, mut unset) = (ConfigVars::new(), Vec::new());
        for (name, value) in self.vars {
            match value {
                Some(value) => drop(values.insert(name, value)),
                None => unset.push(name),
            }
        }
        check(&values)?;
        let set: Vec<_> = values.keys().cloned().collect();
        for (what, names) in
            [("Setting", &set), ("Removing", &unset)].into_iter().filter(|(_, names)| !names.is_empty())
        {
            context.progress.step(format!("{what} {}", join(names, ", "))).await;
        }
        let unchanged =
            if set.is_empty() { "no change: none of them is set" } else { "no change: the values are already set" };
        let release = change(context, &app, values, unset.clone(), !self.no_restart, unchanged).await?;
        if !unset.is_empty() {
            context.store.set_build_vars(app.id, unset.clone(), false).await?;
        }
        if self.build && !set.is_empty() {
            context.store.set_build_vars(app.id, set.clone(), true).await?;
            context.progress.detail("builds see them, too, from the next build on").await;
        }
        Ok(ChangedConfig { app: app.name, release, set, unset })
    }
}

/// Removes config vars and makes a release without them.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct UnsetConfig {
    /// App.
    pub app: AppName,
    /// Names.
    #[arg(required = true)]
    #[schemars(length(min = 1))]
    pub names: Vec<ConfigKey>,
    /// Make no release: the change takes effect with the next one.
    #[arg(long)]
    #[serde(default)]
    pub no_restart: bool,
}

impl Operation for UnsetConfig {
    const NAME: &'static str = "config:unset";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedConfig;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        join(&self.names, " ")
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedConfig> {
        let names = self.names;
        if names.is_empty() {
            return Err(Failure::invalid("no config var is named; name at least one"));
        }
        context.progress.step(format!("Removing {}", join(&names, ", "))).await;
        let unchanged = "no change: none of them is set";
        let set = ConfigVars::new();
        let release = change(context, &app, set, names.clone(), !self.no_restart, unchanged).await?;
        context.store.set_build_vars(app.id, names.clone(), false).await?;
        Ok(ChangedConfig { app: app.name, release, set: Vec::new(), unset: names })
    }
}

/// Shows a config var.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct GetConfig {
    /// App.
    pub app: AppName,
    /// Name.
    pub name: ConfigKey,
}

/// A config var.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConfigVar {
    /// Name.
    pub name: ConfigKey,
    /// Value.
    pub value: Secret,
}

impl Operation for GetConfig {
    const NAME: &'static str = "config:get";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = ConfigVar;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.name.to_string()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ConfigVar> {
        let Some(value) = context.store.config_vars(app.id).await?.remove(&self.name) else {
            let text =
                format!("{0} has no config var {1}; config:keys {0} lists those that it has", app.name, self.name);
            return Err(Failure::not_found(text));
        };
        Ok(ConfigVar { name: self.name, value })
    }
}

/// Lists config vars with their values.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListConfig {
    /// App.
    pub app: AppName,
}

/// A config var of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConfigVarRow {
    /// Name.
    pub name: ConfigKey,
    /// Value.
    pub value: Secret,
    /// Whether builds see it.
    pub build: bool,
}

impl Operation for ListConfig {
    const NAME: &'static str = "config:list";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Vec<ConfigVarRow>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Vec<ConfigVarRow>> {
        let visible_to_builds = context.store.build_vars(app.id).await?;
        let vars = context.store.config_vars(app.id).await?.into_iter();
        Ok(vars.map(|(name, value)| ConfigVarRow { build: visible_to_builds.contains(&name), name, value }).collect())
    }
}

/// Lists the names of config vars, without their values.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListConfigKeys {
    /// App.
    pub app: AppName,
}

/// Names of config vars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct ConfigKeys(pub Vec<ConfigKey>);

impl Operation for ListConfigKeys {
    const NAME: &'static str = "config:keys";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = ConfigKeys;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ConfigKeys> {
        Ok(ConfigKeys(context.store.config_vars(app.id).await?.into_keys().collect()))
    }
}

/// Refuses config vars that cannot be set; an error never repeats a value.
fn check(vars: &ConfigVars) -> Result {
    for (name, value) in vars {
        if RESERVED.contains(&name.as_str()) {
            return Err(Failure::invalid(format!("{name} is set by paas itself; choose another name")));
        }
        let value = value.expose();
        if value.len() > MAX_VALUE_BYTES || value.contains('\0') {
            let text = format!("the value of {name} has a NUL byte or more than 64 KiB; shorten it, or encode it");
            return Err(Failure::invalid(text));
        }
    }
    Ok(())
}

/// Changes config vars; tells why if no release was made. Returns the release.
async fn change(
    context: &Context<'_>,
    app: &App,
    set: ConfigVars,
    unset: Vec<ConfigKey>,
    restart: bool,
    unchanged: &str,
) -> Result<Option<ReleaseNumber>> {
    let (by, progress, cancel) = (context.caller.name(), context.progress, context.hangup);
    let changed = context.deployer.change_config(app, set, unset, restart, by, progress, cancel).await?;
    Ok(release_of(changed, unchanged, progress).await)
}

/// The release that a change of config vars or bindings has made; tells why if it made none.
pub(super) async fn release_of(changed: ConfigChange, unchanged: &str, progress: &Progress) -> Option<ReleaseNumber> {
    let detail = match changed {
        ConfigChange::Nothing => unchanged,
        ConfigChange::Stored => "no release was made: the change takes effect with the next one",
        ConfigChange::Released(release) => return Some(release),
    };
    progress.detail(detail).await;
    None
}

/// Names with a separator between them.
pub(super) fn join(names: impl IntoIterator<Item: ToString>, separator: &str) -> String {
    names.into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> SetConfig {
        let input = serde_json::json!({ "app": "a", "vars": { name: value } });
        serde_json::from_value(input).unwrap()
    }

    #[test]
    fn values_are_checked_and_not_repeated_in_errors() {
        let one = |name: &str, value: &str| ConfigVars::from([(name.parse().unwrap(), Secret::new(value))]);
        assert_eq!(check(&one("A", "hunter2")), Ok(()));
        let long = "hunter2".repeat(MAX_VALUE_BYTES);
        for (name, value) in [("PORT", "hunter2"), ("PAAS_APP", "hunter2"), ("A", "hunter2\0"), ("A", &long)] {
            let error = check(&one(name, value)).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_audit_entry_and_debug_output_have_names_but_no_values() {
        let mut set = set("LEVEL", "hunter2");
        set.vars.insert("A".parse().unwrap(), Some(Secret::new("hunter2")));
        assert_eq!(set.audit(), "A LEVEL");
        assert!(!format!("{set:?}").contains("hunter2"));
    }
}
