#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

mod ssh;
mod ssh_local;
