//! What of an app a size is set for.

use super::ProcessType;

/// What of an app a size applies to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SizeTarget {
    /// Instances of all process types that have no size of their own.
    Instances,
    /// Instances of this process type.
    Type(ProcessType),
    /// Tasks: commands of users, the release phase, scheduled jobs.
    Tasks,
    /// Builds.
    Builds,
}

impl SizeTarget {
    /// Name that is stored and shown. No process type begins with an underscore.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Instances => "_default_",
            Self::Type(name) => name.as_str(),
            Self::Tasks => "_tasks_",
            Self::Builds => "_builds_",
        }
    }
}

impl std::fmt::Display for SizeTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for SizeTarget {
    type Err = super::InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let of_all = [Self::Instances, Self::Tasks, Self::Builds].into_iter().find(|target| target.as_str() == text);
        of_all.map_or_else(|| text.parse().map(Self::Type), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_again() {
        for text in ["_default_", "web", "_tasks_", "_builds_"] {
            assert_eq!(text.parse::<SizeTarget>().unwrap().as_str(), text);
        }
        assert!("_other_".parse::<ProcessType>().is_err() && "_other_".parse::<SizeTarget>().is_err());
    }
}
