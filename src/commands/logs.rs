//! The command `logs`.

use std::pin::pin;

use futures_util::StreamExt as _;

use super::{context::Context, error::Result, session::Session};
use crate::{
    instances::Logs,
    model::{AppName, ProcessType},
};

pub(super) async fn logs(
    context: &Context,
    session: &Session<'_>,
    app: AppName,
    tail: bool,
    num: u32,
    ps: Option<ProcessType>,
) -> Result {
    let app = context.app(session, app).await?;
    // Only a warning: earlier releases may have had this process type.
    if let Some(ps) = &ps
        && !Logs::EVENTS.contains(&ps.as_str())
        && let Some(unknown) = super::ps::unknown_type(context, &app, [ps].into_iter()).await?
    {
        session.progress.trouble(unknown).await;
    }
    let lines = usize::try_from(num).unwrap_or(usize::MAX);
    let mut entries = pin!(context.instances.logs().tail(app.id, lines, ps, tail).await?);
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
