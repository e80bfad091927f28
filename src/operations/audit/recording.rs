//! The entries of one running operation.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use super::log::{AuditLog, Entry};
use crate::{
    model::AppName,
    operations::failure::Result,
    store::{App, AppId, NewEvent, Outcome},
};

/// How a running operation is recorded: by one entry, or by one for each app on which it acts.
pub(in crate::operations) struct Recording {
    log: AuditLog,
    /// What the entries have in common; none for an operation that only reads.
    common: Option<NewEvent>,
    /// The entry of the whole; none, if each app has its own.
    whole: Option<Entry>,
    /// Whether an app has got an entry.
    has_app: AtomicBool,
    /// The app that the operation turned out to be about.
    about: OnceLock<(AppId, AppName)>,
}

impl Recording {
    /// Of an operation that changes nothing, which is recorded when it has ended.
    pub(in crate::operations) fn none(log: &AuditLog) -> Self {
        Self { log: log.clone(), common: None, whole: None, has_app: AtomicBool::new(false), about: OnceLock::new() }
    }

    /// By one entry.
    pub(in crate::operations) async fn of_whole(log: &AuditLog, event: NewEvent) -> Result<Self> {
        let whole = Some(log.begin(event.clone()).await?);
        Ok(Self {
            log: log.clone(),
            common: Some(event),
            whole,
            has_app: AtomicBool::new(false),
            about: OnceLock::new(),
        })
    }

    /// By one entry for each app, which [`Self::begin_app`] makes.
    pub(in crate::operations) fn of_each_app(log: &AuditLog, event: NewEvent) -> Self {
        Self {
            log: log.clone(),
            common: Some(event),
            whole: None,
            has_app: AtomicBool::new(false),
            about: OnceLock::new(),
        }
    }

    /// Tells which app the operation is about, if its target does not.
    pub(in crate::operations) fn about(&self, id: AppId, name: &AppName) {
        // It is about one app only.
        let _ = self.about.set((id, name.clone()));
    }

    /// Begins the entry of one of several apps; none, if there is one entry for the whole.
    pub(in crate::operations) async fn begin_app(&self, app: &App) -> Result<Option<Entry>> {
        match (&self.common, &self.whole) {
            (Some(common), None) => {
                let event = NewEvent { app: Some(app.id), app_name: Some(app.name.clone()), ..common.clone() };
                let entry = self.log.begin(event).await?;
                self.has_app.store(true, Ordering::Release);
                Ok(Some(entry))
            }
            _ => Ok(None),
        }
    }

    /// Records how the whole ended: also if it ended before the turn of the first app, or there was none.
    pub(in crate::operations) async fn end(self, outcome: Outcome, message: Option<String>) {
        match (self.whole, self.common) {
            (Some(whole), _) => whole.end(self.about.into_inner(), outcome, message).await,
            (None, Some(common)) if !self.has_app.into_inner() => self.log.record(common.ended(outcome, message)),
            (None, _) => {}
        }
    }
}
