//! Operations of service bindings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    config_vars::{join, release_of},
    context::Context,
    failure::{Failure, Result},
    operation::Operation,
};
use crate::{
    lifecycle::BINDING_ROOT,
    model::{
        AppName, Binding, BindingKey, BindingName, BindingProvider, BindingType, BindingValue, Bindings, ReleaseNumber,
        Right,
    },
    store::{App, Effect},
};

/// Maximum size of the names and contents of the files of one binding, in bytes.
pub const MAX_BINDING_BYTES: u64 = 1024 * 1024;
/// Maximum number of values of one binding, and of bindings of one app: each file takes a page of memory in each instance.
const MAX_VALUES: usize = 100;
const MAX_BINDINGS: usize = 50;
/// Maximum number of values of all bindings of one app.
const MAX_VALUES_OF_APP: usize = 500;

/// Adds a service binding, or replaces one, and makes a release with it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddBinding {
    /// App.
    pub app: AppName,
    /// Name.
    pub name: BindingName,
    /// Type, such as `postgresql`.
    #[serde(rename = "type")]
    pub binding_type: BindingType,
    /// Provider, which tells several bindings of a type apart.
    #[serde(default)]
    pub provider: Option<BindingProvider>,
    /// Values by key, base64-encoded.
    #[serde(default)]
    pub values: BTreeMap<BindingKey, BindingValue>,
    /// Make no release: the change takes effect with the next one.
    #[serde(default)]
    pub no_restart: bool,
}

/// A change of service bindings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChangedBindings {
    /// App.
    pub app: AppName,
    /// Number of the release that was made for them; none if the change takes effect with the next release, or if
    /// nothing has changed.
    pub release: Option<ReleaseNumber>,
    /// Names of those that are added or replaced.
    pub added: Vec<BindingName>,
    /// Names of those that are removed.
    pub removed: Vec<BindingName>,
}

impl Operation for AddBinding {
    const NAME: &'static str = "bindings:add";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedBindings;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        let keys: String = self.values.keys().flat_map(|key| [" ", key.as_str()]).collect();
        format!("{} {}{keys}", self.name, self.binding_type)
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedBindings> {
        let Self { name, binding_type, provider, values, no_restart, .. } = self;
        let binding = Binding { binding_type, provider, values };
        let declared = context.store.bindings(app.id).await?;
        check(&name, &binding, &declared)?;
        let verb = if declared.contains_key(&name) { "Replacing" } else { "Adding" };
        context.progress.step(format!("{verb} the binding {name}")).await;
        if context.store.config_vars(app.id).await?.keys().any(|key| key.as_str() == BINDING_ROOT) {
            let text = format!(
                "the config var {BINDING_ROOT} says where the app looks for bindings; config:unset {} {BINDING_ROOT} has it \
                 find this one",
                app.name
            );
            context.progress.trouble(text).await;
        }
        let added = Bindings::from([(name.clone(), binding)]);
        let unchanged = "no change: the binding is already so";
        let release = change(context, &app, added, Vec::new(), !no_restart, unchanged).await?;
        Ok(ChangedBindings { app: app.name, release, added: vec![name], removed: Vec::new() })
    }
}

/// Removes service bindings and makes a release without them.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RemoveBindings {
    /// App.
    pub app: AppName,
    /// Names.
    #[arg(required = true)]
    #[schemars(length(min = 1))]
    pub names: Vec<BindingName>,
    /// Make no release: the change takes effect with the next one.
    #[arg(long)]
    #[serde(default)]
    pub no_restart: bool,
}

impl Operation for RemoveBindings {
    const NAME: &'static str = "bindings:remove";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedBindings;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        join(&self.names, " ")
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedBindings> {
        let names = self.names;
        if names.is_empty() {
            return Err(Failure::invalid("no binding is named; name at least one"));
        }
        let declared = context.store.bindings(app.id).await?;
        if let Some(missing) = names.iter().find(|name| !declared.contains_key(name)) {
            return Err(missing_binding(&app, missing));
        }
        context.progress.step(format!("Removing {}", join(&names, ", "))).await;
        let unchanged = "no change: none of them is there";
        let release = change(context, &app, Bindings::new(), names.clone(), !self.no_restart, unchanged).await?;
        Ok(ChangedBindings { app: app.name, release, added: Vec::new(), removed: names })
    }
}

/// Lists the service bindings of an app, with the names of their keys.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListBindings {
    /// App.
    pub app: AppName,
}

/// A service binding of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BindingRow {
    /// Name.
    pub name: BindingName,
    /// Type.
    #[serde(rename = "type")]
    pub binding_type: BindingType,
    /// Provider.
    pub provider: Option<BindingProvider>,
    /// Names of its keys.
    pub keys: Vec<BindingKey>,
}

impl Operation for ListBindings {
    const NAME: &'static str = "bindings:list";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Vec<BindingRow>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Vec<BindingRow>> {
        let row = |(name, binding): (BindingName, Binding)| BindingRow {
            name,
            binding_type: binding.binding_type,
            provider: binding.provider,
            keys: binding.values.into_keys().collect(),
        };
        Ok(context.store.bindings(app.id).await?.into_iter().map(row).collect())
    }
}

/// Shows the files of service bindings with their sizes; values are never shown.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ReportBindings {
    /// App.
    pub app: AppName,
    /// Binding; without it, all.
    pub name: Option<BindingName>,
}

/// A value of a service binding, without the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BindingReportRow {
    /// Name of the binding.
    pub name: BindingName,
    /// Its type.
    #[serde(rename = "type")]
    pub binding_type: BindingType,
    /// Its provider.
    pub provider: Option<BindingProvider>,
    /// Key; none of a binding without values.
    pub key: Option<BindingKey>,
    /// Size of the value, in bytes.
    pub bytes: Option<u64>,
}

impl Operation for ReportBindings {
    const NAME: &'static str = "bindings:report";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Vec<BindingReportRow>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.name.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Vec<BindingReportRow>> {
        let mut bindings = context.store.bindings(app.id).await?;
        if let Some(name) = &self.name {
            bindings.retain(|other, _| other == name);
            if bindings.is_empty() {
                return Err(missing_binding(&app, name));
            }
        }
        Ok(bindings.into_iter().flat_map(report).collect())
    }
}

fn report((name, binding): (BindingName, Binding)) -> Vec<BindingReportRow> {
    let Binding { binding_type, provider, values } = binding;
    let of_value = |value: Option<(BindingKey, BindingValue)>| BindingReportRow {
        name: name.clone(),
        binding_type: binding_type.clone(),
        provider: provider.clone(),
        bytes: value.as_ref().map(|(_, value)| value.expose().len() as u64),
        key: value.map(|(key, _)| key),
    };
    if values.is_empty() {
        return vec![of_value(None)];
    }
    values.into_iter().map(|value| of_value(Some(value))).collect()
}

fn missing_binding(app: &App, name: &BindingName) -> Failure {
    Failure::not_found(format!("{0} has no binding {name}; bindings:list {0} lists those that it has", app.name))
}

/// Refuses a binding that cannot be added to these.
fn check(name: &BindingName, binding: &Binding, declared: &Bindings) -> Result {
    if binding.values.len() > MAX_VALUES {
        let text = format!("a binding has at most {MAX_VALUES} values; divide {name} into several");
        return Err(Failure::invalid(text));
    }
    if binding.bytes() > MAX_BINDING_BYTES {
        let text =
            format!("the values of {name} have more than 1 MiB; divide it into several bindings, or shorten them");
        return Err(Failure::invalid(text));
    }
    if declared.len() >= MAX_BINDINGS && !declared.contains_key(name) {
        return Err(Failure::invalid(format!(
            "an app has at most {MAX_BINDINGS} bindings; bindings:remove removes some"
        )));
    }
    let of_others = declared.iter().filter(|(other, _)| *other != name).map(|(_, other)| other.values.len());
    if of_others.sum::<usize>() + binding.values.len() > MAX_VALUES_OF_APP {
        return Err(Failure::invalid(format!(
            "the bindings of an app have at most {MAX_VALUES_OF_APP} values; put several into one file, or remove some bindings"
        )));
    }
    Ok(())
}

/// Changes bindings; tells why if no release was made. Returns the release.
async fn change(
    context: &Context<'_>,
    app: &App,
    added: Bindings,
    removed: Vec<BindingName>,
    restart: bool,
    unchanged: &str,
) -> Result<Option<ReleaseNumber>> {
    let (by, progress, cancel) = (context.caller.name(), context.progress, context.hangup);
    let is_added = !added.is_empty();
    let changed = context.deployer.change_bindings(app, added, removed, restart, by, progress, cancel).await?;
    let release = release_of(changed, unchanged, progress).await;
    if is_added && release.is_some() {
        let text = format!("buildpacks see it from the next build on; ps:rebuild {} builds now", app.name);
        progress.detail(text).await;
    }
    Ok(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(values: &serde_json::Value) -> AddBinding {
        let input = serde_json::json!({ "app": "a", "name": "db", "type": "postgresql", "values": values });
        serde_json::from_value(input).unwrap()
    }

    #[test]
    fn the_audit_entry_and_debug_output_have_keys_but_no_values() {
        let add = add(&serde_json::json!({ "password": "aHVudGVyMg==", "user": "" }));
        assert_eq!(add.audit(), "db postgresql password user");
        assert_eq!(add.values.values().next().unwrap().expose(), b"hunter2");
        let shown = format!("{add:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVyMg"), "{shown}");
        let rows = report((add.name, Binding { binding_type: add.binding_type, provider: None, values: add.values }));
        let rows: Vec<_> = rows.iter().map(|row| (row.key.as_ref().unwrap().as_str(), row.bytes)).collect();
        assert_eq!(rows, [("password", Some(7)), ("user", Some(0))]);
    }

    #[test]
    fn a_binding_is_bounded() {
        let check = |values: BTreeMap<BindingKey, BindingValue>, declared: usize| {
            let AddBinding { name, binding_type, .. } = add(&serde_json::json!({}));
            let binding = Binding { binding_type, provider: None, values };
            let declared = (0..declared).map(|i| (format!("b{i}").parse().unwrap(), binding.clone())).collect();
            check(&name, &binding, &declared).map_err(|failure| failure.to_string())
        };
        let value = |size: usize| BTreeMap::from([("k".parse().unwrap(), BindingValue::new(vec![b'x'; size]))]);
        assert_eq!(check(value(1024 * 1024 - 15), 49), Ok(()));
        assert!(check(value(1024 * 1024 - 14), 0).unwrap_err().contains("more than 1 MiB"));
        assert!(check(value(1), 50).unwrap_err().contains("at most 50 bindings"));
        let many = (0..=100).map(|i| (format!("k{i}").parse().unwrap(), BindingValue::new(""))).collect();
        assert!(check(many, 0).unwrap_err().contains("at most 100 values"));
        let some =
            |count: usize| (0..count).map(|i| (format!("k{i}").parse().unwrap(), BindingValue::new(""))).collect();
        assert_eq!(check(some(100), 4), Ok(()));
        assert!(check(some(100), 5).unwrap_err().contains("at most 500 values"));
    }
}
