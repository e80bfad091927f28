//! The messages between server and router, over a Unix socket: JSON, one message a line.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::{InstanceId, ReleaseNumber, ServiceKey};

/// From the server to the router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToRouter {
    /// The whole route table; a version lower than the router's is ignored.
    Table(Table),
}

/// From the router to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FromRouter {
    /// This version is in force: no instance that is not in it gets a new request.
    Applied {
        /// The version in force.
        version: u64,
        /// Instances that are not in the table but have requests in flight.
        draining: Vec<InstanceId>,
        /// Listeners that could not be opened, each with the cause.
        failed: Vec<(SocketAddr, String)>,
    },
    /// An instance that is not in the table has answered its last request.
    Drained(InstanceId),
    /// A request got an error page from the router instead of an instance's response.
    Unanswered(Unanswered),
}

/// A request that no instance answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// Service that the request was for.
    pub service: ServiceKey,
    /// Status of the router's response: 502, 503 or 504.
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

/// One route of a listener: the requests that it matches, and the service that they go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Host name, `*.example.org`, or `*` for every host.
    pub host: String,
    /// Path prefix of whole segments; `/` for every path.
    pub path: String,
    /// Name of the certificate, if the listener terminates TLS (not used yet).
    #[serde(default)]
    pub certificate: Option<String>,
    /// Service that they go to.
    pub service: ServiceKey,
}

/// The instances behind a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Key of the service, which is unique within the table.
    pub name: ServiceKey,
    /// Healthy instances; if there are none, requests get 503.
    pub targets: Vec<Target>,
}

/// An instance that may get requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Identity of the instance; upstreams are kept by it, never by address alone.
    pub instance: InstanceId,
    /// Engine's id of the container that the instance runs in.
    pub container: String,
    /// Number of the release that the instance runs.
    pub release: ReleaseNumber,
    /// Address and port that the instance listens on.
    pub address: SocketAddr,
}
