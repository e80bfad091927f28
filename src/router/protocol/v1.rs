//! Version 1 of the messages, as routers and servers speak it that were built before there was a greeting, and the handover
//! between routers, which has kept its form. Never changed: an old program at the other end closes the connection on
//! anything that it cannot read, but ignores a field that it does not know.
//!
//! Only a route table differs from today's; a router's reports are the same. Fields that no router ever read are sent with
//! a value that old routers accept.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Action, Hello, MessageKind};
use crate::model::{InstanceId, ReleaseNumber, ServiceKey};

/// The service of a route that does not forward. No service has this name, so old routers answer with 503.
const NO_SERVICE: &str = "-";

/// What a server may send to a router that it has not greeted yet, and all that a server of version 1 sends.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::router) enum ToRouter {
    Hello(Hello),
    Table(Table),
}

#[derive(Serialize, Deserialize)]
pub(in crate::router) struct Table {
    version: u64,
    listeners: Vec<Listener>,
    services: Vec<Service>,
    /// Not in version 1: the greeting of a newer server. The table that carries it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hello: Option<Hello>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Http,
    Tcp,
}

#[derive(Serialize, Deserialize)]
struct Listener {
    address: SocketAddr,
    protocol: Protocol,
    routes: Vec<Route>,
}

#[derive(Serialize, Deserialize)]
struct Route {
    host: String,
    path: String,
    #[serde(default)]
    certificate: Option<String>,
    service: String,
}

#[derive(Serialize, Deserialize)]
struct Service {
    name: String,
    targets: Vec<Target>,
}

#[derive(Serialize, Deserialize)]
struct Target {
    instance: InstanceId,
    container: String,
    release: ReleaseNumber,
    address: SocketAddr,
}

/// What a router hands over to the next one, before the file descriptors of the sockets. It is always in this form, because
/// the next router says nothing before it has it.
#[derive(Serialize, Deserialize)]
pub(in crate::router) struct Inventory {
    pub(in crate::router) table: Table,
    /// The sockets, in the order of their file descriptors.
    pub(in crate::router) sockets: Vec<(SocketAddr, super::Protocol)>,
    /// Instances that may have requests in flight.
    pub(in crate::router) active: Vec<InstanceId>,
}

/// A server's first message. An old router takes it for a table: version 0 is never newer than the table that it has, and one
/// that has none loses nothing. It answers as to every table, and a newer router answers with its greeting.
pub(in crate::router) fn greeting(hello: Hello) -> ToRouter {
    ToRouter::Table(Table { version: 0, listeners: Vec::new(), services: Vec::new(), hello: Some(hello) })
}

/// What a router of version 1 would say of itself.
pub(in crate::router) fn router() -> Hello {
    Hello { version: 1, accepts: vec![MessageKind::Table] }
}

/// What a server of version 1 would say of itself.
pub(in crate::router) fn server() -> Hello {
    Hello { version: 1, accepts: vec![MessageKind::Applied, MessageKind::Drained, MessageKind::Unanswered] }
}

impl From<ToRouter> for super::ToRouter {
    fn from(message: ToRouter) -> Self {
        match message {
            ToRouter::Hello(hello) | ToRouter::Table(Table { hello: Some(hello), .. }) => Self::Hello(hello),
            ToRouter::Table(table) => Self::Table(table.into()),
        }
    }
}

impl From<&super::ToRouter> for ToRouter {
    fn from(message: &super::ToRouter) -> Self {
        match message {
            super::ToRouter::Hello(hello) => greeting(hello.clone()),
            super::ToRouter::Table(table) => Self::Table(table.into()),
        }
    }
}

impl From<Table> for super::Table {
    fn from(table: Table) -> Self {
        let listeners = table.listeners.into_iter().map(|listener| super::Listener {
            address: listener.address,
            protocol: listener.protocol.into(),
            routes: listener.routes.into_iter().map(super::Route::from).collect(),
        });
        // A name that is no key is of no service that a route could lead to.
        let services = table.services.into_iter().filter_map(|service| {
            let targets = service.targets.into_iter();
            let target = |target: Target| super::Target { instance: target.instance, address: target.address };
            Some(super::Service { key: service.name.parse().ok()?, targets: targets.map(target).collect() })
        });
        Self { version: table.version, listeners: listeners.collect(), services: services.collect() }
    }
}

impl From<&super::Table> for Table {
    fn from(table: &super::Table) -> Self {
        let listeners = table.listeners.iter().filter_map(|listener| {
            let protocol = Protocol::of(listener.protocol)?;
            Some(Listener {
                address: listener.address,
                protocol,
                routes: listener.routes.iter().map(Route::from).collect(),
            })
        });
        let target = |target: &super::Target| Target {
            instance: target.instance.clone(),
            container: target.instance.to_string(),
            release: 0,
            address: target.address,
        };
        let services = table.services.iter().map(|service| Service {
            name: service.key.to_string(),
            targets: service.targets.iter().map(target).collect(),
        });
        Self { version: table.version, listeners: listeners.collect(), services: services.collect(), hello: None }
    }
}

impl From<Route> for super::Route {
    fn from(route: Route) -> Self {
        let action = route.service.parse().map_or(Action::Unknown, Action::Forward);
        Self { host: route.host, path: route.path, action }
    }
}

impl From<&super::Route> for Route {
    fn from(route: &super::Route) -> Self {
        let service = match &route.action {
            Action::Forward(service) => ServiceKey::to_string(service),
            Action::Unknown => NO_SERVICE.to_owned(),
        };
        Self { host: route.host.clone(), path: route.path.clone(), certificate: None, service }
    }
}

impl Protocol {
    /// `None` for a protocol that version 1 has no word for.
    fn of(protocol: super::Protocol) -> Option<Self> {
        match protocol {
            super::Protocol::Http => Some(Self::Http),
            super::Protocol::Tcp => Some(Self::Tcp),
            super::Protocol::Unknown => None,
        }
    }
}

impl From<Protocol> for super::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http => Self::Http,
            Protocol::Tcp => Self::Tcp,
        }
    }
}
