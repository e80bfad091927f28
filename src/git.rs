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
mod groups;
mod import;
pub mod import_process;
mod object_use;
mod program;
mod protocol;
mod quota;
mod reader;
pub mod reader_process;
mod repositories;
mod repository;
mod settings;
mod source;
mod sync;
mod usage;

pub use error::GitError;
pub use fetch::{Fetched, Origin};
pub use filter::{InvalidPattern, file_filter};
pub(crate) use groups::Joining;
pub use groups::{Group, remove_groups};
pub use import::{ImportOptions, ImportedCommit, NewCommit};
pub use protocol::{NoFile, RefState};
pub use quota::QuotaExceeded;
pub use reader::Reader;
pub use repositories::Repositories;
pub use repository::{RefChange, Repository};
pub use source::Source;
pub use usage::ObjectGuard;
