//! Lines of progress, as a client gets them while a call runs.
#![expect(deprecated, reason = "SEP-2577 replaces logging in later revisions; until then clients ask for it")]

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use rmcp::{
    RoleServer,
    model::{LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam, ProgressToken, ProtocolVersion},
    service::RequestContext,
};
use serde_json::Value;

use crate::model::Line;

/// Maximum number of warnings that a result repeats.
const MAX_WARNINGS: usize = 50;

/// Tells the client the progress of one call.
pub(super) struct Reporter<'a> {
    context: &'a RequestContext<RoleServer>,
    /// Given by a client that wants notifications of progress; any other gets log messages.
    token: Option<ProgressToken>,
    /// Level from which it gets them, if at all.
    level: Option<LoggingLevel>,
    /// Number of lines so far: progress has to grow.
    count: AtomicU32,
    warnings: Mutex<Vec<String>>,
}

impl<'a> Reporter<'a> {
    /// For a client that wants log messages from this level, where a request does not choose it.
    pub(super) fn new(context: &'a RequestContext<RoleServer>, level: LoggingLevel) -> Self {
        let chosen_by_request = context.protocol_version().is_some_and(|it| it >= ProtocolVersion::V_2026_07_28);
        Self {
            context,
            token: context.meta.get_progress_token(),
            level: if chosen_by_request { context.meta.log_level() } else { Some(level) },
            count: AtomicU32::new(0),
            warnings: Mutex::default(),
        }
    }

    /// Sends one line; waits while the client is slow, but not for one whose call has been cancelled.
    pub(super) async fn report(&self, line: Line) {
        let (level, warning) = match &line {
            Line::Step(_) | Line::Header(_) | Line::Detail(_) => (LoggingLevel::Info, false),
            Line::Trouble(_) => (LoggingLevel::Warning, true),
        };
        let line = line.sanitized();
        let text = line.as_text().to_owned();
        if warning {
            let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            if warnings.len() < MAX_WARNINGS {
                warnings.push(text.clone());
            }
        }
        let peer = &self.context.peer;
        let send = async {
            // It is no error if the client has gone: the call learns that from its own token.
            if let Some(token) = &self.token {
                let count = self.count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                let progress = ProgressNotificationParam::new(token.clone(), f64::from(count)).with_message(text);
                let _ = peer.notify_progress(progress).await;
            } else if self.level.is_some_and(|least| level as u8 >= least as u8) {
                let message = LoggingMessageNotificationParam::new(level, Value::String(text)).with_logger("paas");
                let _ = peer.notify_logging_message(message).await;
            }
        };
        self.context.ct.run_until_cancelled(send).await;
    }

    /// The warnings and errors among the lines: few clients show a model what they get while a call runs.
    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
