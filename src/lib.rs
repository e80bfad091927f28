//! `paas`, a git-push deployment server: modules in the order of a push. See `docs/ARCHITECTURE.md`.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::large_futures, clippy::similar_names, reason = "a failing test shows where")
)]

#[cfg(feature = "server")]
pub mod local;
#[cfg(feature = "server")]
pub mod remote;
#[cfg(feature = "server")]
pub mod server;

#[cfg(feature = "server")]
pub mod commands;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod socket;
#[cfg(feature = "server")]
pub mod ssh;

#[cfg(feature = "server")]
pub mod operations;

#[cfg(feature = "server")]
pub mod deploy;
#[cfg(feature = "server")]
pub mod receive;

#[cfg(feature = "server")]
pub mod build;
#[cfg(feature = "server")]
pub mod instances;
#[cfg(feature = "server")]
pub mod release;
#[cfg(feature = "server")]
pub mod tasks;

#[cfg(feature = "server")]
pub mod workload;

#[cfg(feature = "server")]
pub mod engine;
#[cfg(feature = "server")]
pub mod git;
#[cfg(feature = "server")]
pub mod images;
#[cfg(feature = "server")]
pub mod router;
#[cfg(feature = "server")]
pub mod store;

pub mod lifecycle;

#[cfg(feature = "server")]
pub mod cgroup;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod data_dir;
#[cfg(feature = "server")]
pub mod keys;
#[cfg(feature = "server")]
pub mod log_limit;
pub mod model;
#[cfg(feature = "server")]
pub mod oom_score;
#[cfg(feature = "server")]
pub mod pause;
#[cfg(feature = "server")]
pub mod periodic;
#[cfg(feature = "server")]
pub mod progress;
#[cfg(feature = "server")]
pub mod turns;

#[cfg(test)]
mod properties;
