//! Integration tests, each against the real engine, real git and real ssh: see `support.rs` for what they share.
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "a test that panics fails where it should"
)]

mod base_images;
mod bindings;
mod budgets;
mod build;
mod buildpacks;
mod chaos;
mod checks;
mod crash;
mod detection;
mod dockerfile;
mod dockerfile_cage;
mod doors;
mod ending;
mod engine;
mod engine_build;
mod example_projects;
mod files;
mod git_reader;
mod hostile;
mod http_api;
mod http_clients;
mod http_corpus;
mod instances;
mod languages;
mod layers;
mod links;
mod local;
mod machine;
mod manifests;
mod mcp;
mod names;
mod networks;
mod offered_images;
mod operate;
mod people;
mod push;
mod push_refs;
mod races;
mod receive;
mod receive_source;
mod registry;
mod registry_logins;
mod remote;
mod room;
mod router_limits;
mod running;
mod secrets;
mod ssh;
mod ssh_local;
mod stacks;
mod standby;
mod support;
mod tasks;
mod terminal_text;
mod upgrade;
mod volumes;
mod without_push;
mod written;
