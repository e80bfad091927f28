//! Acting on several apps, one after another.

use super::{
    audit::outcome_of,
    context::Context,
    failure::{Failure, FailureKind, Result},
    log_internal,
};
use crate::store::App;

/// Acts on each app and returns the results. A failure does not keep the other apps from their turn; of a single app, it
/// is the failure of the whole.
///
/// # Errors
///
/// If one fails, or the client disconnects before the last one's turn.
pub(super) async fn each_app<T, F>(
    context: &Context<'_>,
    apps: Vec<App>,
    act: impl Fn(App) -> F + Send,
) -> Result<Vec<T>>
where
    T: Send,
    F: Future<Output = Result<T>> + Send,
{
    let total = apps.len();
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for app in apps {
        if done.len() + failed.len() > 0 && context.hangup.is_cancelled() {
            return Err(Failure::new(FailureKind::Failed, "cancelled: the client disconnected"));
        }
        let name = app.name.clone();
        let entry = context.recording.begin_app(&app).await?;
        let result = act(app).await;
        if let Some(entry) = entry {
            entry.end(outcome_of(&result)).await;
        }
        match result {
            Ok(result) => done.push(result),
            Err(failure) if total == 1 => return Err(failure),
            Err(failure) => {
                log_internal(&failure);
                if !failure.reported {
                    context.progress.trouble(format!("{name}: {failure}")).await;
                }
                failed.push(name.to_string());
            }
        }
    }
    if failed.is_empty() {
        return Ok(done);
    }
    let text = format!("{} of {total} apps failed: {}; the lines above tell why", failed.len(), failed.join(", "));
    Err(Failure::new(FailureKind::Failed, text))
}
