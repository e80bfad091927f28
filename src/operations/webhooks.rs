//! Webhooks: a forge tells of pushes to a repository, and the app that follows one of its branches is deployed.

mod event;
mod followers;
mod headers;
mod receive;
mod signature;

pub(super) use followers::Followers;
pub use headers::WebhookHeaders;
pub use receive::ReceivedWebhook;

use base64::Engine as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::{Context, Requirement},
    failure::{Failure, Result},
    git,
    operation::Operation,
    time::Time,
};
use crate::{
    model::{AppName, BranchName, RemoteUrl, Right, Secret},
    store::{App, Effect, NewWebhook, Webhook},
};

/// Adds a webhook: pushes to a branch of a remote repository are fetched and deployed.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct AddWebhook {
    /// App.
    pub app: AppName,
    /// Remote repository, which can be read without a login: https://HOST/PATH.
    pub url: RemoteUrl,
    /// Branch that the app follows; without it, its deploy branch, or main.
    #[arg(long)]
    #[serde(default)]
    pub branch: Option<BranchName>,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WebhookInfo {
    /// Identity.
    pub id: String,
    /// App.
    pub app: AppName,
    /// Remote repository.
    pub url: RemoteUrl,
    /// Branch that the app follows.
    pub branch: BranchName,
    /// Path of the address that the forge sends to, at the server's HTTP API.
    pub path: String,
    /// User who added it, whose rights it has.
    pub added_by: Option<String>,
    /// Time of creation.
    pub since: Time,
    /// Time of the last push event that was accepted.
    pub last_delivery: Option<Time>,
}

impl From<Webhook> for WebhookInfo {
    fn from(webhook: Webhook) -> Self {
        Self {
            path: format!("/v1/webhooks/{}", webhook.id),
            id: webhook.id,
            app: webhook.app_name,
            url: webhook.url,
            branch: webhook.branch,
            added_by: webhook.user.map(|user| user.name.to_string()),
            since: Time(webhook.created_at),
            last_delivery: webhook.last_delivery_at.map(Time),
        }
    }
}

/// A webhook that was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AddedWebhook {
    /// The secret to be set at the forge, which is shown this once.
    pub secret: Secret,
    /// What it is.
    #[serde(flatten)]
    pub webhook: WebhookInfo,
}

impl Operation for AddWebhook {
    const NAME: &'static str = "webhooks:add";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = AddedWebhook;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.url.to_string()
    }

    async fn requirement(&self, _: &Context<'_>, _: &App) -> Result<Option<Requirement>> {
        Ok(git::requirement(&self.url))
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<AddedWebhook> {
        git::check(&self.url)?;
        let branch = match self.branch.or(app.deploy_branch) {
            Some(branch) => branch,
            None => git::DEFAULT_BRANCH.parse()?,
        };
        // As an HMAC key it is the whole text for GitHub, Gitea and Forgejo; GitLab's signing tokens have this form.
        let random: [u8; 32] = rand::random();
        let secret =
            Secret::new(format!("{}{}", signature::PREFIX, base64::engine::general_purpose::STANDARD.encode(random)));
        let new = NewWebhook {
            id: format!("{:032x}", rand::random::<u128>()),
            app: app.id,
            url: self.url,
            branch,
            secret: secret.clone(),
            user: context.caller.actor.user,
        };
        let webhook = context.store.add_webhook(new).await?;
        Ok(AddedWebhook { secret, webhook: webhook.into() })
    }
}

/// Lists an app's webhooks, without their secrets.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListWebhooks {
    /// App.
    pub app: AppName,
}

impl Operation for ListWebhooks {
    const NAME: &'static str = "webhooks:list";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Vec<WebhookInfo>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Vec<WebhookInfo>> {
        Ok(context.store.webhooks(app.id).await?.into_iter().map(WebhookInfo::from).collect())
    }
}

/// Removes a webhook of an app.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RemoveWebhook {
    /// App.
    pub app: AppName,
    /// Identity of the webhook.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
}

/// A webhook that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RemovedWebhook {
    /// App.
    pub app: AppName,
    /// Identity of the webhook.
    pub id: String,
}

impl Operation for RemoveWebhook {
    const NAME: &'static str = "webhooks:remove";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = RemovedWebhook;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<RemovedWebhook> {
        if !context.store.remove_webhook(app.id, self.id.clone()).await? {
            let text = format!("{0} has no such webhook; webhooks:list {0} shows all", app.name);
            return Err(Failure::not_found(text));
        }
        Ok(RemovedWebhook { app: app.name, id: self.id })
    }
}
