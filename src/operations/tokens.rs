//! Operations of tokens: credentials of the HTTP API.

use std::fmt::Write as _;

use base64::Engine as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    context::{Context, Requirement},
    failure::{Failure, Result},
    operation::Operation,
    target::Server,
    time::{Lifetime, Time},
};
use crate::{
    model::{AppName, Right, Role, Secret, TokenName, UserName},
    store::{Effect, NewToken, Token, User, now},
};

/// How every token begins, so that programs that look for leaked secrets find it.
const PREFIX: &str = "paas_";

/// SHA-256 of a token, as SSH shows that of a key.
pub fn fingerprint(token: &str) -> String {
    format!("SHA256:{}", base64::engine::general_purpose::STANDARD_NO_PAD.encode(Sha256::digest(token)))
}

/// Creates a token for the HTTP API, with the rights of its user or a part of them.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Name of the new token, such as that of the program that uses it.
    pub name: TokenName,
    /// Only for this app.
    #[arg(long)]
    pub app: Option<AppName>,
    /// At most with the rights of this role: viewer, deployer, operator or owner.
    #[arg(long)]
    pub role: Option<Role>,
    /// Time after which it expires, such as 12h or 90d; without one, it does not.
    #[arg(long, value_name = "PERIOD")]
    pub expires: Option<Lifetime>,
    /// User whose rights it gives; admins alone may name another.
    #[arg(long)]
    pub user: Option<UserName>,
}

/// A token that was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CreatedToken {
    /// The token itself, which is shown this once.
    pub token: Secret,
    /// What it is.
    #[serde(flatten)]
    pub info: TokenInfo,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TokenInfo {
    /// User whose rights it gives.
    pub user: UserName,
    /// Name.
    pub name: TokenName,
    /// The only app on which it gives rights.
    pub app: Option<AppName>,
    /// The role whose rights it gives at most.
    pub role: Option<Role>,
    /// SHA-256 of the token: `SHA256:…`.
    pub fingerprint: String,
    /// Time of creation.
    pub created_at: Time,
    /// Time from which it is not accepted.
    pub expires_at: Option<Time>,
    /// Time of the last use, to the minute.
    pub last_used_at: Option<Time>,
}

impl From<Token> for TokenInfo {
    fn from(token: Token) -> Self {
        Self {
            user: token.user_name,
            name: token.name,
            app: token.app.map(|(_, name)| name),
            role: token.role,
            fingerprint: token.fingerprint,
            created_at: Time(token.created_at),
            expires_at: token.expires_at.map(Time),
            last_used_at: token.last_used_at.map(Time),
        }
    }
}

/// Lists your tokens, or those of another user.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListTokens {
    /// User; admins alone may name another.
    #[arg(long)]
    pub user: Option<UserName>,
}

/// Revokes a token: it is not accepted any more.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RevokeToken {
    /// Name of the token.
    pub name: TokenName,
    /// User whose token it is; admins alone may name another.
    #[arg(long)]
    pub user: Option<UserName>,
}

/// The right that an input needs that names this user.
fn needed(context: &Context<'_>, user: Option<&UserName>) -> Option<Requirement> {
    let other = user.filter(|user| user.as_str() != context.caller.name());
    let reason = "only an admin may name another user".to_owned();
    other.map(|_| Requirement { right: Right::Admin, reason })
}

/// The user that an input names, or the caller.
async fn user(context: &Context<'_>, named: Option<UserName>) -> Result<User> {
    let caller = || context.caller.actor.user.and_then(|_| context.caller.name().parse().ok());
    let none = || Failure::invalid("no user is named; name one with --user: users:list lists all");
    Ok(context.store.user_named(named.or_else(caller).ok_or_else(none)?).await?)
}

impl Operation for CreateToken {
    const NAME: &'static str = "tokens:create";
    const RIGHT: Right = Right::Use;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = CreatedToken;

    fn target(&self) {}

    fn audit(&self) -> String {
        let mut text = self.name.to_string();
        for (option, value) in [
            ("user", self.user.as_ref().map(ToString::to_string)),
            ("app", self.app.as_ref().map(ToString::to_string)),
            ("role", self.role.map(|role| role.as_str().to_owned())),
        ] {
            if let Some(value) = value {
                let _ = write!(text, " --{option} {value}");
            }
        }
        text
    }

    async fn requirement(&self, context: &Context<'_>, _: &Server) -> Result<Option<Requirement>> {
        Ok(needed(context, self.user.as_ref()))
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<CreatedToken> {
        let user = user(context, self.user).await?;
        let app = match self.app {
            Some(app) => {
                let not_found = || {
                    let text = format!("there is no app named {app}, or {} is not a member of it", user.name);
                    Failure::not_found(text).remedy("apps:list shows yours")
                };
                let found = context.store.find_app(app.clone()).await?.ok_or_else(not_found)?;
                if !user.admin && context.store.role(found.id, user.id).await?.is_none() {
                    return Err(not_found());
                }
                context.recording.about(found.id, &found.name);
                Some(found.id)
            }
            None => None,
        };
        let secret: [u8; 32] = rand::random();
        let token = format!("{PREFIX}{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret));
        let new = NewToken {
            user: user.id,
            name: self.name,
            fingerprint: fingerprint(&token),
            app,
            role: self.role,
            expires_at: self.expires.map(|lifetime| now().saturating_add(lifetime.milliseconds())),
        };
        let info = context.store.add_token(new).await?.into();
        Ok(CreatedToken { token: Secret::new(token), info })
    }
}

impl Operation for ListTokens {
    const NAME: &'static str = "tokens:list";
    const RIGHT: Right = Right::Use;
    const EFFECT: Effect = Effect::Read;
    type Target = Server;
    type Output = Vec<TokenInfo>;

    fn target(&self) {}

    fn audit(&self) -> String {
        self.user.as_ref().map_or_else(String::new, ToString::to_string)
    }

    async fn requirement(&self, context: &Context<'_>, _: &Server) -> Result<Option<Requirement>> {
        Ok(needed(context, self.user.as_ref()))
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<Vec<TokenInfo>> {
        let user = match (&self.user, context.caller.actor.user) {
            // The admin at the machine itself has none.
            (None, None) => None,
            _ => Some(user(context, self.user).await?.id),
        };
        Ok(context.store.tokens(user).await?.into_iter().map(TokenInfo::from).collect())
    }
}

impl Operation for RevokeToken {
    const NAME: &'static str = "tokens:revoke";
    const RIGHT: Right = Right::Use;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = TokenInfo;

    fn target(&self) {}

    fn audit(&self) -> String {
        let user = self.user.as_ref().map(|user| format!(" --user {user}")).unwrap_or_default();
        format!("{}{user}", self.name)
    }

    async fn requirement(&self, context: &Context<'_>, _: &Server) -> Result<Option<Requirement>> {
        Ok(needed(context, self.user.as_ref()))
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<TokenInfo> {
        let user = user(context, self.user).await?;
        Ok(context.store.remove_token(user.id, self.name).await?.into())
    }
}
