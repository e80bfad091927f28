//! The entries of one running operation.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use super::log::{AuditLog, Ending, Entry};
use crate::{
    model::AppName,
    operations::failure::Result,
    store::{App, AppId, NewEvent},
};

/// How a running operation is recorded.
pub(in crate::operations) enum Recording {
    /// Not while it runs, because it only reads.
    None,
    /// By one entry.
    Whole {
        /// The entry.
        entry: Box<Entry>,
        /// The app that the operation turned out to be about.
        about: OnceLock<(AppId, AppName)>,
    },
    /// By one entry for each app on which it acts, which [`Self::begin_app`] makes.
    EachApp {
        /// Where they are recorded.
        log: AuditLog,
        /// What they have in common.
        common: Box<NewEvent>,
        /// Whether an app has got an entry.
        has_app: AtomicBool,
    },
}

impl Recording {
    /// By one entry, which is written before this returns.
    pub(in crate::operations) async fn of_whole(log: &AuditLog, event: NewEvent) -> Result<Self> {
        Ok(Self::Whole { entry: Box::new(log.begin(event).await?), about: OnceLock::new() })
    }

    /// By one entry for each app.
    pub(in crate::operations) fn of_each_app(log: &AuditLog, event: NewEvent) -> Self {
        Self::EachApp { log: log.clone(), common: Box::new(event), has_app: AtomicBool::new(false) }
    }

    /// Tells which app the operation is about, if its target does not.
    pub(in crate::operations) fn about(&self, id: AppId, name: &AppName) {
        if let Self::Whole { about, .. } = self {
            // It is about one app only.
            let _ = about.set((id, name.clone()));
        }
    }

    /// Begins the entry of one of several apps; none, if there is one entry for the whole.
    pub(in crate::operations) async fn begin_app(&self, app: &App) -> Result<Option<Entry>> {
        let Self::EachApp { log, common, has_app } = self else { return Ok(None) };
        let event = NewEvent::clone(common).about(app.id, app.name.clone());
        let entry = log.begin(event).await?;
        has_app.store(true, Ordering::Release);
        Ok(Some(entry))
    }

    /// Records how the whole ended: also if it ended before the turn of the first app, or there was none.
    pub(in crate::operations) async fn end(self, ending: Ending) {
        match self {
            Self::Whole { mut entry, about } => {
                if let Some((id, name)) = about.into_inner() {
                    entry.about(id, name);
                }
                entry.end(ending).await;
            }
            Self::EachApp { log, common, has_app } if !has_app.load(Ordering::Acquire) => {
                let (outcome, message) = ending;
                log.record(common.ended(outcome, message));
            }
            Self::EachApp { .. } | Self::None => {}
        }
    }
}
