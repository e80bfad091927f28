//! Releases: numbered combinations of image, config vars, service bindings and process types. Only the state of a release changes.

mod kind;
mod prune;

pub use kind::{ReleaseKind, ReleaseState};

use std::collections::HashMap;

use rusqlite::{Row, Transaction};

use super::{
    bindings,
    columns::{FORMAT_VERSION, check_version, json, optional_text, text, to_json},
    config_vars::{self, ConfigVars},
    cron,
    database::Store,
    ending,
    error::{Result, StoreError},
    ids::{AppId, BuildId},
    placement::Placement,
    process_spec::ProcessSpec,
    quotas, release_configs,
    secrets::Cipher,
    tasks::{self, NewTask, Task},
    time::{Millis, now},
};
use crate::model::{Bindings, BranchName, CommitId, Digest, ProcessType, ReleaseManifest, ReleaseNumber, Resource};

/// A release to be created.
#[derive(Debug, Clone)]
pub struct NewRelease {
    /// Kind of change.
    pub kind: ReleaseKind,
    /// Manifest of the image.
    pub image: Digest,
    /// Branch that was pushed.
    pub branch: Option<BranchName>,
    /// Commit that was built.
    pub commit: Option<CommitId>,
    /// Build that made the image.
    pub build: Option<BuildId>,
    /// Config vars.
    pub config: ConfigVars,
    /// Service bindings.
    pub bindings: Bindings,
    /// Process types.
    pub processes: Vec<ProcessSpec>,
    /// What else its `app.json` declares.
    pub manifest: ReleaseManifest,
    /// Description for users.
    pub description: String,
    /// Name of the caller.
    pub created_by: String,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Number within the app, from 1.
    pub number: ReleaseNumber,
    /// Kind of change.
    pub kind: ReleaseKind,
    /// State.
    pub state: ReleaseState,
    /// Manifest of the image.
    pub image: Digest,
    /// Branch that was pushed.
    pub branch: Option<BranchName>,
    /// Commit that was built.
    pub commit: Option<CommitId>,
    /// Build that made the image.
    pub build: Option<BuildId>,
    /// Config vars.
    pub config: ConfigVars,
    /// Service bindings.
    pub bindings: Bindings,
    /// Process types.
    pub processes: Vec<ProcessSpec>,
    /// What else its `app.json` declares.
    pub manifest: ReleaseManifest,
    /// Description for users.
    pub description: String,
    /// Name of the caller.
    pub created_by: String,
    /// Time of creation.
    pub created_at: Millis,
}

impl Release {
    /// The process type that the app's port mappings lead to.
    pub fn exposed(&self) -> Option<&ProcessSpec> {
        self.processes.iter().find(|spec| spec.is_exposed())
    }
}

impl Release {
    /// Whether a Dockerfile made the image, whose own user and stop signal count then.
    pub fn own_user(&self) -> bool {
        self.processes.iter().any(|spec| spec.own_user)
    }
}

/// What a list shows of a release: without its config vars, which would have to be decrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseSummary {
    /// Number.
    pub number: ReleaseNumber,
    /// Kind of change.
    pub kind: ReleaseKind,
    /// State.
    pub state: ReleaseState,
    /// Manifest of the image.
    pub image: Digest,
    /// Commit that was built.
    pub commit: Option<CommitId>,
    /// Description for users.
    pub description: String,
    /// Name of the caller who made it.
    pub created_by: String,
    /// Time of creation.
    pub created_at: Millis,
}

/// A release to which an app is rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackTarget {
    /// The release with its config vars; its image may be gone.
    Kept(Box<Release>),
    /// The config vars of the release with this number are no longer kept; its image may be.
    NotKept(ReleaseNumber),
}

/// Commit that a branch is to point to after its release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedRelease {
    /// Number of the release.
    pub number: ReleaseNumber,
    /// Branch that was pushed.
    pub branch: BranchName,
    /// Commit that was built.
    pub commit: CommitId,
    /// Whether the branch was set to the commit.
    pub ref_set: bool,
}

/// In place of the content of bindings of a release without any.
const NO_BINDINGS: &str = "";

const COLUMNS: &str = "number, kind, state, image, branch, commit_id, build, config_content, config_version, processes, \
    manifest, description, created_by, created_at, bindings_content";

fn release(t: &Transaction<'_>, cipher: &Cipher, app: AppId, row: &Row<'_>) -> Result<Release> {
    check_version("config", row.get("config_version")?)?;
    Ok(Release {
        number: row.get("number")?,
        kind: text(row, "kind", "release kind")?,
        state: text(row, "state", "release state")?,
        image: text(row, "image", "image")?,
        branch: optional_text(row, "branch", "branch name")?,
        commit: optional_text(row, "commit_id", "commit")?,
        build: row.get::<_, Option<i64>>("build")?.map(BuildId),
        config: release_configs::get(t, cipher, app, &row.get::<_, String>("config_content")?)?,
        bindings: match row.get::<_, String>("bindings_content")?.as_str() {
            NO_BINDINGS => Bindings::new(),
            content => release_configs::get(t, cipher, app, content)?,
        },
        processes: json(row, "processes", "processes")?,
        manifest: json(row, "manifest", "manifest")?,
        description: row.get("description")?,
        created_by: row.get("created_by")?,
        created_at: row.get("created_at")?,
    })
}

fn summary(row: &Row<'_>) -> Result<ReleaseSummary> {
    Ok(ReleaseSummary {
        number: row.get("number")?,
        kind: text(row, "kind", "release kind")?,
        state: text(row, "state", "release state")?,
        image: text(row, "image", "image")?,
        commit: optional_text(row, "commit_id", "commit")?,
        description: row.get("description")?,
        created_by: row.get("created_by")?,
        created_at: row.get("created_at")?,
    })
}

fn find(t: &Transaction<'_>, cipher: &Cipher, app: AppId, number: ReleaseNumber) -> Result<Option<Release>> {
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE app = ?1 AND number = ?2");
    t.prepare_cached(&sql)?.query_and_then((app.0, number), |row| release(t, cipher, app, row))?.next().transpose()
}

/// The process type that port mappings lead to, of each release that is current or has instances.
pub(super) fn exposed_types(t: &Transaction<'_>) -> Result<HashMap<(AppId, ReleaseNumber), ProcessType>> {
    let mut query = t.prepare_cached(
        "SELECT app, number, processes FROM releases r
         WHERE number = (SELECT current_release FROM apps WHERE id = r.app)
            OR EXISTS (SELECT 1 FROM instances i WHERE i.app = r.app AND i.release = r.number)",
    )?;
    let mut types = HashMap::new();
    let releases = query.query_and_then([], |row| {
        let processes: Vec<ProcessSpec> = json(row, "processes", "processes")?;
        Ok::<_, StoreError>(((AppId(row.get("app")?), row.get("number")?), processes))
    })?;
    for release in releases {
        let (key, processes) = release?;
        let exposed = processes.into_iter().find(ProcessSpec::is_exposed);
        types.extend(exposed.map(|spec| (key, spec.process.process_type)));
    }
    Ok(types)
}

/// Changes the state of a release that is in state `from`.
pub(super) fn set_state(
    t: &Transaction<'_>,
    app: AppId,
    number: ReleaseNumber,
    from: ReleaseState,
    to: ReleaseState,
) -> Result<()> {
    t.execute(
        "UPDATE releases SET state = ?4 WHERE app = ?1 AND number = ?2 AND state = ?3",
        (app.0, number, from.as_str(), to.as_str()),
    )?;
    Ok(())
}

/// Part of the commit point: the release counts as released, and the vars and bindings of a config release or a rollback become
/// the app's.
pub(super) fn mark_released(t: &Transaction<'_>, cipher: &Cipher, app: AppId, number: ReleaseNumber) -> Result<()> {
    let Some(release) = find(t, cipher, app, number)? else {
        return Err(StoreError::Corrupt { what: "release", why: format!("v{number} is missing") });
    };
    match (release.kind, release.state) {
        (ReleaseKind::Config | ReleaseKind::Rollback, ReleaseState::Candidate) => {
            config_vars::replace(t, cipher, app, &release.config)?;
            bindings::replace(t, cipher, app, &release.bindings)?;
        }
        (ReleaseKind::Push | ReleaseKind::Rebuild | ReleaseKind::Rebase, _)
        | (_, ReleaseState::Released | ReleaseState::Failed) => {}
    }
    cron::declare(t, app, &release.manifest.cron)?;
    set_state(t, app, number, ReleaseState::Candidate, ReleaseState::Released)
}

/// Creates a release with the app's next number, as a candidate, with the tasks of its release phase.
fn create(
    t: &Transaction<'_>,
    cipher: &Cipher,
    app: AppId,
    new: &NewRelease,
    phase: Vec<NewTask>,
    placement: Placement,
) -> Result<(Release, Vec<Task>)> {
    let sql = "SELECT coalesce(max(number), 0) + 1 AS next FROM releases WHERE app = ?1";
    let number: u64 = t.query_row(sql, [app.0], |row| row.get("next"))?;
    let config = release_configs::put(t, cipher, app, &new.config)?;
    let bindings = if new.bindings.is_empty() {
        NO_BINDINGS.to_owned()
    } else {
        release_configs::put(t, cipher, app, &new.bindings)?
    };
    t.execute(
        &format!(
            "INSERT INTO releases (app, {COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
        ),
        (
            app.0,
            number,
            new.kind.as_str(),
            ReleaseState::Candidate.as_str(),
            new.image.as_str(),
            new.branch.as_ref().map(BranchName::as_str),
            new.commit.as_ref().map(CommitId::as_str),
            new.build.map(|b| b.0),
            config,
            FORMAT_VERSION,
            to_json("processes", &new.processes)?,
            to_json("manifest", &new.manifest)?,
            &new.description,
            &new.created_by,
            now(),
            bindings,
        ),
    )?;
    prune::bound_configs(t, app)?;
    let created = find(t, cipher, app, number)?
        .ok_or_else(|| StoreError::Corrupt { what: "release", why: format!("v{number} is missing") })?;
    let tasks = phase.into_iter().map(|task| tasks::add(t, &NewTask { release: number, ..task }, placement));
    Ok((created, tasks.collect::<Result<_>>()?))
}

impl Store {
    /// Creates a release with the app's next number, as a candidate, with the tasks of its release phase. Refused if the app's
    /// owner may not have its instances, tasks, config vars or bindings.
    pub async fn create_release(
        &self,
        app: AppId,
        new: NewRelease,
        phase: Vec<NewTask>,
        placement: Placement,
    ) -> Result<(Release, Vec<Task>)> {
        let limits = self.limits();
        self.transact(move |t, cipher| {
            quotas::check_bytes(t, &limits, app, Resource::Config, config_vars::bytes(&new.config))?;
            quotas::check_bytes(t, &limits, app, Resource::Bindings, bindings::bytes(&new.bindings))?;
            ending::refuse_too_many_if_started(t, &limits, app)?;
            let taken = [&[Resource::ProcessTypes, Resource::Tasks], &quotas::INSTANCES[..]].concat();
            quotas::within(t, &limits, app, &taken, || create(t, cipher, app, &new, phase, placement))
        })
        .await
    }

    /// The release of this number.
    pub async fn release(&self, app: AppId, number: ReleaseNumber) -> Result<Option<Release>> {
        self.read(move |t, cipher| find(t, cipher, app, number)).await
    }

    /// The app's newest `max` releases, newest first.
    pub async fn releases(&self, app: AppId, max: u32) -> Result<Vec<ReleaseSummary>> {
        self.releases_before(app, None, max).await
    }

    /// The same, of those before a number.
    pub async fn releases_before(
        &self,
        app: AppId,
        before: Option<ReleaseNumber>,
        max: u32,
    ) -> Result<Vec<ReleaseSummary>> {
        self.read(move |t, _| {
            let mut query = t.prepare_cached(
                "SELECT number, kind, state, image, commit_id, description, created_by, created_at FROM releases
                 WHERE app = ?1 AND (?2 IS NULL OR number < ?2) ORDER BY number DESC LIMIT ?3",
            )?;
            query.query_and_then((app.0, before, max), summary)?.collect()
        })
        .await
    }

    /// The release to which an app is rolled back: that of the number, or without one the last before the current one; `None`
    /// if it was never live. Without its config vars if these are no longer kept.
    pub async fn rollback_target(&self, app: AppId, number: Option<ReleaseNumber>) -> Result<Option<RollbackTarget>> {
        self.read(move |t, cipher| {
            let sql = format!(
                "SELECT {COLUMNS} FROM releases WHERE app = ?1 AND state = 'released' AND CASE WHEN ?2 IS NULL
                    THEN number < (SELECT current_release FROM apps WHERE id = ?1) ELSE number = ?2 END
                 ORDER BY number DESC LIMIT 1"
            );
            let mut query = t.prepare_cached(&sql)?;
            let mut found = query.query_and_then((app.0, number), |row| {
                if row.get::<_, String>("config_content")? == prune::DROPPED {
                    return Ok(RollbackTarget::NotKept(row.get("number")?));
                }
                release(t, cipher, app, row).map(|release| RollbackTarget::Kept(Box::new(release)))
            })?;
            found.next().transpose()
        })
        .await
    }

    /// The newest release that a push made and that became current.
    pub async fn newest_push(&self, app: AppId) -> Result<Option<PushedRelease>> {
        self.read(move |t, _| {
            let mut query = t.prepare_cached(
                "SELECT number, branch, commit_id, ref_set FROM releases
                 WHERE app = ?1 AND kind = 'push' AND state = 'released' AND branch NOT NULL AND commit_id NOT NULL
                 ORDER BY number DESC LIMIT 1",
            )?;
            let mut found = query.query_and_then([app.0], |row| {
                Ok(PushedRelease {
                    number: row.get("number")?,
                    branch: text(row, "branch", "branch name")?,
                    commit: text(row, "commit_id", "commit")?,
                    ref_set: row.get("ref_set")?,
                })
            })?;
            found.next().transpose()
        })
        .await
    }

    /// Records that the branch of a pushed release is set. From then on it is not set again at the start of the server.
    pub async fn note_ref_set(&self, app: AppId, number: ReleaseNumber) -> Result<()> {
        self.transact(move |t, _| {
            t.execute("UPDATE releases SET ref_set = 1 WHERE app = ?1 AND number = ?2", (app.0, number))?;
            Ok(())
        })
        .await
    }

    /// Marks a release as failed whose rollout did not even begin.
    pub async fn fail_unstarted_release(&self, app: AppId, number: ReleaseNumber) -> Result<()> {
        self.transact(move |t, _| {
            t.execute(
                "UPDATE releases SET state = 'failed' WHERE app = ?1 AND number = ?2 AND state = 'candidate'
                 AND number NOT IN (SELECT candidate_release FROM apps WHERE id = ?1 AND candidate_release NOT NULL)",
                (app.0, number),
            )?;
            Ok(())
        })
        .await
    }
}
