//! What the server tells the router, and what the router answers, over a Unix socket: JSON, one message a line.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::{InstanceId, ReleaseNumber};

/// From the server to the router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToRouter {
    /// The whole table; one whose version is lower than what the router has is refused.
    Table(Table),
}

/// From the router to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FromRouter {
    /// This version is in force: no instance that it lacks gets a new request.
    Applied {
        /// The version in force.
        version: u64,
        /// Instances that are not in the table but still answer requests.
        draining: Vec<InstanceId>,
        /// Listeners that could not be opened, and why.
        failed: Vec<(SocketAddr, String)>,
    },
    /// The instance, gone from the table, has answered its last request.
    Drained(InstanceId),
    /// A request got the router's own answer.
    Unanswered(Unanswered),
}

/// A request that no instance answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// The name of its service.
    pub service: String,
    /// What it got: 502, 503 or 504.
    pub status: u16,
    /// The instance that was asked last, if any was.
    pub instance: Option<InstanceId>,
    /// Its method.
    pub method: String,
    /// Its path, without the query, which may hold what is secret; not the whole of a long one.
    pub path: String,
    /// Its `X-Request-ID`.
    pub request_id: String,
    /// So many before it are not told.
    pub untold: u64,
}

/// A complete, versioned route table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Grows with each change, across restarts of the server.
    pub version: u64,
    /// Where to listen.
    pub listeners: Vec<Listener>,
    /// Who answers.
    pub services: Vec<Service>,
}

/// How a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// Bytes.
    Tcp,
}

/// One listening address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Address and port; `[::]` is dual-stack.
    pub address: SocketAddr,
    /// How it speaks.
    pub protocol: Protocol,
    /// Tried from the most specific to the least; a TCP listener has one.
    pub routes: Vec<Route>,
}

/// The key of a route within its listener, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// A host name, `*.example.org`, or `*` for every host.
    pub host: String,
    /// A path prefix that ends at a segment's end; `/` for every path.
    pub path: String,
    /// Name of the certificate, when the listener ends TLS (not used yet).
    #[serde(default)]
    pub certificate: Option<String>,
    /// The service's name.
    pub service: String,
}

/// The instances behind a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Unique within the table, e.g. `my-app/web/8080`.
    pub name: String,
    /// Healthy instances; may be empty, then requests get 503.
    pub targets: Vec<Target>,
}

/// An instance that may get requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its identity; connections are kept by it, never by address alone.
    pub instance: InstanceId,
    /// The container behind it, as the engine names it.
    pub container: String,
    /// The release it runs.
    pub release: ReleaseNumber,
    /// Where it listens.
    pub address: SocketAddr,
}
