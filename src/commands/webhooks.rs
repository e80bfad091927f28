//! The commands `webhooks:…`.

use clap::Subcommand;

use super::{
    output::Text,
    session::Session,
    table::{facts, table},
};
use crate::operations::{AddWebhook, AddedWebhook, ListWebhooks, RemoveWebhook, RemovedWebhook, Result, WebhookInfo};

/// The commands of webhooks.
#[derive(Debug, Subcommand)]
pub(super) enum WebhooksCommand {
    /// Add a webhook: pushes to a branch of a remote repository are fetched and deployed.
    #[command(
        name = "webhooks:add",
        after_help = "Example: webhooks:add my-app https://github.com/company/app.git --branch main\n\nSet the address and the secret at GitHub, GitLab, Gitea or Forgejo, with the content type application/json and the event push. The secret is shown this once."
    )]
    Add(AddWebhook),
    /// List an app's webhooks.
    #[command(name = "webhooks:list", alias = "webhooks", after_help = "Example: webhooks:list my-app")]
    List(ListWebhooks),
    /// Remove a webhook of an app.
    #[command(
        name = "webhooks:remove",
        after_help = "Example: webhooks:remove my-app 0123456789abcdef0123456789abcdef"
    )]
    Remove(RemoveWebhook),
}

pub(super) async fn run(session: &Session<'_>, command: WebhooksCommand) -> Result {
    use WebhooksCommand as C;
    match command {
        C::Add(add) => session.answer(add).await,
        C::List(list) => session.answer(list).await,
        C::Remove(remove) => session.answer(remove).await,
    }
}

impl Text for AddedWebhook {
    fn text(&self) -> String {
        facts([
            ("id", Some(self.webhook.id.clone())),
            ("repository", Some(self.webhook.url.to_string())),
            ("branch", Some(self.webhook.branch.to_string())),
            ("path of the address", Some(self.webhook.path.clone())),
            ("secret", Some(self.secret.expose().to_owned())),
        ])
    }
}

impl Text for Vec<WebhookInfo> {
    fn text(&self) -> String {
        if self.is_empty() {
            return "       there is none; webhooks:add adds one\n".to_owned();
        }
        let rows = self.iter().map(|webhook| {
            let last = webhook.last_delivery.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            [webhook.id.clone(), webhook.url.to_string(), webhook.branch.to_string(), last]
        });
        table(["ID", "REPOSITORY", "BRANCH", "LAST PUSH"], rows)
    }
}

impl Text for RemovedWebhook {
    fn text(&self) -> String {
        format!("-----> {} is no longer deployed by this webhook\n", self.app)
    }
}
