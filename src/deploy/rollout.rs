//! A rollout: from a declared release to the current one.

use tokio_util::sync::CancellationToken;

use super::{deployer::Deployer, error::DeployError, failure::Live};
use crate::{
    model::ReleaseNumber,
    pause,
    progress::Progress,
    store::{App, NewRelease, Release, ReleaseKind},
};

impl Deployer {
    /// Makes the release and rolls it out. A release that fails changes nothing.
    pub(super) async fn bring_up(
        &self,
        app: &App,
        new: NewRelease,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<ReleaseNumber, DeployError> {
        let this = &self.0;
        let phase = self.phase_tasks(app, &new)?;
        let (release, phase) = this.store.create_release(app.id, new, phase, this.tasks.placement()).await?;
        let number = release.number;
        let live = async {
            self.run_before_release(app, &phase, progress, cancel).await?;
            pause::at("before-rollout").await;
            progress.step(format!("Releasing v{number}")).await;
            if Live::of(app) == Live::PreviousWriting {
                let text = "instances that write to a volume end before the new ones start: until these are healthy, requests \
                            to them get 503";
                progress.detail(text).await;
            }
            Ok::<_, DeployError>(this.instances.rollout(app.id, number, progress, cancel).await?)
        };
        let live = live.await;
        if live.is_err() {
            this.store.fail_unstarted_release(app.id, number).await?;
        }
        // An error may have occurred after the commit point.
        let is_released = live.is_ok() || this.store.is_released(app.id, number).await?;
        // While the server shuts down, the rollout may still commit: the next one knows.
        if !is_released && !this.shutdown.is_cancelled() {
            self.skip_phase(&phase).await?;
        }
        if let (Err(_), true) = (&live, is_released) {
            self.run_after_release(app, &phase, progress).await;
        }
        live?;
        if this.store.app(app.id).await?.is_some_and(|app| app.stopped) {
            let text = format!("{0} is stopped: v{number} runs when the app is started (ps:start {0})", app.name);
            progress.trouble(text).await;
        } else {
            progress.detail(format!("v{number} is live")).await;
        }
        this.tasks.wake_schedule();
        self.run_after_release(app, &phase, progress).await;
        Ok(number)
    }

    /// The current release, if the app has one.
    pub(super) async fn current_release(&self, app: &App) -> Result<Option<Release>, DeployError> {
        let Some(current) = self.0.store.app(app.id).await?.and_then(|app| app.current) else { return Ok(None) };
        Ok(self.0.store.release(app.id, current.release).await?)
    }
}

/// A new release with the image, the process types, the config vars and the bindings of an older one.
pub(super) fn same_image(old: Release, kind: ReleaseKind, description: String, by: &str) -> NewRelease {
    NewRelease {
        kind,
        image: old.image,
        branch: old.branch,
        commit: old.commit,
        build: old.build,
        config: old.config,
        bindings: old.bindings,
        processes: old.processes,
        manifest: old.manifest,
        description,
        created_by: by.to_owned(),
    }
}
