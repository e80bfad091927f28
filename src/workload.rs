//! Workloads: what a container is made from, and the runtime that brings it up. Instances, which are meant to go on, and
//! tasks, which are meant to end, are made from the same workload by the same code.

mod binding_files;
pub mod command;
mod disk_watch;
mod local;
#[cfg(test)]
pub mod memory;
mod openings;
mod out_of_memory;
mod runtime;
mod spec;
mod volumes;

pub use disk_watch::{DiskWatch, Overuse, Subjects, Watched};
pub use local::Local;
pub use openings::{NetworkNames, Openings};
pub use out_of_memory::OutOfMemory;
pub use runtime::Runtime;
pub use spec::{Purpose, Workload, WorkloadBudget};
pub use volumes::{MountedVolume, VolumeError, Volumes};
