//! Deployments: which release of an app is current, and which is its candidate.

use rusqlite::OptionalExtension as _;

use super::{
    database::Store,
    ending,
    error::{Result, StoreError},
    ids::AppId,
    releases::{self, ReleaseState},
    time::now,
};
use crate::model::{ProcessType, ReleaseNumber};

/// One rollout of a release. Instances carry its generation, which is unique within the app: a restart is a new
/// generation of the same release, and a restart of one process type moves the other instances to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deployment {
    /// Number of the release.
    pub release: ReleaseNumber,
    /// Number of the rollout.
    pub generation: u64,
}

impl Store {
    /// Makes a release the candidate, as a new generation, in place of an earlier candidate. `None` when the app is
    /// being destroyed. With `process_type`, only instances of that type are restarted; refused unless the release is
    /// the current one. Refused if too many instances of the app's owner are ending.
    pub async fn begin_deployment(
        &self,
        id: AppId,
        release: ReleaseNumber,
        process_type: Option<ProcessType>,
    ) -> Result<Option<Deployment>> {
        let limits = self.limits();
        self.transact(move |t, _| {
            ending::refuse_too_many_if_started(t, &limits, id)?;
            let process_type = process_type.as_ref().map(ProcessType::as_str);
            let mut query = t.prepare_cached(
                "UPDATE apps SET generations = generations + 1, candidate_release = ?2,
                        candidate_generation = generations + 1, candidate_process_type = ?3
                 WHERE id = ?1 AND NOT destroying
                 RETURNING generations, ?3 NOT NULL AND current_release IS NOT ?2 AS mixed",
            )?;
            let begun = query
                .query_row((id.0, release, process_type), |row| Ok((row.get("generations")?, row.get("mixed")?)))
                .optional()?;
            match begun {
                // The other instances would count as those of a release that they do not run.
                Some((_, true)) => Err(StoreError::Refused(format!(
                    "v{release} is not the current release of the app any more; restart it again"
                ))),
                Some((generation, false)) => Ok(Some(Deployment { release, generation })),
                None => Ok(None),
            }
        })
        .await
    }

    /// The commit point: if `deployment` is still the candidate, it becomes the current one, its release counts as
    /// released, and a config release's vars become the app's. Instances of process types that the deployment does not
    /// restart belong to it from then on. Returns whether it was still the candidate.
    pub async fn commit_deployment(&self, id: AppId, deployment: Deployment) -> Result<bool> {
        self.transact(move |t, cipher| {
            t.execute(
                "UPDATE instances SET generation = ?2
                 WHERE app = ?1 AND state != 'retiring' AND EXISTS (
                    SELECT 1 FROM apps WHERE apps.id = ?1 AND apps.candidate_generation = ?2 AND NOT apps.destroying
                    AND apps.current_generation = instances.generation
                    AND apps.candidate_process_type != instances.process_type)",
                (id.0, deployment.generation),
            )?;
            let changed = t.execute(
                "UPDATE apps SET current_release = candidate_release, current_generation = candidate_generation,
                        candidate_release = NULL, candidate_generation = NULL, candidate_process_type = NULL
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
                "UPDATE apps SET candidate_release = NULL, candidate_generation = NULL, candidate_process_type = NULL
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
            t.execute(
                "UPDATE apps SET candidate_release = NULL, candidate_generation = NULL, candidate_process_type = NULL",
                [],
            )?;
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
