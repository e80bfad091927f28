//! Receiving events: who may send them, that each is accepted once, and the deploys that follow.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    event::{self, Event},
    headers::WebhookHeaders,
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
