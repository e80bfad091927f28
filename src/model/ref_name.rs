//! The refs that a push may update.

use std::{collections::BTreeSet, fmt, ops::Bound};

use super::names::{BRANCHES, BranchName, InvalidName, OtherRef};

/// The name of a ref; `Display` writes a branch without `refs/heads/`, a tag without `refs/tags/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RefName {
    /// A branch.
    Branch(BranchName),
    /// A tag, or another ref.
    Other(OtherRef),
}

impl RefName {
    /// Parses a full name, such as `refs/heads/main`.
    pub fn parse(full: &str) -> Result<Self, InvalidName> {
        match full.strip_prefix(BRANCHES) {
            Some(branch) => branch.parse().map(Self::Branch),
            None => full.parse().map(Self::Other),
        }
    }

    /// The full name.
    pub fn full(&self) -> String {
        match self {
            Self::Branch(branch) => format!("{BRANCHES}{branch}"),
            Self::Other(other) => other.to_string(),
        }
    }

    /// The branch, if it is one.
    pub fn branch(&self) -> Option<&BranchName> {
        match self {
            Self::Branch(branch) => Some(branch),
            Self::Other(_) => None,
        }
    }

    /// The name of the tag, if it is one.
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Branch(_) => None,
            Self::Other(other) => other.as_str().strip_prefix("refs/tags/"),
        }
    }
}

impl From<BranchName> for RefName {
    fn from(branch: BranchName) -> Self {
        Self::Branch(branch)
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(branch) => f.pad(branch.as_str()),
            Self::Other(other) => f.pad(self.tag().unwrap_or(other.as_str())),
        }
    }
}

/// One of these refs, by their full names, that is in conflict with this one: git keeps a ref as a file, so that there cannot be
/// both `main` and `main/next`.
pub fn conflicting_ref<'a>(refs: &'a BTreeSet<String>, name: &str) -> Option<&'a str> {
    let mut folders = name.match_indices('/').map(|(end, _)| &name[..end]);
    let above = folders.find_map(|folder| refs.get(folder));
    let prefix = format!("{name}/");
    let below = || refs.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded)).next();
    above.or_else(|| below().filter(|other| other.starts_with(&prefix))).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_and_tags_are_told_apart_and_hostile_names_refused() {
        for (full, shown) in
            [("refs/heads/a/b", "a/b"), ("refs/tags/v1", "v1"), ("refs/notes/commits", "refs/notes/commits")]
        {
            let name = RefName::parse(full).expect(full);
            assert_eq!((name.full().as_str(), name.to_string().as_str()), (full, shown));
            assert_eq!(name.branch().is_some(), full.starts_with("refs/heads/"));
        }
        for bad in [
            "",
            "main",
            "refs/heads/",
            "refs/heads",
            "refs/heads/-x",
            "refs/tags/a b",
            "refs/tags/../x",
            "refs/paas/x",
            "refs/replace/x",
            "refs/tags",
            "refs/stash",
            "HEAD",
        ] {
            assert!(RefName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_ref_is_in_conflict_with_those_above_and_below_it_only() {
        let all: BTreeSet<String> =
            ["refs/heads/a", "refs/heads/b/c", "refs/heads/b-x", "refs/tags/a"].map(str::to_owned).into();
        for (name, other) in [
            ("refs/heads/a/x", Some("refs/heads/a")),
            ("refs/heads/a/x/y", Some("refs/heads/a")),
            ("refs/heads/b", Some("refs/heads/b/c")),
            ("refs/heads/b/c/d", Some("refs/heads/b/c")),
            ("refs/heads/b/d", None),
            ("refs/heads/ab", None),
            ("refs/heads/b-", None),
            ("refs/tags/b", None),
        ] {
            assert_eq!(conflicting_ref(&all, name), other, "{name}");
        }
    }
}
