#![cfg(test)]

mod ssh;
mod ssh_local;
