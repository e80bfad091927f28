//! Who runs an operation.

use super::failure::{Failure, FailureKind, Result};
#[cfg(test)]
use crate::store::NewKey;
use crate::{
    model::Role,
    store::{Actor, AppId, Door, Key, Store, Token, Webhook},
};

/// The user or program that runs an operation, as a door has authenticated it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// As the audit log records it.
    pub actor: Actor,
    /// Whether the caller may do everything.
    pub admin: bool,
    /// Whether this is a machine user, which creates no apps.
    pub machine: bool,
    /// What the caller's token is limited to, if it is.
    pub scope: Option<TokenScope>,
}

/// What a token is limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenScope {
    /// The only app on which it gives rights.
    pub app: Option<AppId>,
    /// The role whose rights it gives at most.
    pub role: Option<Role>,
    /// Whether it is an admin's, who has every right on every app.
    pub admin: bool,
}

impl Caller {
    /// The caller on the local socket: an admin without a user.
    pub fn local() -> Self {
        let actor = Actor { user: None, name: "local".to_owned(), fingerprint: None, address: None, door: Door::Local };
        Self { actor, admin: true, machine: false, scope: None }
    }

    /// The owner of an SSH key, at this address.
    pub fn of_key(key: Key, address: String) -> Self {
        let actor = Actor {
            user: Some(key.user),
            name: key.user_name.into(),
            fingerprint: Some(key.fingerprint),
            address: Some(address),
            door: Door::Ssh,
        };
        Self { actor, admin: key.admin, machine: key.machine, scope: None }
    }

    /// The owner of a token, at this address.
    pub fn of_token(token: Token, address: Option<String>) -> Self {
        let is_limited = token.app.is_some() || token.role.is_some();
        let app = token.app.map(|(app, _)| app);
        let scope = is_limited.then_some(TokenScope { app, role: token.role, admin: token.admin });
        let actor = Actor {
            user: Some(token.user),
            name: token.user_name.into(),
            fingerprint: Some(token.fingerprint),
            address,
            door: Door::Http,
        };
        Self { actor, admin: token.admin && !is_limited, machine: token.machine, scope }
    }

    /// A webhook, with the rights of the user who added it on its app. An event came from this address.
    pub(super) fn of_webhook(webhook: &Webhook, address: Option<String>) -> Self {
        let user = webhook.user.as_ref();
        let admin = user.is_none_or(|user| user.admin);
        let actor = Actor {
            user: user.map(|user| user.id),
            name: user.map_or_else(|| "local".to_owned(), |user| user.name.to_string()),
            fingerprint: Some(webhook.id.clone()),
            address,
            door: Door::Webhook,
        };
        let scope = TokenScope { app: Some(webhook.app), role: None, admin };
        Self { actor, admin: false, machine: user.is_some_and(|user| user.machine), scope: Some(scope) }
    }

    /// Who acts, with the rights of this moment.
    ///
    /// # Errors
    ///
    /// If the key is no longer registered, or the token was revoked or has expired.
    pub(super) async fn of_actor(actor: &Actor, store: &Store) -> Result<Self> {
        let gone = || {
            let failure = Failure::new(FailureKind::Denied, "the SSH key of this connection is no longer registered");
            failure.remedy("an admin registers it again with ssh-keys:add")
        };
        match actor.door {
            Door::Local => Ok(Self::local()),
            Door::Http => {
                let gone = || {
                    let failure = Failure::new(FailureKind::Denied, "the token was revoked, or has expired");
                    failure.remedy("create another one with tokens:create")
                };
                let fingerprint = actor.fingerprint.clone().ok_or_else(gone)?;
                let token = store.valid_token(fingerprint).await?.ok_or_else(gone)?;
                Ok(Self::of_token(token, actor.address.clone()))
            }
            Door::Webhook => {
                let gone = || Failure::new(FailureKind::Denied, "the webhook was removed");
                let id = actor.fingerprint.clone().ok_or_else(gone)?;
                let (webhook, _) = store.webhook(id).await?.ok_or_else(gone)?;
                Ok(Self::of_webhook(&webhook, actor.address.clone()))
            }
            Door::Ssh => {
                let fingerprint = actor.fingerprint.clone().ok_or_else(gone)?;
                let key = store.key_by_fingerprint(fingerprint).await?.ok_or_else(gone)?;
                Ok(Self::of_key(key, actor.address.clone().unwrap_or_default()))
            }
        }
    }

    /// Name of the user, or `local`.
    pub fn name(&self) -> &str {
        &self.actor.name
    }
}

#[cfg(test)]
impl Caller {
    /// A caller with a new key of this user, who is made if necessary.
    pub(super) async fn registered(store: &Store, user: &str, admin: bool, membership: Option<(AppId, Role)>) -> Self {
        let (user, fingerprint) = (user.parse().unwrap(), format!("SHA256:{user}"));
        let new = NewKey { user, name: None, fingerprint, public_key: "k".into(), admin, membership };
        Self::of_key(store.add_key(new).await.unwrap().key, "10.0.0.1".into())
    }
}
