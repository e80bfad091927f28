//! Why an operation failed: one kind, one message, one remedy, for every door.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    build::BuildError,
    data_dir::BelowFloor,
    deploy::DeployError,
    engine::{EngineError, disk::DiskError},
    git::GitError,
    images::ImageError,
    instances::{InstancesError, RolloutError},
    keys::KeyError,
    model::{InvalidName, Line},
    store::{Outcome, StoreError},
    tasks::TaskError,
    workload::VolumeError,
};

/// Result of an operation.
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// Kind of a failure. The exit status of a command and the status of an HTTP response follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The input is invalid.
    Invalid,
    /// The caller may not do this.
    Denied,
    /// There is no such thing, or the caller may not see it.
    NotFound,
    /// The present state does not allow it.
    Conflict,
    /// A limit is reached.
    TooMany,
    /// Something that is needed does not respond; it may work later.
    Unavailable,
    /// What was asked was tried, and failed.
    Failed,
    /// The server itself failed.
    Internal,
}

impl FailureKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Invalid,
        Self::Denied,
        Self::NotFound,
        Self::Conflict,
        Self::TooMany,
        Self::Unavailable,
        Self::Failed,
        Self::Internal,
    ];

    /// Exit status of a command that fails so.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Invalid => 2,
            Self::Denied => 3,
            Self::NotFound => 4,
            Self::Conflict => 5,
            Self::TooMany => 6,
            Self::Unavailable => 7,
            Self::Internal => 8,
        }
    }

    /// Outcome that the audit log records.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Invalid => Outcome::Invalid,
            Self::Denied => Outcome::Denied,
            Self::NotFound => Outcome::NotFound,
            Self::Conflict => Outcome::Conflict,
            Self::TooMany => Outcome::TooMany,
            Self::Unavailable => Outcome::Unavailable,
            Self::Failed => Outcome::Failed,
            Self::Internal => Outcome::Internal,
        }
    }
}

/// The last lines that a failed instance printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LastOutput {
    /// Name of the instance: `web.1`.
    pub instance: String,
    /// Lines, oldest first.
    pub lines: Vec<String>,
}

/// Why an operation failed. `Display` writes message and remedy as one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Failure {
    /// Kind.
    pub kind: FailureKind,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: Option<String>,
    /// Last lines of the instance that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_output: Option<LastOutput>,
    /// Whether the lines of progress have told it already.
    #[serde(skip)]
    pub reported: bool,
}

impl Failure {
    /// A failure with this message; `what is wrong; what to do`, as all error messages of this crate are written, is
    /// taken apart.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let message = message.into();
        let (message, remedy) = match message.split_once("; ") {
            Some((message, remedy)) => (message.to_owned(), Some(remedy.to_owned())),
            None => (message, None),
        };
        Self { kind, message, remedy, last_output: None, reported: false }
    }

    /// Invalid input.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Invalid, message)
    }

    /// Something that does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(FailureKind::NotFound, message)
    }

    /// Something that the present state does not allow.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Conflict, message)
    }

    /// With what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl std::error::Error for Failure {}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(kind_of_store(&error), error.to_string())
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::new(FailureKind::Unavailable, error.to_string())
    }
}

impl From<InvalidName> for Failure {
    fn from(error: InvalidName) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<BelowFloor> for Failure {
    fn from(error: BelowFloor) -> Self {
        Self::new(FailureKind::Unavailable, error.to_string())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<InstancesError> for Failure {
    fn from(error: InstancesError) -> Self {
        Self::new(kind_of_instances(&error), error.to_string())
    }
}

impl From<RolloutError> for Failure {
    fn from(error: RolloutError) -> Self {
        let mut failure = Self::new(kind_of_rollout(&error), error.to_string());
        if let RolloutError::Unhealthy { instance, log, .. } = error
            && !log.is_empty()
        {
            let lines = log.iter().map(|line| Line::sanitize(line)).collect();
            failure.last_output = Some(LastOutput { instance, lines });
        }
        failure
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        Self::new(kind_of_task(&error), error.to_string())
    }
}

impl From<DeployError> for Failure {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Rollout(error) => error.into(),
            DeployError::AlreadyReported(error) => Self { reported: true, ..Self::from(*error) },
            error => Self::new(kind_of_deploy(&error), error.to_string()),
        }
    }
}

impl From<VolumeError> for Failure {
    fn from(error: VolumeError) -> Self {
        Self::new(kind_of_volume(&error), error.to_string())
    }
}

fn kind_of_volume(error: &VolumeError) -> FailureKind {
    match error {
        VolumeError::Store(error) => kind_of_store(error),
        VolumeError::Folder(_) | VolumeError::Engine(_) | VolumeError::ShuttingDown => FailureKind::Unavailable,
        VolumeError::InUse { .. } | VolumeError::CannotGrowInUse { .. } => FailureKind::Conflict,
        VolumeError::Image(_) => FailureKind::Internal,
        VolumeError::Disk { source, .. } => match source {
            DiskError::NoSpace { .. } => FailureKind::TooMany,
            DiskError::TooSmall { .. } => FailureKind::Conflict,
            DiskError::CannotResize { .. } => FailureKind::Failed,
            DiskError::CannotPrepare { .. }
            | DiskError::InUse(_)
            | DiskError::CannotFormat { .. }
            | DiskError::CannotMount { .. }
            | DiskError::CannotUnmount { .. }
            | DiskError::StillMounted(_)
            | DiskError::Lost(_)
            | DiskError::Damaged { .. }
            | DiskError::Aborted => FailureKind::Unavailable,
        },
    }
}

fn kind_of_store(error: &StoreError) -> FailureKind {
    match error {
        StoreError::NotFound(_) => FailureKind::NotFound,
        StoreError::Taken(_) | StoreError::Refused(_) => FailureKind::Conflict,
        StoreError::Exhausted(_) => FailureKind::TooMany,
        StoreError::Open { .. }
        | StoreError::Sqlite(_)
        | StoreError::Corrupt { .. }
        | StoreError::TooNew { .. }
        | StoreError::Secret => FailureKind::Internal,
    }
}

fn kind_of_instances(error: &InstancesError) -> FailureKind {
    match error {
        InstancesError::Store(error) => kind_of_store(error),
        InstancesError::Engine(_)
        | InstancesError::NoAddress
        | InstancesError::NotRemoved { .. }
        | InstancesError::Stalled(_)
        | InstancesError::ShuttingDown => FailureKind::Unavailable,
        InstancesError::NotDestroying(_) => FailureKind::Conflict,
        InstancesError::Config(_)
        | InstancesError::Name(_)
        | InstancesError::Log { .. }
        | InstancesError::Panicked(_) => FailureKind::Internal,
    }
}

fn kind_of_task(error: &TaskError) -> FailureKind {
    match error {
        TaskError::Store(error) => kind_of_store(error),
        TaskError::Engine(_) | TaskError::ShuttingDown => FailureKind::Unavailable,
        TaskError::Volume(error) => kind_of_volume(error),
        TaskError::Name(_) | TaskError::Output { .. } => FailureKind::Internal,
        TaskError::Disconnected | TaskError::TimedOut(_) => FailureKind::Failed,
        TaskError::Gone => FailureKind::NotFound,
    }
}

fn kind_of_rollout(error: &RolloutError) -> FailureKind {
    match error {
        RolloutError::Unhealthy { .. } | RolloutError::Cancelled => FailureKind::Failed,
        RolloutError::Superseded | RolloutError::NotDeployed(_) | RolloutError::Stopped(_) => FailureKind::Conflict,
        RolloutError::Gone => FailureKind::NotFound,
        RolloutError::Instances(error) => kind_of_instances(error),
    }
}

fn kind_of_build(error: &BuildError) -> FailureKind {
    match error {
        BuildError::NoBuildpack(_) | BuildError::NotOnEngine(_) => FailureKind::NotFound,
        BuildError::OwnImage(_) => FailureKind::Conflict,
        BuildError::OnlyAdmins { .. } => FailureKind::Denied,
        BuildError::Disk(_) | BuildError::Engine(_) | BuildError::ShuttingDown => FailureKind::Unavailable,
        BuildError::CaBundle(_) | BuildError::RunPackages(_) => FailureKind::Internal,
        BuildError::Failed { .. }
        | BuildError::TimedOut(_)
        | BuildError::OutOfMemory { .. }
        | BuildError::DiskFull(_)
        | BuildError::OfferedStoreFull(_)
        | BuildError::FetchedTooLarge(_)
        | BuildError::ImageTimedOut(_)
        | BuildError::TooMuchOutput(_)
        | BuildError::TooManyBlobs(_)
        | BuildError::Cancelled
        | BuildError::Images(_)
        | BuildError::Source(_)
        | BuildError::Died { .. }
        | BuildError::Protocol(_)
        | BuildError::Buildpacks(_)
        | BuildError::Inline(_)
        | BuildError::TwoOfOneName(_)
        | BuildError::CannotFetch { .. }
        | BuildError::ImageCredentials(_) => FailureKind::Failed,
    }
}

fn kind_of_deploy(error: &DeployError) -> FailureKind {
    match error {
        DeployError::AlreadyReported(error) | DeployError::Destroying(error) => kind_of_deploy(error),
        DeployError::NotStored(error) => kind_of_deploy(error),
        DeployError::Stale { .. }
        | DeployError::RefConflict { .. }
        | DeployError::RefDeletedWithIt { .. }
        | DeployError::RefusedWithAnother(_)
        | DeployError::CannotDeleteDeployBranch(_)
        | DeployError::Port { .. }
        | DeployError::StackExists(_)
        | DeployError::CannotRebase { .. }
        | DeployError::NotBuilding(_)
        | DeployError::BuildEnded(_) => FailureKind::Conflict,
        DeployError::NoRelease(_) | DeployError::NoStack(_) | DeployError::NoDefaultStack { .. } => {
            FailureKind::NotFound
        }
        DeployError::Task(error) => kind_of_task(error),
        DeployError::Volume(error) => kind_of_volume(error),
        DeployError::ReleasePhase { .. }
        | DeployError::Procfile(_)
        | DeployError::Manifest(_)
        | DeployError::Project(_)
        | DeployError::NotText(_)
        | DeployError::NoDockerfile { .. }
        | DeployError::DockerfileIsNoFile { .. }
        | DeployError::NoProcess
        | DeployError::Cancelled
        | DeployError::CancelledBy { .. } => FailureKind::Failed,
        DeployError::Build(error) => kind_of_build(error),
        DeployError::Rollout(error) => kind_of_rollout(error),
        DeployError::Store(error) => kind_of_store(error),
        DeployError::Instances(error) => kind_of_instances(error),
        DeployError::Engine(_) => FailureKind::Unavailable,
        DeployError::Git(error) => match error {
            GitError::EmptyTree
            | GitError::NothingSelected(_)
            | GitError::Fetch { .. }
            | GitError::Pattern(_)
            | GitError::NoSuchFolder(_)
            | GitError::Duplicate(_)
            | GitError::TooManyFiles(_)
            | GitError::SourceTooLarge { .. }
            | GitError::PathTooLong(_)
            | GitError::TooLarge { .. }
            | GitError::Archive(_)
            | GitError::ArchiveTooLarge(_) => FailureKind::Failed,
            GitError::NoEntry { .. }
            | GitError::Start(_)
            | GitError::TooOld(_)
            | GitError::Command { .. }
            | GitError::File { .. }
            | GitError::Unreadable(_)
            | GitError::Reader(_)
            | GitError::Importer(_)
            | GitError::Unexpected(_) => FailureKind::Internal,
        },
        DeployError::Images(error) => match error {
            ImageError::Definition(_) => FailureKind::Invalid,
            ImageError::Stack { .. }
            | ImageError::Archive(_)
            | ImageError::NotLaunchable(_)
            | ImageError::NotOnBase(_)
            | ImageError::Layer { .. } => FailureKind::Failed,
            ImageError::File { .. }
            | ImageError::Mismatch { .. }
            | ImageError::Missing(_)
            | ImageError::InvalidDocument { .. } => FailureKind::Internal,
        },
        DeployError::File { .. } => FailureKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_an_exit_status_of_its_own() {
        let mut statuses: Vec<_> = FailureKind::ALL.iter().map(|kind| kind.exit_status()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_ref_that_our_fault_left_unset_is_our_fault() {
        let unset = |error| Failure::from(DeployError::NotStored(std::sync::Arc::new(error))).kind;
        assert_eq!(unset(GitError::Unexpected("?".into()).into()), FailureKind::Internal);
        assert_eq!(unset(DeployError::Cancelled), FailureKind::Failed);
    }

    #[test]
    fn message_and_remedy_are_two_things_and_print_as_one_line() {
        let failure = Failure::from(StoreError::NotFound("there is no app named x; apps:list shows all".into()));
        assert_eq!(failure.to_string(), "there is no app named x; apps:list shows all");
        let json = serde_json::to_value(&failure).unwrap();
        let expected = serde_json::json!({
            "kind": "not_found", "message": "there is no app named x", "remedy": "apps:list shows all",
        });
        assert_eq!(json, expected);
        let unhealthy = RolloutError::Unhealthy {
            instance: "web.1".into(),
            reason: "it ended".into(),
            hint: None,
            log: vec!["\u{1b}[31moops".into()],
        };
        let reported = Failure::from(DeployError::AlreadyReported(Box::new(unhealthy.into())));
        assert!(reported.reported && reported.kind == FailureKind::Failed);
        assert_eq!(reported.last_output.unwrap().lines, ["oops"]);
    }
}
