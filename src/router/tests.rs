//! Routers as they run, with raw clients and raw instances on loopback: what is sent and seen is bytes.

mod bodies;
mod http;
mod kit;
mod smuggling;
mod takeover;
