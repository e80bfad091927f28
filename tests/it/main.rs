//! Stories, each against the real engine, real git and real ssh: see `world.rs` for what they share.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "a test that panics fails where it should"
)]

mod build;
mod engine;
mod engine_build;
mod engine_support;
mod instances;
mod instances_support;
mod push;
mod ssh;
mod ssh_local;
mod world;
