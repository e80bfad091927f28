//! `paas`, a git-push deployment server: modules in the order of a push. See `docs/ARCHITECTURE.md`.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that unwraps fails where it should"))]

#[cfg(feature = "server")]
pub mod build;
#[cfg(feature = "server")]
pub mod instances;

#[cfg(feature = "server")]
pub mod engine;

#[cfg(feature = "server")]
pub mod router;
#[cfg(feature = "server")]
pub mod store;

pub mod lifecycle;

#[cfg(feature = "server")]
pub mod config;
pub mod model;
#[cfg(feature = "server")]
pub mod progress;
