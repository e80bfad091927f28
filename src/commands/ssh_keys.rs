//! SSH keys: who may come in.

use super::{
    Commands, Result, Session,
    line::Format,
    output::{Row, time},
};
use crate::{keys, model::KeyName};

/// The longest public key that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

#[derive(serde::Serialize)]
struct KeyRow {
    name: String,
    fingerprint: String,
    admin: bool,
    created_at: String,
}

impl Row for KeyRow {
    const HEADER: &'static [&'static str] = &["NAME", "FINGERPRINT", "KIND", "ADDED"];

    fn cells(&self) -> Vec<String> {
        let kind = if self.admin { "admin" } else { "developer" };
        vec![self.name.clone(), self.fingerprint.clone(), kind.to_owned(), self.created_at.clone()]
    }
}

pub(super) async fn add(commands: &Commands, session: &mut Session<'_>, name: KeyName, admin: bool) -> Result {
    session.only_admin()?;
    let text = session.read_input(LONGEST).await?;
    let key = keys::parse_public_key(&text)?;
    commands.store.add_key(name, key.fingerprint.clone(), key.openssh, admin).await?;
    session.out.line(&key.fingerprint).await;
    Ok(())
}

pub(super) async fn list(commands: &Commands, session: &Session<'_>, format: Format) -> Result {
    session.only_admin()?;
    let rows: Vec<_> = commands
        .store
        .keys()
        .await?
        .into_iter()
        .map(|key| KeyRow {
            name: key.name.to_string(),
            fingerprint: key.fingerprint,
            admin: key.admin,
            created_at: time(key.created_at),
        })
        .collect();
    session.out.table(&rows, format).await;
    Ok(())
}

pub(super) async fn remove(commands: &Commands, session: &Session<'_>, name: KeyName) -> Result {
    session.only_admin()?;
    commands.store.remove_key(name.clone()).await?;
    session.out.line(&format!("-----> Removed the key {name}")).await;
    let left = commands.store.keys().await?;
    if !left.iter().any(|key| key.admin) {
        let text = "no admin key is left: on the server's own machine, `paas ssh-keys:add NAME --admin` adds one";
        session.out.trouble(text).await;
    }
    Ok(())
}
