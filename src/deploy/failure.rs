//! Failures of a push: reported to the pusher once, in the build's output.

use super::error::DeployError;
use crate::{instances::RolloutError, progress::Progress, store::App};

/// What is live when a deployment fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Live {
    /// Nothing.
    Nothing,
    /// The previous release.
    Previous,
    /// The previous release, of which instances write to a volume: they ended if those of the new release were started.
    PreviousWriting,
}

impl Live {
    pub(super) fn of(app: &App) -> Self {
        match app.current {
            None => Self::Nothing,
            Some(_) if app.writes() && !app.stopped => Self::PreviousWriting,
            Some(_) => Self::Previous,
        }
    }

    fn text(self, error: &DeployError) -> &'static str {
        match self {
            Self::Nothing => "Nothing is deployed yet",
            Self::PreviousWriting if matches!(error, DeployError::Rollout(_)) => {
                "The previous release is still live; its instances that write to a volume are started again"
            }
            Self::Previous | Self::PreviousWriting => "Nothing changed: the previous release is still live",
        }
    }
}

/// Reports a failure to the pusher, with the last output of an instance that failed and what is live now. Returns the
/// failure as reported; one that was reported before is returned as it is.
pub(super) async fn report(error: DeployError, live: Live, progress: &Progress) -> DeployError {
    if matches!(error, DeployError::AlreadyReported(_)) {
        return error;
    }
    if let DeployError::Rollout(RolloutError::Unhealthy { instance, log, .. }) = &error
        && !log.is_empty()
    {
        progress.header(format!("Last output of {instance}:")).await;
        for line in log {
            progress.detail(line).await;
        }
    }
    progress.trouble(error.to_string()).await;
    if !matches!(error, DeployError::Rollout(RolloutError::Instances(_)) | DeployError::Store(_)) {
        progress.trouble(live.text(&error)).await;
    }
    DeployError::AlreadyReported(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Line, progress, store::StoreError};

    #[test]
    fn a_failed_rollout_says_that_writing_instances_were_ended() {
        let rollout = DeployError::Rollout(RolloutError::Gone);
        assert!(Live::PreviousWriting.text(&rollout).contains("are started again"));
        let unchanged = "Nothing changed: the previous release is still live";
        assert_eq!(Live::PreviousWriting.text(&DeployError::Cancelled), unchanged);
        assert_eq!(Live::Previous.text(&rollout), unchanged);
    }

    #[tokio::test]
    async fn a_failure_is_reported_once() {
        let (instance, log) = ("web.1".to_owned(), vec!["oops".to_owned()]);
        let unhealthy = RolloutError::Unhealthy { instance, reason: "it ended".to_owned(), hint: None, log };
        let broken = StoreError::NotFound("there is no such app".to_owned());
        let mut lines = Vec::new();
        let reported = progress::relay(
            |progress| async move {
                let unhealthy = report(unhealthy.into(), Live::Previous, &progress).await;
                let broken = report(broken.into(), Live::Previous, &progress).await;
                [report(unhealthy, Live::Previous, &progress).await, report(broken, Live::Previous, &progress).await]
            },
            |line| {
                lines.push(line);
                std::future::ready(())
            },
        )
        .await;
        let texts = reported.each_ref().map(ToString::to_string);
        assert_eq!(texts, ["web.1 did not become healthy: it ended", "there is no such app"]);
        assert!(reported.iter().all(|error| matches!(error, DeployError::AlreadyReported(_))));
        let trouble = |text: &str| Line::Trouble(text.to_owned());
        let expected = [
            Line::Header("Last output of web.1:".to_owned()),
            Line::Detail("oops".to_owned()),
            trouble("web.1 did not become healthy: it ended"),
            trouble("Nothing changed: the previous release is still live"),
            trouble("there is no such app"),
        ];
        assert_eq!(lines, expected);
    }
}
