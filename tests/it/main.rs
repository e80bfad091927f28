//! Stories told with the real clients; each file is one.
#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

mod ssh;
mod ssh_local;
