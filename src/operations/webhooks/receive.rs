//! Receiving events: who may send them, that each is accepted once, and the deploys that follow.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    event::{self, Event},
    signature,
};
use crate::{
    operations::{
        Operations,
        caller::Caller,
        context::Call,
        failure::{Failure, FailureKind, Result},
        git::SyncRepository,
    },
    progress,
    store::{Webhook, now},
};

/// The headers of an event that matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookHeaders {
    /// `X-GitHub-Event`
    pub github_event: Option<String>,
    /// `X-Hub-Signature-256`
    pub hub_signature: Option<String>,
    /// `X-Forgejo-Event`, or `X-Gitea-Event`.
    pub gitea_event: Option<String>,
    /// `X-Forgejo-Signature`, or `X-Gitea-Signature`.
    pub gitea_signature: Option<String>,
    /// `X-Gitlab-Event`
    pub gitlab_event: Option<String>,
    /// `X-Gitlab-Token`
    pub gitlab_token: Option<String>,
    /// `webhook-signature` (Standard Webhooks), with which GitLab signs.
    pub signature: Option<String>,
    /// `webhook-id`
    pub webhook_id: Option<String>,
    /// `webhook-timestamp`: seconds since 1970.
    pub webhook_timestamp: Option<String>,
    /// Network address of the sender.
    pub address: Option<String>,
}

impl WebhookHeaders {
    /// Reads them by their names in lower case.
    pub fn read(value: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            github_event: value("x-github-event"),
            hub_signature: value("x-hub-signature-256"),
            gitea_event: value("x-forgejo-event").or_else(|| value("x-gitea-event")),
            gitea_signature: value("x-forgejo-signature").or_else(|| value("x-gitea-signature")),
            gitlab_event: value("x-gitlab-event"),
            gitlab_token: value("x-gitlab-token"),
            signature: value("webhook-signature"),
            webhook_id: value("webhook-id"),
            webhook_timestamp: value("webhook-timestamp"),
            address: None,
        }
    }
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ReceivedWebhook {
    /// The forge tried the webhook, which works.
    Pong,
    /// Nothing is deployed.
    Ignored {
        /// Why.
        reason: String,
    },
    /// The branch is being fetched, and deployed.
    Accepted,
    /// A deploy of the branch waits already; it will fetch this push, too.
    Coalesced,
}

/// The deploys that follow events, one at a time for each webhook; cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::operations) struct Followers {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    /// The webhooks whose deploy runs, and whether another one follows it.
    running: Arc<Mutex<HashMap<String, bool>>>,
}

impl Followers {
    /// Their deploys run on `tracker`, until `shutdown`.
    pub(in crate::operations) fn new(tracker: TaskTracker, shutdown: CancellationToken) -> Self {
        Self { tracker, shutdown, running: Arc::default() }
    }

    /// Whether a deploy is to be started for an event; otherwise one that runs is followed by another.
    fn starts(&self, id: &str) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.get_mut(id) {
            Some(again) => {
                *again = true;
                false
            }
            None => running.insert(id.to_owned(), false).is_none(),
        }
    }

    /// Whether a deploy that has ended is followed by another.
    fn goes_on(&self, id: &str) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.get_mut(id) {
            Some(again) if *again => {
                *again = false;
                true
            }
            Some(_) | None => {
                running.remove(id);
                false
            }
        }
    }
}

impl Operations {
    /// Receives an event of a forge. The deploy that it asks for goes on after the answer, as the operation `git:sync` of the user
    /// who added the webhook; it fetches the branch from the address that was set, whatever the event says.
    ///
    /// # Errors
    ///
    /// If there is no such webhook, the sender does not know its secret, the event was received before, or is invalid.
    pub async fn receive_webhook(&self, id: &str, headers: WebhookHeaders, body: Bytes) -> Result<ReceivedWebhook> {
        let found = self.store.webhook(id.chars().take(64).collect()).await?;
        let (webhook, secret) = found.ok_or_else(|| Failure::not_found("there is no such webhook"))?;
        let Some((forge, hash)) = signature::verified(&headers, &body, &secret, now()) else {
            let text = "the signature is missing or wrong; set the secret of webhooks:add at the forge";
            return Err(Failure::new(FailureKind::Denied, text));
        };
        match event::read(forge, &headers, &body, &webhook.branch).map_err(Failure::invalid)? {
            Event::Ping => Ok(ReceivedWebhook::Pong),
            Event::Ignored(reason) => Ok(ReceivedWebhook::Ignored { reason }),
            Event::Push => {
                if !self.store.accept_delivery(webhook.id.clone(), hash).await? {
                    return Err(Failure::conflict("this event was received before"));
                }
                if !self.followers.starts(&webhook.id) {
                    return Ok(ReceivedWebhook::Coalesced);
                }
                let (operations, followers) = (self.clone(), self.followers.clone());
                let caller = Caller::of_webhook(&webhook, headers.address);
                self.followers.tracker.spawn(async move {
                    loop {
                        let followed = operations.follow(&webhook, &caller).await;
                        if let Err(failure) = followed {
                            tracing::info!(app = %webhook.app_name, error = %failure, "a deploy by a webhook failed");
                        }
                        if !followers.goes_on(&webhook.id) || followers.shutdown.is_cancelled() {
                            return;
                        }
                    }
                });
                Ok(ReceivedWebhook::Accepted)
            }
        }
    }

    /// Fetches and deploys what a webhook's branch is now.
    async fn follow(&self, webhook: &Webhook, caller: &Caller) -> Result {
        let hangup = self.followers.shutdown.child_token();
        // Its rights are those of this moment.
        let caller = Caller::of_actor(&caller.actor, &self.store).await?;
        let sync = SyncRepository {
            app: webhook.app_name.clone(),
            url: webhook.url.clone(),
            reference: Some(webhook.branch.clone()),
        };
        let work = |progress| async move {
            let call = Call { caller: &caller, progress: &progress, attachment: None, hangup: &hangup };
            Box::pin(self.run(&call, sync)).await.map(drop)
        };
        // The build log has the lines.
        progress::relay(work, |_| std::future::ready(())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_during_a_deploy_are_one_more_deploy() {
        let followers = Followers::new(TaskTracker::new(), CancellationToken::new());
        assert!(followers.starts("a"));
        assert!(!followers.starts("a") && !followers.starts("a") && followers.starts("b"));
        assert!(followers.goes_on("a"), "one for both");
        assert!(!followers.goes_on("a"));
        assert!(followers.starts("a"));
    }
}
