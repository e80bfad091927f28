//! Releases without a push: changed config vars or bindings, a rollback, a restart.

use tokio_util::sync::CancellationToken;

use super::{deployer::Deployer, error::DeployError, gc::CollectAtEnd, locks::CancelOutcome, rollout::same_image};
use crate::{
    model::{BindingName, Bindings, ConfigKey, ProcessType, ReleaseNumber},
    progress::Progress,
    store::{App, ConfigVars, NewRelease, ReleaseKind, RollbackTarget},
};

/// Result of a change of config vars or bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigChange {
    /// They were already so.
    Nothing,
    /// They take effect with the next release.
    Stored,
    /// They are in this release, which is live.
    Released(ReleaseNumber),
}

/// What a change gives an app instead of what it had.
enum Changed {
    Config(ConfigVars),
    Bindings(Bindings),
}

impl Deployer {
    /// Changes config vars. With `restart`, if the app has a release, they go into a new one and change only if it
    /// becomes healthy; otherwise they take effect with the next release.
    #[expect(clippy::too_many_arguments, reason = "each is another argument of the command")]
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
        let _lock = this.releases.lock(app.id, progress, cancel).await?;
        let _collect_at_end = CollectAtEnd::begin(self).await;
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
        self.change(app, Changed::Config(config), description, restart, by, progress, cancel).await
    }

    /// Changes service bindings, as [`Self::change_config`] changes config vars.
    #[expect(clippy::too_many_arguments, reason = "each is another argument of the command")]
    pub async fn change_bindings(
        &self,
        app: &App,
        added: Bindings,
        removed: Vec<BindingName>,
        restart: bool,
        by: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<ConfigChange, DeployError> {
        let this = &self.0;
        let _lock = this.releases.lock(app.id, progress, cancel).await?;
        let _collect_at_end = CollectAtEnd::begin(self).await;
        let old = this.store.bindings(app.id).await?;
        let mut bindings = old.clone();
        let names: Vec<_> = added.keys().chain(&removed).map(BindingName::as_str).collect();
        let verb = if added.is_empty() { "Remove" } else { "Add" };
        let description = format!("{verb} bindings: {}", names.join(", "));
        bindings.extend(added);
        bindings.retain(|name, _| !removed.contains(name));
        if bindings == old {
            return Ok(ConfigChange::Nothing);
        }
        self.change(app, Changed::Bindings(bindings), description, restart, by, progress, cancel).await
    }

    /// Makes a release with what is changed, and with what else is declared; or only declares it.
    #[expect(clippy::too_many_arguments, reason = "each is another argument of the command")]
    async fn change(
        &self,
        app: &App,
        changed: Changed,
        description: String,
        restart: bool,
        by: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<ConfigChange, DeployError> {
        let store = &self.0.store;
        let current = self.current_release(app).await?;
        let Some(current) = current.filter(|_| restart) else {
            match changed {
                Changed::Config(config) => store.replace_config_vars(app.id, config).await?,
                Changed::Bindings(bindings) => store.replace_bindings(app.id, bindings).await?,
            }
            return Ok(ConfigChange::Stored);
        };
        let (config, bindings) = match changed {
            Changed::Config(config) => (config, store.bindings(app.id).await?),
            Changed::Bindings(bindings) => (store.config_vars(app.id).await?, bindings),
        };
        let new = NewRelease { config, bindings, ..same_image(current, ReleaseKind::Config, description, by) };
        self.bring_up(app, new, progress, cancel).await.map(ConfigChange::Released)
    }

    /// Rolls back to an older release, by a new one with its image, config vars and bindings: to release `to`, or to the last
    /// one before the current that was live.
    pub async fn rollback(
        &self,
        app: &App,
        to: Option<ReleaseNumber>,
        by: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<ReleaseNumber, DeployError> {
        let this = &self.0;
        let _lock = this.releases.lock(app.id, progress, cancel).await?;
        let _collect_at_end = CollectAtEnd::begin(self).await;
        let current = self.current_release(app).await?.map_or(0, |release| release.number);
        let chosen = this.store.rollback_target(app.id, to).await?.ok_or_else(|| {
            let missing =
                to.map_or_else(|| "no older release".to_owned(), |to| format!("no release v{to} that was live"));
            DeployError::NoRelease(format!("{} has {missing}; releases:list {} lists all", app.name, app.name))
        })?;
        let not_kept = |what, number| {
            DeployError::NoRelease(format!("the {what} of v{number} are no longer kept; push the commit again"))
        };
        let chosen = match chosen {
            RollbackTarget::Kept(release) if self.has_image(&release.image).await? => *release,
            RollbackTarget::Kept(release) => return Err(not_kept("layers of the image", release.number)),
            RollbackTarget::NotKept(number) => return Err(not_kept("config vars", number)),
        };
        let commit = chosen.commit.as_ref().map(|commit| format!(" ({})", commit.short())).unwrap_or_default();
        progress
            .step(format!("Rolling back to v{}{commit}, with the config vars and bindings that it had", chosen.number))
            .await;
        let description = format!("Rollback to v{}", chosen.number);
        let new = same_image(chosen, ReleaseKind::Rollback, description, by);
        let number = self.bring_up(app, new, progress, cancel).await?;
        let forward = format!("to go forward again: releases:rollback {} v{current}, or push a new commit", app.name);
        progress.detail(forward).await;
        Ok(number)
    }

    /// Replaces the app's instances by new ones of the same release; with `process_type`, only those of that type.
    pub async fn restart(
        &self,
        app: &App,
        process_type: Option<ProcessType>,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        let _lock = self.0.releases.lock(app.id, progress, cancel).await?;
        Ok(self.0.instances.restart(app.id, process_type, progress, cancel).await?)
    }

    /// Cancels the push or rebuild of an app that is under way or waits, if it is not past its commit point; returns when
    /// it has ended.
    pub async fn cancel_build(&self, app: &App, by: &str) -> Result<(), DeployError> {
        match self.0.pushes.cancel(app.id, by).await {
            CancelOutcome::Cancelled => Ok(()),
            CancelOutcome::TooLate => Err(DeployError::BuildEnded(app.name.clone())),
            CancelOutcome::NothingRuns => Err(DeployError::NotBuilding(app.name.clone())),
        }
    }

    /// Clears the build cache of an app: its next build starts from nothing.
    pub async fn clear_cache(
        &self,
        app: &App,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        let _lock = self.0.pushes.lock(app.id, progress, cancel).await?;
        Ok(self.0.builder.clear_cache(&app.id.0.to_string()).await?)
    }
}
