//! Who did something.

use crate::store::ids::UserId;

/// Who did something, as the audit log records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The user; `None` on the local socket.
    pub user: Option<UserId>,
    /// Name of the user, or `local`.
    pub name: String,
    /// Fingerprint of the SSH key, SHA-256 of the token, or identity of the webhook.
    pub fingerprint: Option<String>,
    /// Network address of the client.
    pub address: Option<String>,
    /// How the caller reached the server.
    pub door: Door,
}

/// How the caller reached the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// Over SSH.
    Ssh,
    /// Over HTTP, with a token.
    Http,
    /// By an event of a forge.
    Webhook,
    /// Over the socket on the server's own machine.
    Local,
}

impl Door {
    /// Name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Http => "http",
            Self::Webhook => "webhook",
            Self::Local => "local",
        }
    }
}

impl std::str::FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Ssh, Self::Http, Self::Webhook, Self::Local]
            .into_iter()
            .find(|d| d.as_str() == text)
            .ok_or_else(|| text.to_owned())
    }
}
