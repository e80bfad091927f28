//! A rebuild: the tip of the deploy branch is built again, or after a rollback the deployed commit.

use tokio_util::sync::CancellationToken;

use super::{
    checkout::Checkout, deploy_ref::unpin, deployer::Deployer, error::DeployError, gc::CollectAtEnd, image::Reuse,
    locks::Work, release::ReleaseOrigin,
};
use crate::{
    git::Reader,
    instances::RolloutError,
    model::{BranchName, CommitId, ReleaseNumber},
    progress::Progress,
    store::{App, ReleaseKind, ReleaseState, ReleaseSummary},
};

/// A deploy branch, and what is deployed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeployBranchState {
    /// Commit of the branch, if that exists.
    pub tip: Option<CommitId>,
    /// Commit of the current release.
    pub deployed: Option<CommitId>,
    /// The newest release of that tip, if the app was rolled back to the deployed commit: a rebuild does not bring back what
    /// was rolled back.
    pub rolled_back: Option<ReleaseNumber>,
    /// Whether there is a tag of the branch's name.
    pub is_tag: bool,
}

impl Deployer {
    /// Builds the tip of the deploy branch, even if the same was built before, and releases the image. After a rollback, or
    /// if the branch does not exist, the deployed commit is built.
    pub async fn rebuild(
        &self,
        app: &App,
        by: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        let work = self.0.pushes.begin(app.id, cancel);
        let rebuilt = self.rebuild_current(app, by, progress, &work).await;
        work.end(rebuilt)
    }

    async fn rebuild_current(&self, app: &App, by: &str, progress: &Progress, work: &Work) -> Result<(), DeployError> {
        let this = &self.0;
        let _lock = this.pushes.lock(app.id, progress, work.cancel()).await?;
        let repository = this.repositories.get(&app.name);
        let reader = repository.reader();
        let commit = self.commit_to_rebuild(app, &reader, progress).await?;
        repository.pin_commit(&commit, &[]).await?;
        let build_and_release = async {
            let _collect_at_end = CollectAtEnd::begin(self).await;
            Box::pin(self.rebuild_commit(app, &reader, commit, by, progress, work)).await
        };
        let rebuilt = this.pushes.unless_destroyed(app.id, work.cancel(), build_and_release).await;
        unpin(app, &repository).await;
        rebuilt
    }

    /// What a rebuild of this deploy branch would find.
    pub(super) async fn deploy_branch_state(
        &self,
        app: &App,
        branch: Option<&BranchName>,
        reader: &Reader,
    ) -> Result<DeployBranchState, DeployError> {
        let deployed = self.current_release(app).await?.and_then(|release| release.commit);
        let mut state = DeployBranchState { deployed, ..DeployBranchState::default() };
        let Some(branch) = branch else { return Ok(state) };
        state.tip = reader.ref_value(branch).await?;
        state.is_tag = reader.has_tag(branch.as_str()).await?;
        if let (Some(tip), Some(deployed)) = (&state.tip, &state.deployed)
            && tip != deployed
        {
            let live = self.live_releases(app).await?;
            let live: Vec<_> = live.iter().map(|r| (r.number, r.kind, r.commit.as_ref())).collect();
            state.rolled_back = rolled_back(&live, deployed, tip);
        }
        Ok(state)
    }

    /// The commit that a rebuild builds; tells which it is, if it is not the deployed one or there is a newer one.
    async fn commit_to_rebuild(
        &self,
        app: &App,
        reader: &Reader,
        progress: &Progress,
    ) -> Result<CommitId, DeployError> {
        let branch = app.deploy_branch.as_ref();
        let DeployBranchState { tip, deployed, rolled_back, .. } =
            self.deploy_branch_state(app, branch, reader).await?;
        match (deployed, branch.zip(tip)) {
            (None, None) => Err(RolloutError::NotDeployed(app.name.to_string()).into()),
            (Some(deployed), None) => {
                if let Some(branch) = branch {
                    let text =
                        format!("Building the deployed commit {}; there is no branch {branch}", deployed.short());
                    progress.step(text).await;
                }
                Ok(deployed)
            }
            (Some(deployed), Some((_, tip))) if deployed == tip => Ok(tip),
            (deployed, Some((branch, tip))) => {
                if let (Some(release), Some(deployed)) = (rolled_back, &deployed) {
                    let (built, tip) = (deployed.short(), tip.short());
                    progress
                        .step(format!("Building {built}, to which the app was rolled back, not {branch} at {tip}"))
                        .await;
                    progress.detail(format!("releases:rollback {} v{release} goes back to {tip}", app.name)).await;
                    return Ok(deployed.clone());
                }
                let instead =
                    deployed.map(|deployed| format!("; {} is deployed", deployed.short())).unwrap_or_default();
                progress.step(format!("Building {branch} at {}{instead}", tip.short())).await;
                Ok(tip)
            }
        }
    }

    /// The newest release of a commit that was live.
    pub(super) async fn newest_release_of(
        &self,
        app: &App,
        commit: &CommitId,
    ) -> Result<Option<ReleaseNumber>, DeployError> {
        let live = self.live_releases(app).await?;
        Ok(live.into_iter().find(|r| r.commit.as_ref() == Some(commit)).map(|release| release.number))
    }

    /// The releases that are or were live, newest first.
    async fn live_releases(&self, app: &App) -> Result<Vec<ReleaseSummary>, DeployError> {
        let mut releases = self.0.store.releases(app.id, u32::MAX).await?;
        releases.retain(|release| release.state == ReleaseState::Released);
        Ok(releases)
    }

    async fn rebuild_commit(
        &self,
        app: &App,
        reader: &Reader,
        commit: CommitId,
        by: &str,
        progress: &Progress,
        work: &Work,
    ) -> Result<(), DeployError> {
        let checkout = Checkout::new(app, reader, &commit);
        let image = self.make_image(app, &checkout, by, Reuse::No, progress, work).await?;
        let origin = ReleaseOrigin { kind: ReleaseKind::Rebuild, branch: None, commit, by: by.to_owned() };
        self.release_image(app, image, origin, work).await
    }
}

/// The newest release of the tip, if the deployed commit is live by a rollback: other releases of it may have followed. The
/// releases are those that were live, newest first.
fn rolled_back(
    live: &[(ReleaseNumber, ReleaseKind, Option<&CommitId>)],
    deployed: &CommitId,
    tip: &CommitId,
) -> Option<ReleaseNumber> {
    let mut of_deployed = live.iter().take_while(|(_, _, commit)| *commit == Some(deployed));
    let is_rolled_back = of_deployed.any(|(_, kind, _)| *kind == ReleaseKind::Rollback);
    let of_tip = || live.iter().find(|(_, _, commit)| *commit == Some(tip));
    if is_rolled_back { of_tip().map(|(number, ..)| *number) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_counts_as_long_as_its_commit_is_live() {
        use ReleaseKind as K;
        let id = |digit: &str| digit.repeat(40).parse::<CommitId>().unwrap();
        let (old, bad, new) = (id("1"), id("2"), id("3"));
        let found =
            |live: &[(ReleaseNumber, ReleaseKind, Option<&CommitId>)], tip| rolled_back(live, live[0].2.unwrap(), tip);
        let pushed = [(3, K::Rollback, Some(&old)), (2, K::Push, Some(&bad)), (1, K::Push, Some(&old))];
        assert_eq!(found(&pushed, &bad), Some(2));
        let kept =
            [&[(6, K::Rebase, Some(&old)), (5, K::Config, Some(&old)), (4, K::Rebuild, Some(&old))][..], &pushed]
                .concat();
        assert_eq!(found(&kept, &bad), Some(2));
        assert_eq!(found(&kept, &new), None, "it was never live");
        let gone_on = [&[(8, K::Config, Some(&new)), (7, K::Push, Some(&new))][..], &kept].concat();
        assert_eq!(found(&gone_on, &bad), None);
        assert_eq!(found(&pushed[1..], &old), None, "there was no rollback");
    }
}
