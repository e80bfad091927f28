//! Operations of what apps may reach.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    failure::{Failure, Result},
    operation::Operation,
    time::Time,
};
use crate::{
    config::InstanceNetwork,
    model::{AddressBlock, AppName, HOST_NAME, NetworkTarget, Right, TargetPlace, closed_ranges::metadata_services},
    store::{AllowedTarget, App, Effect},
};

/// What an app may reach besides what all may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AllowedNetwork {
    /// Where and which port.
    pub target: NetworkTarget,
    /// The addresses of a name, as it resolved last.
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpAddr>,
    /// User who allowed it.
    pub by: String,
    /// Since when.
    pub since: Time,
}

/// What an app's instances and tasks may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NetworkReport {
    /// App.
    pub app: AppName,
    /// Whether private networks are open to all instances (`network.instances`).
    pub lan: bool,
    /// What is open to all instances in addition (`network.allow`).
    pub server: Vec<NetworkTarget>,
    /// What is open to those of this app.
    pub allowed: Vec<AllowedNetwork>,
}

/// Shows what an app's instances may reach.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ReportNetwork {
    /// App.
    pub app: AppName,
}

impl Operation for ReportNetwork {
    const NAME: &'static str = "network:report";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = NetworkReport;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<NetworkReport> {
        let allowed = |AllowedTarget { target, addresses, created_by, created_at }| AllowedNetwork {
            target,
            addresses,
            by: created_by,
            since: Time(created_at),
        };
        Ok(NetworkReport {
            allowed: context.store.allowed_targets(app.id).await?.into_iter().map(allowed).collect(),
            app: app.name,
            lan: context.config.network.instances == InstanceNetwork::Lan,
            server: context.config.network.allow.clone(),
        })
    }
}

/// A change of what an app may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChangedNetwork {
    /// App.
    pub app: AppName,
    /// What was named.
    pub target: NetworkTarget,
    /// Whether the app may reach it now because of that.
    pub allowed: bool,
    /// Whether that was different before.
    pub changed: bool,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// Lets an app's instances and tasks reach something that is closed to others.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct AllowNetwork {
    /// App.
    pub app: AppName,
    /// Address, CIDR block or name, or `host` for this machine; with :PORT, that port alone.
    pub target: NetworkTarget,
}

impl Operation for AllowNetwork {
    const NAME: &'static str = "network:allow";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedNetwork;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.target.to_string()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedNetwork> {
        let Self { target, .. } = self;
        let networks = context.openings.container_networks().await?;
        let (addresses, notes) = match &target.place {
            TargetPlace::ThisMachine => (Vec::new(), vec![format!("this machine is {HOST_NAME} in its instances")]),
            TargetPlace::Block(block) => {
                refuse_containers(*block, &networks)?;
                (Vec::new(), notes_on_block(*block, &app.name, context.config.network.instances, &networks))
            }
            TargetPlace::Name(name) => {
                let resolved = context.openings.resolve(name).await;
                let notes = notes_on_name(name, resolved.as_deref(), &networks);
                (resolved.unwrap_or_default(), notes)
            }
        };
        let by = context.caller.name().to_string();
        let changed = context.store.allow_target(app.id, target.clone(), addresses, by).await?;
        context.openings.apply().await?;
        Ok(ChangedNetwork { app: app.name, target, allowed: true, changed, notes })
    }
}

/// Takes back what an app may reach.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct DenyNetwork {
    /// App.
    pub app: AppName,
    /// What `network:report` shows.
    pub target: NetworkTarget,
}

impl Operation for DenyNetwork {
    const NAME: &'static str = "network:deny";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedNetwork;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.target.to_string()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedNetwork> {
        let (name, target) = (app.name, self.target);
        if !context.store.deny_target(app.id, target.clone()).await? {
            let text = format!("{target} was not allowed to {name}; network:report {name} shows what is");
            return Err(Failure::not_found(text));
        }
        context.openings.apply().await?;
        let open_to_all = context.config.network.allow.contains(&target);
        let notes = open_to_all.then(|| "network.allow in paas.toml still opens it to every app".to_owned());
        Ok(ChangedNetwork { app: name, target, allowed: false, changed: true, notes: notes.into_iter().collect() })
    }
}

/// Refuses addresses of containers: they change hands, and the engine keeps its networks apart.
fn refuse_containers(block: AddressBlock, networks: &[AddressBlock]) -> Result {
    match networks.iter().find(|network| network.covers(block)) {
        None => Ok(()),
        Some(network) => Err(Failure::invalid(format!(
            "{network} is a network of containers on this machine, whose addresses change; publish the container's port on \
             this machine and allow host:PORT"
        ))),
    }
}

/// What a block opens less, or more, than it seems.
fn notes_on_block(
    block: AddressBlock,
    app: &AppName,
    instances: InstanceNetwork,
    networks: &[AddressBlock],
) -> Vec<String> {
    let mut notes = Vec::new();
    let metadata: Vec<_> = metadata_services().into_iter().filter(|service| service.overlaps(block)).collect();
    if block.is_ipv6() {
        notes.push("instances have no IPv6 address, so this has no effect".to_owned());
    } else if block.single().is_some() && !metadata.is_empty() {
        notes.push(format!(
            "this is a metadata service: whoever controls {app} can obtain the credentials of this machine there"
        ));
    } else if instances == InstanceNetwork::Lan && metadata.is_empty() {
        notes.push("unless it is this machine, it is open already, because network.instances is \"lan\"".to_owned());
    }
    if block.single().is_none() {
        let mut closed = vec!["this machine (host:PORT opens it)".to_owned()];
        if networks.iter().any(|network| network.overlaps(block)) {
            closed.push("other containers".to_owned());
        }
        if !metadata.is_empty() {
            closed.push("metadata services (an address alone opens one)".to_owned());
        }
        notes.push(format!("closed in this block all the same: {}", closed.join(", ")));
    }
    notes
}

/// What a name opens less than it seems.
fn notes_on_name(name: &str, resolved: Option<&[IpAddr]>, networks: &[AddressBlock]) -> Vec<String> {
    let Some(addresses) = resolved else {
        return vec![format!("{name} does not resolve now; its addresses are opened once it does")];
    };
    let metadata = metadata_services();
    let is_closed = |address: &&IpAddr| metadata.iter().chain(networks).any(|block| block.contains(**address));
    let closed: Vec<_> = addresses.iter().filter(is_closed).map(ToString::to_string).collect();
    let mut notes = vec!["it is resolved again every minute; an address of this machine stays closed".to_owned()];
    if !closed.is_empty() {
        notes.push(format!("closed all the same, as metadata services or containers: {}", closed.join(", ")));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(block: &str, instances: InstanceNetwork) -> String {
        let networks = ["172.17.0.0/16".parse().unwrap()];
        notes_on_block(block.parse().unwrap(), &"shop".parse().unwrap(), instances, &networks).join("; ")
    }

    #[test]
    fn what_stays_closed_in_a_block_is_told() {
        use InstanceNetwork::{Internet, Lan};
        assert_eq!(notes("10.1.2.3", Internet), "");
        assert!(notes("10.1.2.3", Lan).contains("open already"));
        assert_eq!(
            notes("10.1.0.0/16", Internet),
            "closed in this block all the same: this machine (host:PORT opens it)"
        );
        let all = notes("0.0.0.0/0", Internet);
        assert!(all.contains("other containers") && all.contains("metadata services"), "{all}");
        let metadata = notes("169.254.169.254", Internet);
        assert!(metadata.contains("whoever controls shop can obtain the credentials"), "{metadata}");
        assert!(notes("fd00::7", Lan).starts_with("instances have no IPv6 address"));
    }

    #[test]
    fn addresses_of_containers_are_refused() {
        let networks = ["172.17.0.0/16".parse().unwrap()];
        let refused = |block: &str| refuse_containers(block.parse().unwrap(), &networks).err().map(|e| e.to_string());
        assert!(refused("172.17.0.5").unwrap().starts_with("172.17.0.0/16 is a network of containers on this machine"));
        assert!(refused("172.17.1.0/24").is_some());
        assert_eq!((refused("172.18.0.5"), refused("172.16.0.0/12")), (None, None));
    }

    #[test]
    fn what_a_name_does_not_open_is_told() {
        let networks = ["172.17.0.0/16".parse().unwrap()];
        let addresses =
            ["10.0.0.7".parse().unwrap(), "169.254.169.254".parse().unwrap(), "172.17.0.2".parse().unwrap()];
        let notes = notes_on_name("db.example.com", Some(&addresses), &networks).join("; ");
        assert!(notes.ends_with("or containers: 169.254.169.254, 172.17.0.2"), "{notes}");
        assert!(notes_on_name("db.example.com", None, &networks)[0].contains("does not resolve now"));
    }
}
