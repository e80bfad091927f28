//! Deployments: which release of an app is current, and which is its candidate.

use rusqlite::OptionalExtension as _;

use super::{
    database::Store,
    error::Result,
    ids::AppId,
    releases::{self, ReleaseState},
    time::now,
};
use crate::model::ReleaseNumber;

/// One rollout of a release. Instances carry its generation, which is unique within the app: a restart is a new
/// generation of the same release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deployment {
    /// Number of the release.
    pub release: ReleaseNumber,
    /// Number of the rollout.
    pub generation: u64,
}

impl Store {
    /// Makes a release the candidate, as a new generation, in place of an earlier candidate. `None` when the app is
    /// being destroyed.
    pub async fn begin_deployment(&self, id: AppId, release: ReleaseNumber) -> Result<Option<Deployment>> {
        self.transact(move |t, _| {
            let generation = t.query_row(
                "UPDATE apps SET generations = generations + 1, candidate_release = ?2, candidate_generation = generations + 1
                 WHERE id = ?1 AND NOT destroying RETURNING generations",
                (id.0, release),
                |r| r.get(0),
            );
            Ok(generation.optional()?.map(|generation| Deployment { release, generation }))
        })
        .await
    }

    /// The commit point: if `deployment` is still the candidate, it becomes the current one, its release counts as
    /// released, and a config release's vars become the app's. Returns whether it was still the candidate.
    pub async fn commit_deployment(&self, id: AppId, deployment: Deployment) -> Result<bool> {
        self.transact(move |t, cipher| {
            let changed = t.execute(
                "UPDATE apps SET current_release = candidate_release, current_generation = candidate_generation,
                        candidate_release = NULL, candidate_generation = NULL
                 WHERE id = ?1 AND candidate_generation = ?2 AND NOT destroying",
                (id.0, deployment.generation),
            )?;
            if changed == 0 {
                return Ok(false);
            }
            releases::mark_released(t, cipher, id, deployment.release)?;
            Ok(true)
        })
        .await
    }

    /// Abandons `deployment` if it is still the candidate; its release counts as failed unless it was released before.
    /// Returns whether it was still the candidate.
    pub async fn abandon_deployment(&self, id: AppId, deployment: Deployment) -> Result<bool> {
        self.transact(move |t, _| {
            let changed = t.execute(
                "UPDATE apps SET candidate_release = NULL, candidate_generation = NULL
                 WHERE id = ?1 AND candidate_generation = ?2",
                (id.0, deployment.generation),
            )?;
            if changed > 0 {
                releases::set_state(t, id, deployment.release, ReleaseState::Candidate, ReleaseState::Failed)?;
            }
            Ok(changed > 0)
        })
        .await
    }

    /// At start: abandons the candidates of a server that died, which were not reported as successful, and marks its
    /// running builds and events as interrupted.
    pub async fn abandon_all_interrupted(&self) -> Result<()> {
        self.transact(|t, _| {
            t.execute("UPDATE apps SET candidate_release = NULL, candidate_generation = NULL", [])?;
            t.execute("UPDATE releases SET state = 'failed' WHERE state = 'candidate'", [])?;
            t.execute(
                "UPDATE builds SET state = 'failed', ended_at = ?1, message = 'interrupted: the server stopped'
                 WHERE state = 'running'",
                [now()],
            )?;
            t.execute(
                "UPDATE events SET outcome = 'interrupted', ended_at = ?1, message = 'interrupted: the server stopped'
                 WHERE outcome = 'running'",
                [now()],
            )?;
            Ok(())
        })
        .await
    }
}
