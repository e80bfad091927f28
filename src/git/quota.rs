//! What a repository may have: bytes, objects and refs.

use crate::{
    config::Config,
    model::{bytes_of_mib, mib},
};

/// Limits of each repository.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    /// Size of all objects, as they are stored, in bytes, unless the repository has a limit of its own.
    pub(super) bytes: u64,
    /// Number of objects.
    pub(super) objects: u64,
    /// Number of refs.
    pub(super) refs: u64,
}

/// Which limit a repository exceeds; prints as one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuotaExceeded {
    /// The pack does not fit into what is left.
    #[error(
        "the repository has {} of at most {} (quota: repository, repositories), and the pack is larger than the {} that are left; delete \
         branches and tags that are not needed, take large files out, or ask an admin for more",
        mib(*used), mib(*max), mib(*left)
    )]
    PackTooLarge {
        /// Size before the push, in bytes.
        used: u64,
        /// Limit, in bytes.
        max: u64,
        /// Maximum size of the pack, in bytes.
        left: u64,
    },
    /// The repository is too large.
    #[error(
        "the repository has {} with this push, and at most {} are allowed (quota: repository, repositories); delete branches and tags that \
         are not needed, or ask an admin for more",
        mib(*used), mib(*max)
    )]
    Bytes {
        /// Size with the push, in bytes.
        used: u64,
        /// Limit, in bytes.
        max: u64,
    },
    /// The repository has too many objects.
    #[error(
        "the repository has {used} objects with this push, and at most {max} are allowed (git.max_objects); push less history, or \
         ask an admin for more"
    )]
    Objects {
        /// Number with the push.
        used: u64,
        /// Limit.
        max: u64,
    },
    /// The repository has too many refs.
    #[error(
        "the repository has {used} branches and tags with this push, and at most {max} are allowed (git.max_refs); delete some \
         that are not needed, or ask an admin for more"
    )]
    Refs {
        /// Number with the push.
        used: u64,
        /// Limit.
        max: u64,
    },
}

impl Quota {
    pub(super) fn new(config: &Config) -> Self {
        let bytes = bytes_of_mib(config.quota.repository_mib_per_app);
        Self { bytes, objects: config.git.max_objects, refs: config.git.max_refs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_numbers() {
        let exceeded = QuotaExceeded::PackTooLarge { used: 4000 << 20, max: 4096 << 20, left: 96 << 20 };
        assert!(exceeded.to_string().starts_with("the repository has 4000.0 MiB of at most 4096.0 MiB"), "{exceeded}");
        let exceeded = QuotaExceeded::Bytes { used: (4096 << 20) + 1, max: 4096 << 20 };
        assert!(
            exceeded.to_string().starts_with("the repository has 4096.1 MiB with this push, and at most 4096.0 MiB"),
            "{exceeded}"
        );
    }
}
