//! Turns of pushes: how many run at a time, in all and of one user. A push that has to wait tells its client for how many.

use std::time::Duration;

use tokio::io::AsyncWrite;

use super::child;
use crate::{
    config::Git,
    model::Line,
    store::UserId,
    turns::{Turn, Turns},
};

/// Who has pushes that run or wait.
#[derive(Debug)]
pub(super) struct PushTurns {
    turns: Turns<Option<UserId>>,
    timeout: Duration,
}

/// The right to push, until it is dropped.
pub(super) type PushTurn = Turn<Option<UserId>>;

/// The push has waited as long as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the push has waited for {seconds} s (git.push_wait_seconds), and as many run as may at a time (git.max_pushes, \
     and quota for one user), with {ahead} to end before it; push again later"
)]
pub(super) struct WaitedTooLong {
    ahead: usize,
    seconds: u64,
}

impl PushTurns {
    pub(super) fn new(config: &Git) -> Self {
        Self { turns: Turns::new(config.max_pushes), timeout: Duration::from_secs(config.push_wait_seconds) }
    }

    /// Waits for a turn of the user, who may have at most `max` at a time; tells the client how many pushes must end before, whenever that changes.
    pub(super) async fn turn(
        &self,
        user: Option<UserId>,
        max: usize,
        client: &mut (impl AsyncWrite + Unpin),
    ) -> Result<PushTurn, WaitedTooLong> {
        let mut ticket = self.turns.draw(user, max);
        let mut waits_for = 0;
        let waiting = async {
            loop {
                match ticket.turn().await {
                    Ok(turn) => return turn,
                    Err(ahead) => {
                        waits_for = ahead;
                        let pushes = if ahead == 1 { "push" } else { "pushes" };
                        let line = Line::Step(format!("Waiting for {ahead} {pushes} to end before this one"));
                        child::write(client, &format!("{line}\n")).await;
                    }
                }
            }
        };
        let turn = tokio::time::timeout(self.timeout, waiting).await;
        turn.map_err(|_| WaitedTooLong { ahead: waits_for, seconds: self.timeout.as_secs() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Option<UserId> = Some(UserId(1));
    const BOB: Option<UserId> = Some(UserId(2));

    #[tokio::test]
    async fn a_push_that_waits_too_long_is_refused_and_its_place_is_free() {
        let turns = PushTurns::new(&Git { max_pushes: 2, push_wait_seconds: 0, ..Git::default() });
        let mut printed = Vec::new();
        let running = turns.turn(ANN, 1, &mut printed).await.unwrap();
        let refused = turns.turn(ANN, 1, &mut printed).await.unwrap_err();
        assert_eq!(refused, WaitedTooLong { ahead: 1, seconds: 0 });
        assert_eq!(String::from_utf8(printed).unwrap(), "-----> Waiting for 1 push to end before this one\n");
        let mut printed = Vec::new();
        let of_bob = turns.turn(BOB, 1, &mut printed).await.unwrap();
        drop(running);
        let again = turns.turn(ANN, 1, &mut printed).await.unwrap();
        assert_eq!(printed, b"");
        drop((again, of_bob));
    }
}
