//! The headers of events.

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
