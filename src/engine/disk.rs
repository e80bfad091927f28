//! Disks of limited size: a file with an ext4 file system, loop-mounted. Those of builds are sparse and mounted while a build
//! runs; they hold layers and cache of builds, and copies of the offered images, which the blob store has as well: a damaged
//! one is created again. Those of volumes hold files that nothing else has: they are never created again.

mod error;
mod folders;
mod image;
mod memory;
mod mount;
mod slot;
mod volume;

pub use error::DiskError;
pub use folders::FOLDERS;
pub use image::{Disk, MountedDisk};
pub use memory::MemoryFolder;
pub use slot::Slot;
pub use volume::{DiskUsage, Owner, Reservation, VolumeDisk};
