//! The audit log: who did what, when, on what, and how it ended.

mod log;
mod queue;
mod recording;
#[cfg(test)]
mod tests;

pub use log::{AuditLog, EventSweep};
pub(super) use log::{SWITCH_OFF, SWITCH_ON, outcome_of};
pub(super) use recording::Recording;
