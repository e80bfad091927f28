//! Who runs an operation.

use super::failure::{Failure, FailureKind, Result};
use crate::store::{Actor, Door, Key, Store};
#[cfg(test)]
use crate::{
    model::Role,
    store::{AppId, NewKey},
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
}

impl Caller {
    /// The caller on the local socket: an admin without a user.
    pub fn local() -> Self {
        let actor = Actor { user: None, name: "local".to_owned(), fingerprint: None, address: None, door: Door::Local };
        Self { actor, admin: true, machine: false }
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
        Self { actor, admin: key.admin, machine: key.machine }
    }

    /// Who acts, with the rights of this moment.
    ///
    /// # Errors
    ///
    /// If the key is no longer registered.
    pub(super) async fn of_actor(actor: &Actor, store: &Store) -> Result<Self> {
        let gone = || {
            let failure = Failure::new(FailureKind::Denied, "the SSH key of this connection is no longer registered");
            failure.remedy("an admin registers it again with ssh-keys:add")
        };
        match actor.door {
            Door::Local => Ok(Self::local()),
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
