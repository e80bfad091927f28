//! Disks of limited size for builds: a sparse file with an ext4 file system, loop-mounted while a build runs. They hold
//! layers and cache of builds, and copies of the offered images, which the blob store has as well: a damaged disk is created
//! again.

mod error;
mod folders;
mod image;
mod mount;
mod slot;

pub use error::DiskError;
pub use folders::FOLDERS;
pub use image::{Disk, MountedDisk};
pub use slot::Slot;
