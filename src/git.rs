//! Git repositories. Child processes do all work in them, without privileges, each in a process group of its own and with
//! a fixed environment: git's programs receive, serve, change refs and collect garbage, and `paas git-reader` reads, and records
//! where the history of shallow clones ends.
//!
//! The repositories belong to the unprivileged user of these processes, so their contents are not trusted: files in a
//! repository are written, parsed and removed by child processes only, and the settings of all repositories are in one file
//! that only root may write.

mod command;
mod error;
mod fetch;
mod files;
mod filter;
mod gc;
mod program;
mod protocol;
mod reader;
pub mod reader_process;
mod repositories;
mod repository;
mod settings;
mod source;
mod usage;

pub use error::GitError;
pub use fetch::{Fetched, Origin};
pub use filter::{InvalidPattern, file_filter};
pub use protocol::{NoFile, RefState};
pub use reader::Reader;
pub use repositories::Repositories;
pub use repository::{RefChange, Repository};
pub use source::Source;
pub use usage::ObjectGuard;
