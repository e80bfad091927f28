//! What the instances said.

use std::pin::pin;

use futures_util::StreamExt as _;

use super::{Commands, Result, Session};
use crate::{
    instances::Logs,
    model::{AppName, ProcessType},
};

pub(super) async fn logs(
    commands: &Commands,
    session: &Session<'_>,
    app: AppName,
    tail: bool,
    num: u32,
    ps: Option<ProcessType>,
) -> Result {
    let app = commands.app(session, app).await?;
    // Releases before this one may have had it.
    if let Some(ps) = &ps
        && !Logs::EVENTS.contains(&ps.as_str())
        && let Some(unknown) = super::ps::unknown_type(commands, &app, [ps].into_iter()).await?
    {
        session.progress.trouble(unknown).await;
    }
    let lines = usize::try_from(num).unwrap_or(usize::MAX);
    let mut entries = pin!(commands.instances.logs().tail(app.id, lines, ps, tail).await?);
    loop {
        let entry = tokio::select! {
            entry = entries.next() => entry,
            () = session.hangup.cancelled() => return Ok(()),
        };
        let Some(entry) = entry else { return Ok(()) };
        if !session.out.text(&format!("{entry}\n")).await {
            return Ok(());
        }
    }
}
