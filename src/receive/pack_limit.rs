//! How large the pack of a push may be.

use std::fmt;

use crate::git::{QuotaExceeded, Repository};

/// Maximum size of a pack for a repository whose quota is used up, in bytes.
const MIN_PACK_LIMIT: u64 = 64 * 1024;

/// Maximum size of a pack, and why; `Display` writes the refusal of a larger one.
pub(super) enum PackLimit {
    /// That of each push.
    Push { max: u64 },
    /// What is left of the repository's quota, in bytes.
    Repository(QuotaExceeded, u64),
}

impl PackLimit {
    /// That of a push to the repository: that of each push, or what is left of the repository's quota.
    pub(super) async fn of(repository: &Repository, max_push_bytes: u64) -> Self {
        let of_push = Self::Push { max: max_push_bytes };
        match repository.room().await {
            Ok((used, left)) if left < max_push_bytes => {
                // What a small pack exceeds is measured after it was received, and deletions have none.
                let left = left.max(MIN_PACK_LIMIT).min(max_push_bytes);
                Self::Repository(QuotaExceeded::PackTooLarge { used, max: repository.max_bytes(), left }, left)
            }
            Ok(_) => of_push,
            Err(error) => {
                tracing::warn!(repository = %repository.path().display(), %error, "cannot measure a repository");
                of_push
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Push { max } | Self::Repository(_, max) => *max,
        }
    }
}

impl fmt::Display for PackLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Push { max } => f.write_str(&too_large(*max)),
            Self::Repository(exceeded, _) => exceeded.fmt(f),
        }
    }
}

fn too_large(limit: u64) -> String {
    let limit = match limit {
        _ if limit >= 1 << 30 => format!("{}.{} GiB", limit >> 30, ((limit % (1 << 30)) * 10) >> 30),
        _ if limit >= 1 << 20 => format!("{}.{} MiB", limit >> 20, ((limit % (1 << 20)) * 10) >> 20),
        _ => format!("{limit} bytes"),
    };
    format!(
        "The pack is larger than {limit} (git.max_push_bytes): push less history at a time, or take large files out"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_shown_in_a_suitable_unit() {
        assert!(too_large(2 << 30).starts_with("The pack is larger than 2.0 GiB (git.max_push_bytes)"));
        assert!(too_large(3 << 19).contains("1.5 MiB"));
        assert!(too_large(1000).contains("1000 bytes"));
    }
}
