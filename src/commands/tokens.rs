//! The commands `tokens:…`.

use clap::Subcommand;

use super::{
    output::Text,
    session::Session,
    table::{or_hyphen, table},
};
use crate::{
    model::Role,
    operations::{CreateToken, CreatedToken, ListTokens, Result, RevokeToken, TokenInfo},
};

/// The commands of tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokensCommand {
    /// Create a token for the HTTP API; it is printed once.
    #[command(
        name = "tokens:create",
        after_help = "Examples: tokens:create laptop\n          tokens:create ci --app my-app --role deployer --expires 90d"
    )]
    Create(CreateToken),
    /// List your tokens.
    #[command(name = "tokens:list", alias = "tokens", after_help = "Example: tokens:list")]
    List(ListTokens),
    /// Revoke a token.
    #[command(name = "tokens:revoke", after_help = "Example: tokens:revoke ci")]
    Revoke(RevokeToken),
}

pub(super) async fn run(session: &Session<'_>, command: TokensCommand) -> Result {
    use TokensCommand as C;
    match command {
        C::Create(create) => session.answer(create).await,
        C::List(list) => session.answer(list).await,
        C::Revoke(revoke) => session.answer(revoke).await,
    }
}

impl Text for CreatedToken {
    fn text(&self) -> String {
        format!("{}\n", self.token.expose())
    }
}

impl Text for Vec<TokenInfo> {
    fn text(&self) -> String {
        let rows = self.iter().map(|token| {
            [
                token.name.to_string(),
                token.user.to_string(),
                or_hyphen(token.app.as_ref()),
                or_hyphen(token.role.map(Role::as_str)),
                token.created_at.to_string(),
                or_hyphen(token.expires_at),
                or_hyphen(token.last_used_at),
                token.fingerprint.clone(),
            ]
        });
        table(["NAME", "USER", "APP", "ROLE", "CREATED", "EXPIRES", "LAST-USED", "FINGERPRINT"], rows)
    }
}

impl Text for TokenInfo {
    fn text(&self) -> String {
        format!("-----> Revoked {} of {}\n", self.name, self.user)
    }
}
