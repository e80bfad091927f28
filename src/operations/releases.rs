//! Operations of releases.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    failure::Result,
    operation::Operation,
    ps::{self, Released},
    time::Time,
};
use crate::{
    model::{AppName, CommitId, Digest, ReleaseNumber, Right},
    store::{App, Effect, ReleaseKind, ReleaseState, ReleaseSummary},
};

/// Lists releases, newest first.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListReleases {
    /// App.
    pub app: AppName,
    /// Number of releases.
    #[arg(short, long, default_value_t = default_num())]
    #[serde(default = "default_num")]
    pub num: u32,
    /// Only releases before that of this number.
    #[arg(long, value_name = "RELEASE", value_parser = parse_release)]
    pub before: Option<ReleaseNumber>,
}

fn default_num() -> u32 {
    20
}

/// A release of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReleaseRow {
    /// Number.
    pub release: ReleaseNumber,
    /// Whether it is the app's current release.
    pub current: bool,
    /// Kind of change that made it.
    pub kind: ReleaseKind,
    /// State.
    pub state: ReleaseState,
    /// What it is, for people.
    pub description: String,
    /// Name of the user who made it.
    pub created_by: String,
    /// Time of creation.
    pub created_at: Time,
    /// Commit that was built.
    #[schemars(with = "Option<String>")]
    pub commit: Option<CommitId>,
    /// Digest of the image's manifest.
    #[schemars(with = "String")]
    pub image: Digest,
}

impl ReleaseRow {
    fn new(release: ReleaseSummary, current: Option<ReleaseNumber>) -> Self {
        Self {
            release: release.number,
            current: current == Some(release.number),
            kind: release.kind,
            state: release.state,
            description: release.description,
            created_by: release.created_by,
            created_at: Time(release.created_at),
            commit: release.commit,
            image: release.image,
        }
    }
}

impl Operation for ListReleases {
    const NAME: &'static str = "releases:list";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Vec<ReleaseRow>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Vec<ReleaseRow>> {
        let current = app.current.map(|current| current.release);
        let releases = context.store.releases_before(app.id, self.before, self.num).await?;
        Ok(releases.into_iter().map(|release| ReleaseRow::new(release, current)).collect())
    }
}

/// Rolls back to an older release, by a new release that is made from it.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// App.
    pub app: AppName,
    /// Number of the older release; without it, the one before the current release.
    #[arg(value_parser = parse_release)]
    pub release: Option<ReleaseNumber>,
}

/// Reads `12` or `v12`.
fn parse_release(text: &str) -> Result<ReleaseNumber, String> {
    let number = text.strip_prefix('v').unwrap_or(text);
    // `parse` would accept a plus sign, too.
    let digits = Some(number).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let refused = || "use the number of a release, such as 12 or v12".to_owned();
    digits.and_then(|number| number.parse().ok()).ok_or_else(refused)
}

impl Operation for RollBack {
    const NAME: &'static str = "releases:rollback";
    const RIGHT: Right = Right::Deploy;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = Released;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.release.map(|number| format!("v{number}")).unwrap_or_default()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Released> {
        let by = context.caller.name();
        context.deployer.rollback(&app, self.release, by, context.progress, context.hangup).await?;
        ps::released(context, app).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_named_by_its_number_with_or_without_v() {
        assert_eq!(parse_release("12"), Ok(12));
        assert_eq!(parse_release("v12"), Ok(12));
        for bad in ["", "v", "latest", "-1", "+1", "1.0", "vv1", "99999999999999999999999"] {
            assert!(parse_release(bad).unwrap_err().contains("such as 12 or v12"), "{bad}");
        }
    }

    #[test]
    fn the_input_in_json_needs_only_the_app() {
        let list: ListReleases = serde_json::from_str(r#"{"app": "a"}"#).unwrap();
        assert_eq!(list.num, 20);
        let back: RollBack = serde_json::from_str(r#"{"app": "a"}"#).unwrap();
        assert_eq!((back.release, back.audit()), (None, String::new()));
        let back: RollBack = serde_json::from_str(r#"{"app": "a", "release": 3}"#).unwrap();
        assert_eq!(back.audit(), "v3");
    }
}
