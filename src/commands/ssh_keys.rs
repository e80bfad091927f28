//! The commands `ssh-keys:…`.

use clap::Subcommand;

use super::{output::Text, session::Session, table::table, users::kind};
use crate::operations::{AddKey, KeyInfo, ListKeys, RemoveKey, RemovedKey, Result};

/// The commands of SSH keys.
#[derive(Debug, Subcommand)]
pub(super) enum SshKeysCommand {
    /// Register the SSH key on standard input for a user, who is made if necessary (admins only).
    #[command(
        name = "ssh-keys:add",
        after_help = "Examples: ssh-keys:add alice < id_ed25519.pub\n          ssh-keys:add ci --app my-app --role deployer < ci.pub"
    )]
    Add(AddKey),
    /// List SSH keys (admins only).
    #[command(name = "ssh-keys:list", alias = "ssh-keys", after_help = "Example: ssh-keys:list")]
    List(ListKeys),
    /// Remove an SSH key; its user and the user's apps stay (admins only).
    #[command(name = "ssh-keys:remove", after_help = "Example: ssh-keys:remove alice")]
    Remove(RemoveKey),
}

/// Maximum size of a public key, in bytes.
const MAX_KEY_BYTES: u64 = 64 * 1024;

pub(super) async fn run(session: &Session<'_>, command: SshKeysCommand) -> Result {
    use SshKeysCommand as C;
    match command {
        C::Add(add) => {
            session.check::<AddKey>(()).await?;
            let public_key = session.read_input(MAX_KEY_BYTES).await?;
            session.answer(AddKey { public_key, ..add }).await
        }
        C::List(list) => session.answer(list).await,
        C::Remove(remove) => session.answer(remove).await,
    }
}

impl Text for KeyInfo {
    fn text(&self) -> String {
        format!("{}\n", self.fingerprint)
    }
}

impl Text for Vec<KeyInfo> {
    fn text(&self) -> String {
        let rows = self.iter().map(|key| {
            [
                key.name.to_string(),
                key.user.to_string(),
                key.fingerprint.clone(),
                kind(key.admin, key.machine).to_owned(),
                key.created_at.to_string(),
            ]
        });
        table(["NAME", "USER", "FINGERPRINT", "KIND", "ADDED"], rows)
    }
}

impl Text for RemovedKey {}
