//! The messages between server and router, over a Unix socket: JSON, one message a line.
//!
//! Server and router may be of different versions. They greet each other, and each sends only what the other accepts, in
//! the form that both know (`peer.rs`); what a message has that the receiver does not know is counted and ignored
//! (`unknown.rs`). Version 1 had no greeting: `v1.rs` has what is different in it.

pub(super) mod line;
pub(super) mod peer;
pub(super) mod unknown;
pub(super) mod v1;

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::model::{InstanceId, ServiceKey};

/// Version of the messages: it grows when one of them changes in a way that its receiver must know. A new message, or a new
/// field that may be ignored, needs none.
pub const VERSION: u32 = 2;

/// From the server to the router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToRouter {
    /// What the server speaks; the router answers with its own greeting.
    Hello(Hello),
    /// The whole route table; a version lower than the router's is ignored.
    Table(Table),
}

/// From the router to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FromRouter {
    /// What the router speaks.
    Hello(Hello),
    /// The table of a version is in force.
    Applied(Applied),
    /// An instance that is not in the table has answered its last request.
    Drained(InstanceId),
    /// A request got an error page from the router instead of an instance's response.
    Unanswered(Unanswered),
}

/// The kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageKind {
    /// [`ToRouter::Hello`] and [`FromRouter::Hello`].
    Hello,
    /// [`ToRouter::Table`].
    Table,
    /// [`FromRouter::Applied`].
    Applied,
    /// [`FromRouter::Drained`].
    Drained,
    /// [`FromRouter::Unanswered`].
    Unanswered,
    /// A kind that only the other side knows.
    #[serde(other)]
    Unknown,
}

/// A greeting: what a side speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The newest version that the sender speaks; it also speaks all earlier ones.
    pub version: u32,
    /// Kinds of messages that the sender acts on, besides a greeting; others are not sent to it.
    pub accepts: Vec<MessageKind>,
}

/// This version is in force: no instance that is not in it gets a new request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The version in force.
    pub version: u64,
    /// Instances that are not in the table but have requests in flight.
    pub draining: Vec<InstanceId>,
    /// Listeners that could not be opened, each with the cause.
    pub failed: Vec<(SocketAddr, String)>,
    /// How often the router has ignored a message, or a part of one, that it does not know, since it started.
    #[serde(default)]
    pub ignored: u64,
}

/// A request that no instance answered, or not to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// Service that the request was for.
    pub service: ServiceKey,
    /// Status of the router's response: 502, 503 or 504, or 400, 405, 408, 414, 431 or 505 if the router refused the request. If it
    /// was interrupted: that of the instance's response.
    pub status: u16,
    /// The instance that was tried last, if any was.
    pub instance: Option<InstanceId>,
    /// HTTP method.
    pub method: String,
    /// Path without the query, which may hold secrets; shortened if it is long.
    pub path: String,
    /// `X-Request-ID` of the request.
    pub request_id: String,
    /// Number of unanswered requests before this one that were not reported.
    #[serde(rename = "untold")]
    pub suppressed: u64,
    /// Whether the instance's response broke off after its head.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Whether the app had its share of the requests that the router may have in flight.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overload: bool,
}

/// A complete, versioned route table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Version number: it grows with each change, also across restarts of the server.
    pub version: u64,
    /// Addresses to listen on.
    pub listeners: Vec<Listener>,
    /// Services that the routes lead to.
    pub services: Vec<Service>,
}

/// Protocol of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// Plain TCP.
    Tcp,
    /// A protocol that only a newer server knows: the router does not listen.
    #[serde(other)]
    Unknown,
}

/// One listening address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Address and port; `[::]` is dual-stack.
    pub address: SocketAddr,
    /// Protocol of its connections.
    pub protocol: Protocol,
    /// Routes, tried from the most specific to the least; a TCP listener has one.
    pub routes: Vec<Route>,
}

/// One route of a listener: the requests that it matches, and what is done with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Host name, `*.example.org`, or `*` for every host.
    pub host: String,
    /// Path prefix of whole segments; `/` for every path.
    pub path: String,
    /// What is done with these requests.
    pub action: Action,
}

/// What is done with the requests of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// They are forwarded to an instance of this service.
    Forward(ServiceKey),
    /// An action that only a newer server knows: requests get 503. Its route still matches, so that they do not take a less
    /// specific one, which is not meant for them.
    Unknown,
}

/// The instances behind a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Key of the service, which is unique within the table.
    pub key: ServiceKey,
    /// Healthy instances; if there are none, requests get 503.
    pub targets: Vec<Target>,
}

/// An instance that may get requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Identity of the instance, which stands for one container of one release; upstreams are kept by it, never by address
    /// alone.
    pub instance: InstanceId,
    /// Address and port that the instance listens on.
    pub address: SocketAddr,
}

/// By hand, because a derived implementation refuses an unknown variant that has content.
impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Action;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an action: its name, and what it needs")
            }

            fn visit_str<E>(self, _: &str) -> Result<Action, E> {
                Ok(Action::Unknown)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Action, A::Error> {
                let mut action = Action::Unknown;
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "forward" => action = Action::Forward(map.next_value()?),
                        _ => drop(map.next_value::<serde_json::Value>()?),
                    }
                }
                Ok(action)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
