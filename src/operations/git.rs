//! Operations of an app's repository.

mod deploys;
mod from_archive;
mod from_image;
mod sync;

pub(super) use deploys::DEFAULT_BRANCH;
pub use from_archive::*;
pub use from_image::*;
pub use sync::SyncRepository;
pub(super) use sync::{check, requirement};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{context::Context, failure::Result, operation::Operation};
use crate::{
    model::{AppName, BranchName, CommitId, InvalidName, Line, ReleaseNumber, Right},
    store::{App, Effect},
};

/// A property of an app's repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GitProperty {
    /// Branch whose pushes are deployed.
    DeployBranch,
}

impl std::str::FromStr for GitProperty {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "deploy-branch" => Ok(Self::DeployBranch),
            other => Err(format!("there is no property {}; the only one is deploy-branch", Line::excerpt(other))),
        }
    }
}

/// Sets a property of the repository: deploy-branch, the branch whose pushes are deployed. `ps:rebuild` deploys a branch that is
/// there already.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SetGit {
    /// App.
    pub app: AppName,
    /// deploy-branch
    pub property: GitProperty,
    /// Value of the property.
    #[arg(value_parser = branch)]
    #[serde(deserialize_with = "deserialize_branch")]
    pub value: BranchName,
}

/// Reads a branch, with or without `refs/heads/`.
fn branch(text: &str) -> Result<BranchName, InvalidName> {
    let branch = text.strip_prefix("refs/heads/").unwrap_or(text);
    if branch.starts_with("refs/") {
        let rule = "give the branch alone, such as main, or refs/heads/main";
        return Err(InvalidName { what: "branch name", value: text.chars().take(80).collect(), rule });
    }
    branch.parse()
}

fn deserialize_branch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BranchName, D::Error> {
    branch(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Settings of an app's repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GitSettings {
    /// App.
    pub app: AppName,
    /// Branch whose pushes are deployed.
    pub deploy_branch: BranchName,
    /// Whether the repository has that branch yet.
    pub branch_exists: bool,
    /// Whether it has a tag of that name.
    pub tag_exists: bool,
    /// Commit of that branch.
    #[schemars(with = "Option<String>")]
    pub branch_commit: Option<CommitId>,
    /// Commit of the current release.
    #[schemars(with = "Option<String>")]
    pub deployed_commit: Option<CommitId>,
    /// The newest release of the branch's commit, if the app was rolled back to the deployed one: `ps:rebuild` builds that then.
    pub rolled_back_release: Option<ReleaseNumber>,
}

impl Operation for SetGit {
    const NAME: &'static str = "git:set";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = GitSettings;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        match self.property {
            GitProperty::DeployBranch => format!("deploy-branch {}", self.value),
        }
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<GitSettings> {
        match self.property {
            GitProperty::DeployBranch => {
                let state = context.deployer.set_deploy_branch(&app, self.value.clone()).await?;
                Ok(GitSettings {
                    app: app.name,
                    deploy_branch: self.value,
                    branch_exists: state.tip.is_some(),
                    tag_exists: state.is_tag,
                    branch_commit: state.tip,
                    deployed_commit: state.deployed,
                    rolled_back_release: state.rolled_back,
                })
            }
        }
    }
}

/// Shows the repository: deploy branch, address, deployed commit.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ShowGit {
    /// App.
    pub app: AppName,
}

/// An app's repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GitInfo {
    /// App.
    pub app: AppName,
    /// Branch whose pushes are deployed; without one, the first branch that is pushed becomes it.
    pub deploy_branch: Option<BranchName>,
    /// Commit of the current release.
    #[schemars(with = "Option<String>")]
    pub deployed_commit: Option<CommitId>,
    /// Address to push to.
    pub address: String,
}

impl Operation for ShowGit {
    const NAME: &'static str = "git:report";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = GitInfo;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<GitInfo> {
        let live = context.current_release(&app).await?;
        let (hostname, port) = (&context.config.hostname, context.config.ssh.listen.port());
        Ok(GitInfo {
            deploy_branch: app.deploy_branch,
            deployed_commit: live.and_then(|release| release.commit),
            address: format!("ssh://paas@{hostname}:{port}/{}", app.name),
            app: app.name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_read_with_and_without_its_prefix() {
        for text in ["live", "refs/heads/live"] {
            let input = serde_json::json!({ "app": "a", "property": "deploy-branch", "value": text });
            let set: SetGit = serde_json::from_value(input).unwrap();
            assert_eq!(set.value.as_str(), "live");
            assert_eq!(set.audit(), "deploy-branch live");
        }
        assert!(branch("a..b").is_err());
        for text in ["refs/heads/refs/heads/x", "refs/heads/refs/x", "refs/tags/v1"] {
            let error = branch(text).unwrap_err().to_string();
            assert!(
                error.ends_with("is not a valid branch name: give the branch alone, such as main, or refs/heads/main"),
                "{error}"
            );
        }
    }
}
