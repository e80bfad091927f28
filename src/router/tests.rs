//! Real routers on loopback, with clients and instances that send and receive raw bytes.

mod bodies;
mod frozen;
mod http;
mod kit;
mod races;
mod reality;
mod smuggling;
mod takeover;
mod transport;
mod versions;
