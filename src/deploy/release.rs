//! The release of an image that was made of a commit, from the process types to the URLs that the pusher sees.

use tokio_util::sync::CancellationToken;

use super::{deployer::Deployer, error::DeployError, failure, image::CommitImage, locks::Work};
use crate::{
    model::{AppJson, BranchName, CheckMode, CommitId, Exposure, ImageHealthCheck},
    progress::Progress,
    release,
    store::{App, NewRelease, ProcessSpec, ReleaseKind},
};

/// Why a commit is released, and by whom.
pub(super) struct ReleaseOrigin {
    pub(super) kind: ReleaseKind,
    pub(super) branch: Option<BranchName>,
    pub(super) commit: CommitId,
    pub(super) by: String,
}

impl Deployer {
    /// Releases an image, and reports the outcome in the build's output.
    pub(super) async fn release_image(
        &self,
        app: &App,
        image: CommitImage,
        origin: ReleaseOrigin,
        work: &Work,
    ) -> Result<(), DeployError> {
        let result = match self.release(app, &image, origin, work.cancel()).await {
            Ok(()) => Ok(()),
            Err(error) => Err(failure::report(work.explain(error), failure::Live::of(app), image.log.progress()).await),
        };
        image.log.close().await;
        result
    }

    async fn release(
        &self,
        app: &App,
        image: &CommitImage,
        origin: ReleaseOrigin,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        let progress = image.log.progress();
        let _lock = self.0.releases.lock(app.id, progress, cancel).await?;
        let new = self.new_release(app, image, origin, progress).await?;
        self.bring_up(app, new, progress, cancel).await?;
        self.announce(app, progress).await
    }

    async fn new_release(
        &self,
        app: &App,
        image: &CommitImage,
        origin: ReleaseOrigin,
        progress: &Progress,
    ) -> Result<NewRelease, DeployError> {
        let this = &self.0;
        let CommitImage { manifest_digest, build, app_json, summary, .. } = image;
        let mut declared = this.images.processes(manifest_digest)?;
        if image.without_web && declared.iter().any(|process| process.process_type.is_web()) {
            declared.retain(|process| !process.process_type.is_web());
            progress.detail("web is not started: the Procfile does not name it").await;
        }
        if declared.is_empty() {
            return Err(DeployError::NoProcess);
        }
        for warning in release::unknown_types(&declared, app_json) {
            progress.trouble(warning).await;
        }
        let names = declared.iter().map(|p| p.process_type.as_str()).collect::<Vec<_>>().join(", ");
        progress.step(format!("Process types: {names}")).await;
        let settings = this.images.runtime_settings(manifest_digest)?;
        let processes = release::processes(declared, &settings, app_json);
        self.tell_checks(app, &processes, settings.health_check.as_ref(), app_json, progress).await;
        self.warn_of_removed_types(app, &processes, progress).await?;
        let ReleaseOrigin { kind, branch, commit, by } = origin;
        Ok(NewRelease {
            kind,
            image: manifest_digest.clone(),
            branch,
            description: format!("{} {summary}", commit.short()),
            commit: Some(commit),
            build: Some(*build),
            config: this.store.config_vars(app.id).await?,
            bindings: this.store.bindings(app.id).await?,
            processes,
            manifest: app_json.manifest.clone(),
            created_by: by,
        })
    }

    /// Reports which checks decide about the release, where that is not what the app's files say.
    async fn tell_checks(
        &self,
        app: &App,
        processes: &[ProcessSpec],
        of_image: Option<&ImageHealthCheck>,
        app_json: &AppJson,
        progress: &Progress,
    ) {
        for ProcessSpec { process, health_checks, .. } in processes {
            let name = &process.process_type;
            match app.checks.mode(name) {
                CheckMode::Enabled => {}
                CheckMode::Skipped => {
                    let text =
                        format!("health checks of {name} are skipped; checks:enable {} {name} has them made", app.name);
                    progress.trouble(text).await;
                    continue;
                }
                CheckMode::Disabled => {
                    let text = format!(
                        "health checks of {name} are disabled, and its old instances are stopped before the new ones start; \
                         checks:enable {} {name} has them made",
                        app.name
                    );
                    progress.trouble(text).await;
                    continue;
                }
            }
            let Some(of_image) = of_image else { continue };
            let command = of_image.command.join(" ");
            if *health_checks == of_image.checks(Exposure::by_convention(name)) {
                progress.detail(format!("Health check of {name}: HEALTHCHECK of the image ({command})")).await;
            } else if app_json.health_checks.contains_key(name) {
                let text = format!("HEALTHCHECK of the image is not used for {name}: app.json has health checks");
                progress.detail(text).await;
            }
        }
    }

    /// Warns of process types that run now and that a release of these processes does not have.
    async fn warn_of_removed_types(
        &self,
        app: &App,
        next: &[ProcessSpec],
        progress: &Progress,
    ) -> Result<(), DeployError> {
        let Some(current) = self.current_release(app).await? else { return Ok(()) };
        for (name, quantity) in release::formation(&current.processes, &app.formation) {
            if quantity > 0 && next.iter().all(|spec| spec.process.process_type != name) {
                let text = format!("{name} is no longer a process type: its instances end with this release");
                progress.trouble(text).await;
            }
        }
        Ok(())
    }

    /// Reports the URLs of the app.
    async fn announce(&self, app: &App, progress: &Progress) -> Result<(), DeployError> {
        let Some(now) = self.0.store.app(app.id).await?.filter(|app| !app.stopped) else { return Ok(()) };
        progress.header("Application deployed:").await;
        let release = self.current_release(app).await?;
        if let Some(release) = release.filter(|release| release.exposed().is_none()) {
            progress.detail("the app has no web process, so it has no URL").await;
            // Not the instances that there are: those of the release before may still be ending.
            let formation = release::formation(&release.processes, &now.formation);
            if let Some(name) = formation.keys().next().filter(|_| formation.values().all(|quantity| *quantity == 0)) {
                let text = format!("no instance is declared: ps:scale {} {name}=1 starts one", app.name);
                progress.trouble(text).await;
            }
            return Ok(());
        }
        for mapping in self.0.store.port_mappings(app.id).await? {
            progress.detail(self.0.ports.url(&mapping)).await;
        }
        Ok(())
    }
}
