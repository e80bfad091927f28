//! Deploys of a remote repository.

use schemars::JsonSchema;
use serde::Deserialize;

use super::deploys::NewDeploy;
use crate::{
    git::Origin,
    model::{AppName, BranchName, CommitId, RemoteScheme, RemoteUrl, Right},
    operations::{
        context::{Context, Requirement},
        failure::{Failure, FailureKind, Result},
        operation::Operation,
        ps::{Released, released},
    },
    receive::ImportError,
    store::{App, Effect},
};

/// Why an address is refused that is closed to builds.
const OWN_ADDRESSES: &str = "addresses of the server's own machine, of its containers, and of private networks";

/// Fetches a branch, tag or commit of a remote repository, with its history, into the app's repository, and deploys it.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SyncRepository {
    /// App.
    pub app: AppName,
    /// Remote repository, which can be read without a login: https://HOST/PATH.
    pub url: RemoteUrl,
    /// Branch, tag or commit; without it, the remote repository's own choice (HEAD).
    #[arg(value_name = "REF")]
    #[serde(default, rename = "ref")]
    pub reference: Option<BranchName>,
}

impl Operation for SyncRepository {
    const NAME: &'static str = "git:sync";
    const RIGHT: Right = Right::Deploy;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = App;
    type Output = Released;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        match &self.reference {
            Some(reference) => format!("{} {reference}", self.url),
            None => self.url.to_string(),
        }
    }

    async fn requirement(&self, _: &Context<'_>, _: &App) -> Result<Option<Requirement>> {
        Ok(requirement(&self.url))
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Released> {
        check(&self.url)?;
        sync(context, app, &self.url, self.reference.as_ref()).await
    }
}

/// Refuses an address that the server cannot fetch from, whoever asks: its git has no key.
pub(in crate::operations) fn check(url: &RemoteUrl) -> Result {
    if url.scheme() == RemoteScheme::Ssh {
        let text = format!("cannot fetch {url}: the server has no SSH key; name the repository by https://");
        return Err(Failure::invalid(text));
    }
    Ok(())
}

/// The right that some addresses need.
pub(in crate::operations) fn requirement(url: &RemoteUrl) -> Option<Requirement> {
    let reason = format!("only an admin may have {url} fetched; name the repository by https://");
    url.is_for_admins().then_some(Requirement { right: Right::Admin, reason })
}

/// From where a remote repository is fetched: a developer's key must not make the server send requests to its own network.
async fn origin(context: &Context<'_>, url: &RemoteUrl) -> Result<Origin> {
    if context.held >= Right::Admin {
        return Ok(Origin::Any);
    }
    let addresses = context.deployer.remote_addresses(url.as_url()).await?.ok_or_else(|| {
        let text = format!("cannot fetch {url}: only an admin may name {OWN_ADDRESSES}");
        Failure::new(FailureKind::Denied, text).remedy("ask an admin, who may open it to builds (network.allow)")
    })?;
    Ok(Origin::At(addresses))
}

/// Fetches and deploys, unless what is fetched is deployed.
async fn sync(context: &Context<'_>, app: App, url: &RemoteUrl, reference: Option<&BranchName>) -> Result<Released> {
    let progress = context.progress;
    let from = origin(context, url).await?;
    let deploy = NewDeploy::begin(context, app.clone()).await?;
    let what = reference.map_or_else(|| url.to_string(), |reference| format!("{reference} of {url}"));
    progress.step(format!("Fetching {what}")).await;
    let commit = deploy.attended(deploy.import.fetch(url, reference.map(BranchName::as_str), &from)).await?;
    let branch = &deploy.branch;
    match &deploy.tip {
        Some(tip) if *tip == commit => {
            let deployed = context.current_release(&app).await?.and_then(|release| release.commit);
            if deployed.as_ref() == Some(&commit) {
                let text = format!("{} is deployed already; ps:rebuild {} builds it again", commit.short(), app.name);
                progress.detail(text).await;
                deploy.import.is_used();
                return released(context, app).await;
            }
        }
        Some(tip) => {
            let goes_on = deploy.import.reader().descends(&commit, tip).await.map_err(ImportError::from)?;
            progress.detail(moved(branch, tip, &commit, goes_on)).await;
        }
        None => progress.detail(format!("{branch} begins at {}", commit.short())).await,
    }
    deploy.deploy(commit).await
}

fn moved(branch: &BranchName, tip: &CommitId, commit: &CommitId, goes_on: bool) -> String {
    let (from, to) = (tip.short(), commit.short());
    if goes_on {
        format!("{branch} moves from {from} to {to}")
    } else {
        format!("{branch} is set from {from} to {to}, which does not contain it: what only {branch} has is discarded")
    }
}
