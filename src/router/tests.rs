//! Real routers on loopback, with clients and instances that send and receive raw bytes.

mod bodies;
mod descriptors;
mod frozen;
mod http;
mod kit;
mod limits;
mod properties;
mod races;
mod reality;
mod smuggling;
mod takeover;
mod timeouts;
mod transport;
mod versions;
