//! Why a workload is killed for what it has written.

use crate::{
    engine::Written,
    model::{UserName, bytes_of_mib, mib_of_bytes},
};

/// A workload has written more than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overuse {
    /// More than one may.
    OfOne {
        /// What it has written.
        written: Written,
        /// What it may write, in MiB.
        limit_mib: u64,
    },
    /// Most of what its owner's workloads have written, which is too much.
    OfOwner {
        /// What it has written, in bytes.
        bytes: u64,
        /// What all of them have written, in bytes.
        all_bytes: u64,
        /// Owner.
        owner: UserName,
        /// What they may write, in MiB.
        limit_mib: u64,
    },
}

impl Overuse {
    /// What one workload has written in all, in bytes, or that this is more than one may write.
    pub(super) fn of_one(written: Written, limit_mib: u64) -> Result<u64, Self> {
        match written {
            Written::Bytes { all, unlimited } if unlimited <= bytes_of_mib(limit_mib) => Ok(all),
            // What cannot be counted may be anything.
            Written::Bytes { .. } | Written::TooDeep | Written::TooManyOpen => Err(Self::OfOne { written, limit_mib }),
        }
    }

    /// Of the one that has written most of what all of its owner have.
    pub(super) fn of_owner(bytes: u64, all_bytes: u64, owner: &UserName, limit_mib: u64) -> Self {
        Self::OfOwner { bytes, all_bytes, owner: owner.clone(), limit_mib }
    }

    /// Why the workload is killed: `it wrote …`.
    pub fn reason(&self) -> String {
        match self {
            Self::OfOne { written: Written::Bytes { unlimited, .. }, limit_mib } => format!(
                "it wrote {} MiB of files, more than its limit of {limit_mib} MiB (instances.disk_mib)",
                mib_of_bytes(*unlimited)
            ),
            Self::OfOne { written: Written::TooDeep, limit_mib } => format!(
                "its folders are nested too deeply to count its files, which may have {limit_mib} MiB (instances.disk_mib)"
            ),
            Self::OfOne { written: Written::TooManyOpen, limit_mib } => format!(
                "its processes have more than {} files open, too many to count those that it has removed; it may have \
                 {limit_mib} MiB of files (instances.disk_mib)",
                Written::MAX_OPEN
            ),
            Self::OfOwner { bytes, all_bytes, owner, limit_mib } => format!(
                "it wrote {} MiB of the {} MiB that the instances and tasks of {owner} wrote, more than the limit of \
                 {limit_mib} MiB (quota: written)",
                mib_of_bytes(*bytes),
                mib_of_bytes(*all_bytes)
            ),
        }
    }

    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::OfOne { written: Written::Bytes { .. }, .. } => {
                "keep files in a volume (storage:create), or have an admin raise instances.disk_mib in paas.toml"
                    .to_owned()
            }
            Self::OfOne { written: Written::TooDeep, .. } => {
                "keep such folders in a volume (storage:create)".to_owned()
            }
            Self::OfOne { written: Written::TooManyOpen, .. } => {
                "have more instances, with fewer files open each".to_owned()
            }
            Self::OfOwner { all_bytes, owner, .. } => format!(
                "keep files in a volume (storage:create), or have an admin raise the limit: quota:set {owner} written={}",
                mib_of_bytes(*all_bytes)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_both_numbers() {
        let bytes = |unlimited| Written::Bytes { all: unlimited, unlimited };
        let reason = |written| Overuse::of_one(written, 1024).map_err(|overuse| overuse.reason());
        let expected = "it wrote 1500 MiB of files, more than its limit of 1024 MiB (instances.disk_mib)";
        assert_eq!(reason(bytes(1500 << 20)), Err(expected.to_owned()));
        assert!(reason(bytes((1024 << 20) + 1)).unwrap_err().contains("wrote 1025 MiB"), "not 1024 of 1024");
        assert_eq!(reason(bytes(1024 << 20)), Ok(1024 << 20));
        assert_eq!(reason(Written::Bytes { all: 9 << 30, unlimited: 1 }), Ok(9 << 30), "the engine limits the rest");
        assert!(reason(Written::TooDeep).unwrap_err().contains("nested too deeply"));
        assert!(reason(Written::TooManyOpen).unwrap_err().contains("more than 131072 files open"));
        let of_owner = Overuse::of_owner(1 << 20, (300 << 20) + 1, &"ada".parse().unwrap(), 300);
        assert!(of_owner.hint().ends_with("quota:set ada written=301"), "a limit that would be enough");
    }
}
