//! The Linux distribution in an image: name, version and packages.

use std::{collections::BTreeMap, fmt};

/// The Linux distribution in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Distribution {
    /// `ID` in `/etc/os-release`, such as `debian`.
    pub name: String,
    /// `VERSION_ID` in `/etc/os-release`, such as `13`; empty if there is none.
    pub version: String,
    /// Installed packages: name and version.
    pub packages: BTreeMap<String, String>,
}

/// A change of one package between two images.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct PackageChange {
    /// Name of the package.
    pub package: String,
    /// Version before the change; none if the package is new.
    pub from: Option<String>,
    /// Version after the change; none if the package was removed.
    pub to: Option<String>,
}

impl fmt::Display for PackageChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { package, from, to } = self;
        match (from, to) {
            (Some(from), Some(to)) => write!(f, "{package} {from} -> {to}"),
            (None, Some(to)) => write!(f, "{package} {to} (new)"),
            (Some(from), None) => write!(f, "{package} {from} (removed)"),
            (None, None) => f.write_str(package),
        }
    }
}

impl Distribution {
    /// Whether both are the same version of the same distribution.
    pub fn is_like(&self, other: &Self) -> bool {
        self.name == other.name && self.version == other.version
    }

    /// The packages that differ in a newer image, by name.
    pub fn changes(&self, newer: &Self) -> Vec<PackageChange> {
        let mut names: Vec<_> = self.packages.keys().chain(newer.packages.keys()).collect();
        names.sort();
        names.dedup();
        let change = |package: &String| PackageChange {
            package: package.clone(),
            from: self.packages.get(package).cloned(),
            to: newer.packages.get(package).cloned(),
        };
        names.into_iter().map(change).filter(|change| change.from != change.to).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_listed_by_package() {
        let of = |packages: &[(&str, &str)]| Distribution {
            packages: packages.iter().map(|(name, version)| ((*name).into(), (*version).into())).collect(),
            ..Distribution::default()
        };
        let (old, new) = (of(&[("a", "1"), ("b", "1"), ("c", "1")]), of(&[("b", "1"), ("c", "2"), ("d", "1")]));
        let changes: Vec<_> = old.changes(&new).iter().map(ToString::to_string).collect();
        assert_eq!(changes, ["a 1 (removed)", "c 1 -> 2", "d 1 (new)"]);
        assert!(old.is_like(&new) && old.changes(&old).is_empty());
    }
}
