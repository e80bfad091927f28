//! Git repositories. All operations run `git` as a child process, without privileges, in a process group of its own and with
//! a fixed environment.
//!
//! The repositories belong to the unprivileged user of these processes, so their contents are not trusted: files in a
//! repository are written and removed by child processes only, and the settings of all repositories are in one file that
//! only root may write.

mod command;
mod error;
mod fetch;
mod files;
mod gc;
mod repositories;
mod repository;
mod settings;
mod source;
mod usage;

pub use error::GitError;
pub use fetch::{Fetched, Origin};
pub use repositories::Repositories;
pub use repository::Repository;
pub use source::{Source, file_filter};
pub use usage::ObjectGuard;
