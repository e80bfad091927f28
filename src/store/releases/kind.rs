//! Kinds and states of releases.

/// Kind of change that made a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseKind {
    /// A push.
    Push,
    /// A change of config vars or service bindings.
    Config,
    /// A rollback.
    Rollback,
    /// A new build of the tip of the deploy branch, or after a rollback of the deployed commit.
    Rebuild,
    /// A rebase on a newer run image.
    Rebase,
}

impl ReleaseKind {
    /// Name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Config => "config",
            Self::Rollback => "rollback",
            Self::Rebuild => "rebuild",
            Self::Rebase => "rebase",
        }
    }
}

impl std::str::FromStr for ReleaseKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Push, Self::Config, Self::Rollback, Self::Rebuild, Self::Rebase]
            .into_iter()
            .find(|k| k.as_str() == text)
            .ok_or_else(|| text.to_owned())
    }
}

/// State of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseState {
    /// The release has not become current yet.
    Candidate,
    /// The release is or was current.
    Released,
    /// The release never became current.
    Failed,
}

impl ReleaseState {
    /// Name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Released => "released",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for ReleaseState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Candidate, Self::Released, Self::Failed]
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| text.to_owned())
    }
}
