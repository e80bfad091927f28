//! Releases that no push makes: changed config vars, and an older release brought back.

use tokio_util::sync::CancellationToken;

use super::{DeployError, Deployer, PUSHING, RELEASING, ReleaseSource, collect::Choosing, image::Reuse};
use crate::{
    model::{CommitId, ConfigKey, ReleaseNumber},
    progress::Progress,
    store::{App, ConfigVars, NewRelease, Release, ReleaseKind, ReleaseState},
};

impl Deployer {
    /// Makes the release and brings its instances up; what failed on the way changes nothing.
    pub(super) async fn bring_up(
        &self,
        app: &App,
        new: NewRelease,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<ReleaseNumber, DeployError> {
        let this = &self.0;
        let number = this.store.create_release(app.id, new).await?.number;
        progress.step(format!("Releasing v{number}")).await;
        let live = this.instances.rollout(app.id, number, progress, cancel).await;
        if let Err(error) = live {
            this.store.fail_unstarted_release(app.id, number).await?;
            return Err(error.into());
        }
        if this.store.app(app.id).await?.is_some_and(|app| app.stopped) {
            let text = format!("v{number} is what {0} starts with; it is stopped: ps:start {0} starts it", app.name);
            progress.trouble(text).await;
        } else {
            progress.detail(format!("v{number} is live")).await;
        }
        Ok(number)
    }

    /// Changes config vars. With `restart`, and when something is deployed, a new release carries them, and they hold
    /// only if it becomes healthy; otherwise they hold from the next release on.
    #[expect(clippy::too_many_arguments, reason = "each is a different word of the command")]
    pub async fn change_config(
        &self,
        app: &App,
        set: ConfigVars,
        unset: Vec<ConfigKey>,
        restart: bool,
        by: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<ConfigChange, DeployError> {
        let this = &self.0;
        let _lock = this.releases.lock(app.id, progress, RELEASING, cancel).await?;
        let _chosen = Choosing::begin(self, app).await;
        let old = this.store.config_vars(app.id).await?;
        let mut config = old.clone();
        let names: Vec<_> = set.keys().chain(&unset).map(ConfigKey::as_str).collect();
        let description = format!("{} config vars: {}", if set.is_empty() { "Unset" } else { "Set" }, names.join(", "));
        config.extend(set);
        for name in &unset {
            config.remove(name);
        }
        if config == old {
            return Ok(ConfigChange::Nothing);
        }
        let current = self.current_release(app).await?;
        match current.filter(|_| restart) {
            None => {
                this.store.replace_config_vars(app.id, config).await?;
                Ok(ConfigChange::Kept)
            }
            Some(current) => {
                let new = again(current, ReleaseKind::Config, config, description, by);
                self.bring_up(app, new, progress, cancel).await.map(ConfigChange::Released)
            }
        }
    }

    /// Brings an older release back, as a new one: `to`, or the released one before the current.
    pub async fn rollback(
        &self,
        app: &App,
        to: Option<ReleaseNumber>,
        by: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<ReleaseNumber, DeployError> {
        let this = &self.0;
        let _lock = this.releases.lock(app.id, progress, RELEASING, cancel).await?;
        let _chosen = Choosing::begin(self, app).await;
        let current = self.current_release(app).await?.map_or(0, |release| release.number);
        let releases = this.store.releases(app.id, u32::MAX).await?;
        let chosen = releases.into_iter().find(|release| {
            release.state == ReleaseState::Released && to.map_or(release.number < current, |to| release.number == to)
        });
        let chosen = chosen.ok_or_else(|| {
            let which =
                to.map_or_else(|| "no older release".to_owned(), |to| format!("no release v{to} that was live"));
            DeployError::NoRelease(format!("{} has {which}; releases:list {} shows all", app.name, app.name))
        })?;
        if !this.images.complete(&chosen.image)? {
            let text = format!("the image of v{} is no longer kept; push the commit again", chosen.number);
            return Err(DeployError::NoRelease(text));
        }
        let commit = chosen.commit.as_ref().map(|commit| format!(" ({})", commit.short())).unwrap_or_default();
        progress.step(format!("Rolling back to v{}{commit}, with the config vars that it had", chosen.number)).await;
        let description = format!("Rollback to v{}", chosen.number);
        let config = chosen.config.clone();
        let new = again(chosen, ReleaseKind::Rollback, config, description, by);
        let number = self.bring_up(app, new, progress, cancel).await?;
        let forward = format!("forward again: releases:rollback {} v{current}, or push a new commit", app.name);
        progress.detail(forward).await;
        Ok(number)
    }

    /// Replaces the app's instances by new ones of the same release.
    pub async fn restart(&self, app: &App, progress: &Progress, cancel: &CancellationToken) -> Result<(), DeployError> {
        let _lock = self.0.releases.lock(app.id, progress, RELEASING, cancel).await?;
        Ok(self.0.instances.restart(app.id, progress, cancel).await?)
    }

    /// Builds the deployed commit again, whatever was built of it before, and releases what comes out.
    pub async fn rebuild(
        &self,
        app: &App,
        by: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        let this = &self.0;
        let _lock = this.pushes.lock(app.id, progress, PUSHING, cancel).await?;
        let commit = self.current_release(app).await?.and_then(|release| release.commit);
        let commit =
            commit.ok_or_else(|| DeployError::NoRelease(format!("{} has nothing deployed to build", app.name)))?;
        let repository = this.repositories.get(&app.name);
        repository.pin_commit(&commit).await?;
        let work = async {
            let _chosen = Choosing::begin(self, app).await;
            Box::pin(self.rebuild_commit(app, commit, by, progress, cancel)).await
        };
        let rebuilt = this.pushes.unless_destroyed(app.id, cancel, work).await;
        repository.unpin_commit().await?;
        rebuilt
    }

    async fn rebuild_commit(
        &self,
        app: &App,
        commit: CommitId,
        by: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        let made = self.make_image(app, &commit, by, Reuse::No, progress, cancel).await?;
        let (kind, by) = (ReleaseKind::Rebuild, by.to_owned());
        self.release_image(app, made, ReleaseSource { kind, branch: None, commit, by }, cancel).await
    }

    /// Forgets what builds of the app have cached.
    pub async fn clear_cache(
        &self,
        app: &App,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        let _lock = self.0.pushes.lock(app.id, progress, PUSHING, cancel).await?;
        self.0.builder.forget(&app.id.0.to_string()).await?;
        Ok(self.0.builder.forget_dockerfile(&app.name).await?)
    }

    pub(super) async fn current_release(&self, app: &App) -> Result<Option<Release>, DeployError> {
        let Some(current) = self.0.store.app(app.id).await?.and_then(|app| app.current) else { return Ok(None) };
        Ok(self.0.store.release(app.id, current.release).await?)
    }
}

/// What a change of config vars came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigChange {
    /// They were as asked for already.
    Nothing,
    /// They hold from the next release on.
    Kept,
    /// This release has them, and is live.
    Released(ReleaseNumber),
}

/// The same image and processes, with these vars.
pub(super) fn again(old: Release, kind: ReleaseKind, config: ConfigVars, description: String, by: &str) -> NewRelease {
    NewRelease {
        kind,
        image: old.image,
        branch: old.branch,
        commit: old.commit,
        build: old.build,
        config,
        processes: old.processes,
        description,
        created_by: by.to_owned(),
    }
}
