//! Turns of pushes, and of fetches: how many run at a time, in all and of one user. One that has to wait tells its client for how
//! many.

use std::{fmt, time::Duration};

use tokio::io::AsyncWrite;

use super::child;
use crate::{
    config::Git,
    model::Line,
    progress::Progress,
    store::UserId,
    turns::{Turn, Turns},
};

/// What a turn is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GitUse {
    Push,
    Fetch,
}

impl GitUse {
    /// Key of the number that may run at a time.
    fn setting(self) -> &'static str {
        match self {
            Self::Push => "git.max_pushes",
            Self::Fetch => "git.max_fetches",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Push => "pushes",
            Self::Fetch => "fetches",
        }
    }
}

impl fmt::Display for GitUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Push => "push",
            Self::Fetch => "fetch",
        })
    }
}

/// Where a client that waits is told so.
pub(super) trait Client: Send {
    fn tell(&mut self, line: Line) -> impl Future<Output = ()> + Send;
}

impl<W: AsyncWrite + Unpin + Send> Client for W {
    async fn tell(&mut self, line: Line) {
        child::write(self, &format!("{line}\n")).await;
    }
}

impl Client for Progress {
    async fn tell(&mut self, line: Line) {
        self.line(line).await;
    }
}

/// Who has pushes, or fetches, that run or wait.
#[derive(Debug)]
pub(super) struct GitTurns {
    of: GitUse,
    turns: Turns<Option<UserId>>,
    timeout: Duration,
}

/// The right to push or to fetch, until it is dropped.
pub(super) type GitTurn = Turn<Option<UserId>>;

/// A push or fetch has waited as long as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {of} has waited for {seconds} s (git.push_wait_seconds), and as many run as may at a time ({}, and quota for one user), \
     with {ahead} to end before it; {of} again later", of.setting()
)]
pub(super) struct WaitedTooLong {
    of: GitUse,
    ahead: usize,
    seconds: u64,
}

impl GitTurns {
    pub(super) fn new(of: GitUse, config: &Git) -> Self {
        let max = match of {
            GitUse::Push => config.max_pushes,
            GitUse::Fetch => config.max_fetches,
        };
        Self { of, turns: Turns::new(max), timeout: Duration::from_secs(config.push_wait_seconds) }
    }

    /// Waits for a turn of the user, who may have at most `max` at a time; tells the client how many must end before, whenever that
    /// changes.
    pub(super) async fn turn(
        &self,
        user: Option<UserId>,
        max: usize,
        client: &mut impl Client,
    ) -> Result<GitTurn, WaitedTooLong> {
        let mut ticket = self.turns.draw(user, max);
        let mut waits_for = 0;
        let waiting = async {
            loop {
                match ticket.turn().await {
                    Ok(turn) => return turn,
                    Err(ahead) => {
                        waits_for = ahead;
                        let noun = if ahead == 1 { self.of.to_string() } else { self.of.plural().to_owned() };
                        client.tell(Line::Step(format!("Waiting for {ahead} {noun} to end before this one"))).await;
                    }
                }
            }
        };
        let turn = tokio::time::timeout(self.timeout, waiting).await;
        turn.map_err(|_| WaitedTooLong { of: self.of, ahead: waits_for, seconds: self.timeout.as_secs() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Option<UserId> = Some(UserId(1));
    const BOB: Option<UserId> = Some(UserId(2));

    #[tokio::test]
    async fn a_push_that_waits_too_long_is_refused_and_its_place_is_free() {
        let turns = GitTurns::new(GitUse::Push, &Git { max_pushes: 2, push_wait_seconds: 0, ..Git::default() });
        let mut printed = Vec::new();
        let running = turns.turn(ANN, 1, &mut printed).await.unwrap();
        let refused = turns.turn(ANN, 1, &mut printed).await.unwrap_err();
        assert_eq!(refused, WaitedTooLong { of: GitUse::Push, ahead: 1, seconds: 0 });
        assert_eq!(String::from_utf8(printed).unwrap(), "-----> Waiting for 1 push to end before this one\n");
        let mut printed = Vec::new();
        let of_bob = turns.turn(BOB, 1, &mut printed).await.unwrap();
        drop(running);
        let again = turns.turn(ANN, 1, &mut printed).await.unwrap();
        assert_eq!(printed, b"");
        drop((again, of_bob));
    }

    #[tokio::test]
    async fn a_fetch_that_waits_too_long_names_its_own_limit() {
        let turns = GitTurns::new(GitUse::Fetch, &Git { max_fetches: 1, push_wait_seconds: 0, ..Git::default() });
        let mut printed = Vec::new();
        let _running = turns.turn(ANN, 2, &mut printed).await.unwrap();
        let refused = turns.turn(BOB, 2, &mut printed).await.unwrap_err().to_string();
        assert!(refused.starts_with("the fetch has waited for 0 s"), "{refused}");
        assert!(
            refused.contains("(git.max_fetches, and quota for one user), with 1 to end before it; fetch again"),
            "{refused}"
        );
        assert_eq!(String::from_utf8(printed).unwrap(), "-----> Waiting for 1 fetch to end before this one\n");
    }
}
