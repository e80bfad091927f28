//! Operations of port mappings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::{Context, Requirement},
    failure::{Failure, Result},
    operation::Operation,
    ps,
};
use crate::{
    config::Router,
    model::{AppName, CONTAINER_PORT, Line, Right},
    store::{App, Effect, PortMapping, PortScheme},
};

/// A port mapping: a port of the router that leads to a port of the web instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Protocol.
    pub scheme: PortScheme,
    /// Port of the router.
    #[schemars(range(min = 1))]
    pub host: u16,
    /// Port that the instances listen on.
    #[schemars(range(min = 1))]
    pub container: u16,
}

impl From<&PortMapping> for Mapping {
    fn from(mapping: &PortMapping) -> Self {
        Self { scheme: mapping.scheme, host: mapping.host_port, container: mapping.container_port }
    }
}

impl From<&Mapping> for PortMapping {
    fn from(mapping: &Mapping) -> Self {
        Self { scheme: mapping.scheme, host_port: mapping.host, container_port: mapping.container }
    }
}

impl std::fmt::Display for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.scheme.as_str(), self.host, self.container)
    }
}

impl std::str::FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = Line::excerpt(text);
        let refused = || {
            format!("{shown:?} is no port mapping; write scheme:host-port:container-port, for example http:8080:5000")
        };
        let [scheme, host, container] = text.split(':').collect::<Vec<_>>()[..] else { return Err(refused()) };
        let scheme =
            scheme.parse().map_err(|_| format!("{shown:?} is no port mapping; the scheme must be http or tcp"))?;
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(refused);
        Ok(Self { scheme, host: port(host)?, container: port(container)? })
    }
}

/// Lists an app's port mappings.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListPorts {
    /// App.
    pub app: AppName,
}

/// A port mapping, as it takes effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PortRow {
    /// The mapping.
    #[serde(flatten)]
    pub mapping: Mapping,
    /// URL.
    pub url: String,
}

impl Operation for ListPorts {
    const NAME: &'static str = "ports:list";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Vec<PortRow>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Vec<PortRow>> {
        rows(context, &app).await
    }
}

/// The port mappings of an app after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChangedPorts {
    /// App.
    pub app: AppName,
    /// Its port mappings.
    pub ports: Vec<PortRow>,
}

/// Replaces an app's port mappings.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SetPorts {
    /// App.
    pub app: AppName,
    /// New port mappings.
    #[arg(required = true, value_name = "SCHEME:HOST:CONTAINER")]
    #[schemars(length(min = 1))]
    pub ports: Vec<Mapping>,
}

impl Operation for SetPorts {
    const NAME: &'static str = "ports:set";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedPorts;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        join(&self.ports)
    }

    async fn requirement(&self, context: &Context<'_>, app: &App) -> Result<Option<Requirement>> {
        requirement(context, app, &self.ports).await
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedPorts> {
        change(context, app, Change::Set(self.ports)).await
    }
}

/// Adds port mappings to those of an app.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct AddPorts {
    /// App.
    pub app: AppName,
    /// Port mappings; one of a port that the app has already replaces it.
    #[arg(required = true, value_name = "SCHEME:HOST:CONTAINER")]
    #[schemars(length(min = 1))]
    pub ports: Vec<Mapping>,
}

impl Operation for AddPorts {
    const NAME: &'static str = "ports:add";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedPorts;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        join(&self.ports)
    }

    async fn requirement(&self, context: &Context<'_>, app: &App) -> Result<Option<Requirement>> {
        requirement(context, app, &self.ports).await
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedPorts> {
        change(context, app, Change::Add(self.ports)).await
    }
}

/// Removes port mappings of an app.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RemovePorts {
    /// App.
    pub app: AppName,
    /// Port mappings that it has.
    #[arg(required = true, value_name = "SCHEME:HOST:CONTAINER")]
    #[schemars(length(min = 1))]
    pub ports: Vec<Mapping>,
}

impl Operation for RemovePorts {
    const NAME: &'static str = "ports:remove";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedPorts;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        join(&self.ports)
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedPorts> {
        change(context, app, Change::Remove(self.ports)).await
    }
}

/// Replaces an app's port mappings with its default one.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ClearPorts {
    /// App.
    pub app: AppName,
}

impl Operation for ClearPorts {
    const NAME: &'static str = "ports:clear";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedPorts;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedPorts> {
        change(context, app, Change::Set(Vec::new())).await
    }
}

/// A change of an app's port mappings.
enum Change {
    Set(Vec<Mapping>),
    Add(Vec<Mapping>),
    Remove(Vec<Mapping>),
}

fn join(mappings: &[Mapping]) -> String {
    mappings.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Asks for an admin if one of these mappings has a port outside of the range of apps, and the app does not have the mapping
/// yet.
async fn requirement(context: &Context<'_>, app: &App, mappings: &[Mapping]) -> Result<Option<Requirement>> {
    let before = context.store.port_mappings(app.id).await?;
    let mappings: Vec<_> = mappings.iter().map(PortMapping::from).collect();
    Ok(other_port(&before, &mappings, &context.config.router))
}

fn other_port(before: &[PortMapping], after: &[PortMapping], router: &Router) -> Option<Requirement> {
    let range = router.first_port..=router.last_port;
    let new = after.iter().filter(|mapping| !before.contains(mapping)).map(|mapping| mapping.host_port);
    let port = new.into_iter().find(|port| !range.contains(port))?;
    let (first, last) = range.into_inner();
    let reason = format!("only an admin may map port {port}; choose one from {first} to {last}");
    Some(Requirement { right: Right::Admin, reason })
}

/// The port mappings of an app, as they take effect.
pub(super) async fn rows(context: &Context<'_>, app: &App) -> Result<Vec<PortRow>> {
    let default = default_port(context, app).await?;
    let mappings = context.store.port_mappings(app.id).await?;
    let row = |mapping: &PortMapping| PortRow {
        mapping: Mapping { container: container_port(mapping, default), ..Mapping::from(mapping) },
        url: context.deployer.ports().url(mapping),
    };
    Ok(mappings.iter().map(row).collect())
}

/// The port of the current release's exposed process type, unless a mapping names another.
async fn default_port(context: &Context<'_>, app: &App) -> Result<u16> {
    let current = context.current_release(app).await?;
    Ok(current.as_ref().and_then(|release| release.exposed()).map_or(CONTAINER_PORT, |exposed| exposed.port))
}

/// The port of the container that a mapping leads to: 8080 stands for the default one.
fn container_port(mapping: &PortMapping, default: u16) -> u16 {
    if mapping.container_port == CONTAINER_PORT { default } else { mapping.container_port }
}

async fn change(context: &Context<'_>, app: App, change: Change) -> Result<ChangedPorts> {
    let default = default_port(context, &app).await?;
    let port = |mappings: &[PortMapping]| mappings.first().map_or(default, |mapping| container_port(mapping, default));
    let old = port(&context.store.port_mappings(app.id).await?);
    let change = |before: Vec<PortMapping>| {
        let after = changed(&app.name, &before, &change, default)?;
        // Once more: an admin may have removed the port that the app had.
        context.require(other_port(&before, &after, &context.config.router))?;
        Ok::<_, Failure>(after)
    };
    context.deployer.ports().change(&app, change).await?;
    let runs = app.current.is_some() && !app.stopped;
    if runs && port(&context.store.port_mappings(app.id).await?) != old {
        // The running instances listen on the port that they were started with.
        ps::renew(context, &app, None, format!("PORT has changed: restarting {}", app.name)).await?;
    }
    Ok(ChangedPorts { ports: rows(context, &app).await?, app: app.name })
}

/// The mappings after a change. What is removed is named as it is stored, or as it takes effect with the port that is the
/// `default` now.
fn changed(app: &AppName, before: &[PortMapping], change: &Change, default: u16) -> Result<Vec<PortMapping>> {
    let named: Vec<_> = match change {
        Change::Set(mappings) | Change::Add(mappings) | Change::Remove(mappings) => {
            mappings.iter().map(PortMapping::from).collect()
        }
    };
    if named.iter().any(|mapping| mapping.host_port == 0 || mapping.container_port == 0) {
        return Err(Failure::invalid("there is no port 0; choose one from 1 to 65535"));
    }
    let after: Vec<_> = match change {
        Change::Set(_) => named,
        Change::Add(_) => {
            let others = before.iter().filter(|old| named.iter().all(|new| new.host_port != old.host_port));
            others.chain(&named).cloned().collect()
        }
        Change::Remove(_) => {
            let is_named = |old: &PortMapping, name: &PortMapping| {
                let effective = PortMapping { container_port: container_port(old, default), ..old.clone() };
                old == name || effective == *name
            };
            let unknown = named.iter().find(|name| !before.iter().any(|old| is_named(old, name)));
            if let Some(unknown) = unknown {
                let text = format!("{app} has no mapping {unknown}; ports:list {app} shows them");
                return Err(Failure::not_found(text));
            }
            before.iter().filter(|old| !named.iter().any(|name| is_named(old, name))).cloned().collect()
        }
    };
    let mut ports: Vec<u16> = after.iter().map(|mapping| mapping.host_port).collect();
    ports.sort_unstable();
    match ports.iter().zip(ports.iter().skip(1)).find(|(one, next)| one == next) {
        Some((twice, _)) => Err(Failure::invalid(format!("port {twice} is mapped twice"))),
        None => Ok(after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::FailureKind;

    fn mappings(texts: &[&str]) -> Vec<Mapping> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn mappings_have_the_form_that_dokku_uses() {
        assert_eq!(mappings(&["http:8080:5000"])[0].to_string(), "http:8080:5000");
        for bad in ["8080:5000", "https:1:2", "http:0:5", "http:70000:5", "http:1:2:3", "http:-1:5", "tcp::"] {
            assert!(bad.parse::<Mapping>().is_err(), "{bad}");
        }
    }

    #[test]
    fn mappings_are_replaced_added_and_removed() {
        let before: Vec<_> = mappings(&["http:8000:8080", "tcp:9000:9000"]).iter().map(PortMapping::from).collect();
        let app: AppName = "shop".parse().unwrap();
        let after = |change| {
            let after = changed(&app, &before, &change, 5000);
            after.map(|after| after.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(after(Change::Set(Vec::new())).unwrap(), [""; 0]);
        assert_eq!(after(Change::Set(mappings(&["http:80:1"]))).unwrap(), ["http:80:1"]);
        let added = after(Change::Add(mappings(&["http:9000:1", "tcp:7000:2"]))).unwrap();
        assert_eq!(added, ["http:8000:8080", "http:9000:1", "tcp:7000:2"]);
        assert_eq!(after(Change::Remove(mappings(&["tcp:9000:9000"]))).unwrap(), ["http:8000:8080"]);
        assert_eq!(
            after(Change::Remove(mappings(&["http:8000:5000"]))).unwrap(),
            ["tcp:9000:9000"],
            "as it takes effect"
        );
        let unknown = after(Change::Remove(mappings(&["tcp:9000:1"]))).unwrap_err();
        assert_eq!(unknown.to_string(), "shop has no mapping tcp:9000:1; ports:list shop shows them");
        let twice = after(Change::Add(mappings(&["http:7000:1", "tcp:7000:2"]))).unwrap_err();
        assert_eq!((twice.kind, twice.message.as_str()), (FailureKind::Invalid, "port 7000 is mapped twice"));
        let zero = Mapping { scheme: PortScheme::Http, host: 0, container: 1 };
        assert_eq!(after(Change::Set(vec![zero])).unwrap_err().kind, FailureKind::Invalid);
    }

    #[test]
    fn only_a_port_outside_of_the_range_that_the_app_does_not_have_needs_an_admin() {
        let router = Router::default();
        let stored = |texts: &[&str]| mappings(texts).iter().map(PortMapping::from).collect::<Vec<_>>();
        let needed = |after: &[&str]| {
            other_port(&stored(&["http:80:8080"]), &stored(after), &router).map(|needed| needed.reason)
        };
        assert_eq!(needed(&["http:80:8080", "http:10500:1"]), None);
        let reason = needed(&["http:10001:1", "http:8000:8080"]).unwrap();
        assert_eq!(reason, "only an admin may map port 8000; choose one from 10000 to 10999");
        assert!(needed(&["tcp:80:8080"]).unwrap().contains("port 80"), "another mapping of the port");
    }
}
