//! The commands `ssh-keys:…`.

use clap::Subcommand;

use super::{
    context::Context,
    error::Result,
    output::{Format, Row, time},
    session::Session,
};
use crate::{keys, model::KeyName, store::NewKey};

/// The commands of SSH keys.
#[derive(Debug, Subcommand)]
pub(super) enum SshKeysCommand {
    /// Register the SSH key on standard input (admins only).
    #[command(name = "ssh-keys:add", after_help = "Example: ssh-keys:add alice < id_ed25519.pub")]
    Add {
        name: KeyName,
        /// Make it an admin key, which may do everything.
        #[arg(long)]
        admin: bool,
    },
    /// List SSH keys (admins only).
    #[command(name = "ssh-keys:list", alias = "ssh-keys", after_help = "Example: ssh-keys:list")]
    List {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Remove an SSH key (admins only).
    #[command(name = "ssh-keys:remove", after_help = "Example: ssh-keys:remove alice")]
    Remove { name: KeyName },
}

pub(super) async fn run(context: &Context, session: &mut Session<'_>, command: SshKeysCommand) -> Result {
    use SshKeysCommand as C;
    match command {
        C::Add { name, admin } => add(context, session, name, admin).await,
        C::List { format } => list(context, session, format).await,
        C::Remove { name } => remove(context, session, name).await,
    }
}

/// Maximum size of a public key, in bytes.
const MAX_KEY_BYTES: u64 = 64 * 1024;

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

async fn add(context: &Context, session: &mut Session<'_>, name: KeyName, admin: bool) -> Result {
    session.only_admin()?;
    let text = session.read_input(MAX_KEY_BYTES).await?;
    let key = keys::parse_public_key(&text)?;
    let new = NewKey {
        user: name.as_str().parse()?,
        name: Some(name),
        fingerprint: key.fingerprint.clone(),
        public_key: key.openssh,
        admin,
        membership: None,
    };
    context.store.add_key(new).await?;
    session.out.line(&key.fingerprint).await;
    Ok(())
}

async fn list(context: &Context, session: &Session<'_>, format: Format) -> Result {
    session.only_admin()?;
    let rows: Vec<_> = context
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

async fn remove(context: &Context, session: &Session<'_>, name: KeyName) -> Result {
    session.only_admin()?;
    context.store.remove_key(name.to_string()).await?;
    session.out.line(&format!("-----> Removed the key {name}")).await;
    let keys = context.store.keys().await?;
    if !keys.iter().any(|key| key.admin) {
        let text = "no admin key is left: on the server's own machine, `paas ssh-keys:add NAME --admin` adds one";
        session.out.trouble(text).await;
    }
    Ok(())
}
