//! Tasks: commands that are run once, in the image and with the config vars of a release, and that are meant to end. They
//! are made from the same workloads as instances, but never counted or routed.
//!
//! The row of a task is written first; from then on it is known, and its end is recorded whoever dies: what a server leaves
//! behind, the next one adopts ([`adopt`]).

mod adopt;
mod archive;
mod attended;
mod enter;
mod error;
mod execution;
mod identity;
mod output;
mod running;
mod stored_output;
mod streams;
mod sweep;
#[expect(clippy::module_inception, reason = "the handle has the name of what it handles")]
mod tasks;
#[cfg(test)]
mod tests;
mod watched;

pub use error::TaskError;
pub use output::OutputLine;
pub use streams::{TaskStreams, Terminal};
pub use sweep::TaskSweep;
pub use tasks::{REPLACED, TaskRequest, Tasks};
