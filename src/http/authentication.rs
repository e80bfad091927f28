//! Who sends a request: the owner of a token, or the admin at the machine itself.

use std::{fmt, net::IpAddr};

use axum::http::{HeaderMap, StatusCode, header};

use super::{api::Api, problem::Problem};
use crate::operations::{Caller, Failure, FailureKind, fingerprint};

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A client at this address.
    Address(IpAddr),
    /// A program of the server's own user, or of root.
    Local,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Local => f.write_str("local"),
        }
    }
}

fn unauthorized(message: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, FailureKind::Denied, message)
}

/// Finds out who sends a request.
///
/// # Errors
///
/// If there is no valid token, or it was used too often.
pub(super) async fn caller(api: &Api, peer: Peer, headers: &HeaderMap) -> Result<Caller, Problem> {
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        return match peer {
            Peer::Local => Ok(Caller::local()),
            Peer::Address(_) => {
                Err(unauthorized("a token is needed: Authorization: Bearer TOKEN; tokens:create makes one over ssh"))
            }
        };
    };
    let token = given.to_str().ok().and_then(|given| {
        let (scheme, token) = given.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    // Tokens have 256 random bits: guesses need no limit.
    let refused =
        || unauthorized("the token is invalid, was revoked, or has expired; tokens:create makes one over ssh");
    let token = token.ok_or_else(refused)?;
    let store = &api.0.store;
    let Some(found) = store.valid_token(fingerprint(token)).await.map_err(Failure::from)? else {
        return Err(refused());
    };
    api.0.limits.request(&found.fingerprint)?;
    if let Err(error) = store.use_token(&found).await {
        tracing::warn!(%error, "the use of a token is not recorded");
    }
    let address = match peer {
        Peer::Address(address) => Some(address.to_string()),
        Peer::Local => None,
    };
    Ok(Caller::of_token(found, address))
}

/// Who may see the result of a request: those who have the same token, or the admin at the machine.
pub(super) fn caller_key(caller: &Caller) -> String {
    caller.actor.fingerprint.clone().unwrap_or_else(|| caller.actor.name.clone())
}
