//! What an operation does, and how it ended.

/// Whether an operation changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The operation only reads.
    Read,
    /// The operation changes the server's state.
    Change,
}

impl Effect {
    /// Name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Change => "change",
        }
    }
}

impl std::str::FromStr for Effect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Read, Self::Change].into_iter().find(|e| e.as_str() == text).ok_or_else(|| text.to_owned())
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The operation has not ended.
    Running,
    /// The operation did what was asked.
    Succeeded,
    /// The arguments were invalid.
    Invalid,
    /// The caller did not have the right.
    Denied,
    /// What the caller named does not exist.
    NotFound,
    /// The present state did not allow the operation.
    Conflict,
    /// A limit was reached.
    TooMany,
    /// The server could not do it at the time.
    Unavailable,
    /// The operation was tried and failed, for example a build.
    Failed,
    /// The server has a fault.
    Internal,
    /// The server stopped before the operation ended.
    Interrupted,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 11] = [
        Self::Running,
        Self::Succeeded,
        Self::Invalid,
        Self::Denied,
        Self::NotFound,
        Self::Conflict,
        Self::TooMany,
        Self::Unavailable,
        Self::Failed,
        Self::Internal,
        Self::Interrupted,
    ];

    /// Name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooMany => "too_many",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
            Self::Internal => "internal",
            Self::Interrupted => "interrupted",
        }
    }
}

impl std::str::FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|o| o.as_str() == text).ok_or_else(|| text.to_owned())
    }
}
