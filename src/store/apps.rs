//! Apps, their formation, and which release is current or on trial.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{KeyId, Millis, Result, Store, StoreError, now, read, releases::ReleaseState, taken};
use crate::model::{AppName, BranchName, ProcessType, ReleaseNumber, SourceFolder};

/// Identity of an app; a name used again gets another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppId(pub i64);

/// A release that is brought up or is up. Its instances carry the generation, which is never used again within the app:
/// a restart is a new generation of the same release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deployment {
    /// Which release.
    pub release: ReleaseNumber,
    /// Which bringing-up of it.
    pub generation: u64,
}

/// A declared app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Identity.
    pub id: AppId,
    /// Its unique name.
    pub name: AppName,
    /// The key that made it.
    pub owner: Option<KeyId>,
    /// The branch whose pushes are deployed; the first one pushed.
    pub deploy_branch: Option<BranchName>,
    /// The stack that it has chosen; the default one if none.
    pub stack: Option<String>,
    /// The folder of its repository that is built; all of it if none.
    pub source_folder: Option<SourceFolder>,
    /// When it was made.
    pub created_at: Millis,
    /// Declared to run no instance (`ps:stop`).
    pub stopped: bool,
    /// On its way out.
    pub destroying: bool,
    /// What serves.
    pub current: Option<Deployment>,
    /// What is being brought up, to become current when it is healthy.
    pub candidate: Option<Deployment>,
    /// Declared number of instances of each process type; a type that is absent has none.
    pub formation: BTreeMap<ProcessType, u32>,
}

const COLUMNS: &str = "id, name, owner, deploy_branch, created_at, stopped, destroying, \
    current_release, current_generation, candidate_release, candidate_generation, stack, source_folder";

type Raw = (i64, String, Option<i64>, Option<String>, i64, bool, bool, [Option<u64>; 4], [Option<String>; 2]);

fn from_row(row: &Row<'_>) -> rusqlite::Result<Raw> {
    let deployment = [row.get(7)?, row.get(8)?, row.get(9)?, row.get(10)?];
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
        row.get(6)?,
        deployment,
        [row.get(11)?, row.get(12)?],
    ))
}

fn app(t: &Transaction<'_>, (id, name, owner, branch, created_at, stopped, destroying, d, chosen): Raw) -> Result<App> {
    let [stack, folder] = chosen;
    let deployment = |release: Option<u64>, generation: Option<u64>| {
        release.zip(generation).map(|(release, generation)| Deployment { release, generation })
    };
    Ok(App {
        id: AppId(id),
        name: read("app name", &name)?,
        owner: owner.map(KeyId),
        deploy_branch: branch.as_deref().map(|b| read("branch name", b)).transpose()?,
        stack,
        source_folder: folder.as_deref().map(|folder| read("folder", folder)).transpose()?,
        created_at,
        stopped,
        destroying,
        current: deployment(d[0], d[1]),
        candidate: deployment(d[2], d[3]),
        formation: formation(t, AppId(id))?,
    })
}

fn formation(t: &Transaction<'_>, app: AppId) -> Result<BTreeMap<ProcessType, u32>> {
    let mut query = t.prepare_cached("SELECT process_type, quantity FROM formation WHERE app = ?1")?;
    query
        .query_map([app.0], |r| Ok((r.get::<_, String>(0)?, r.get(1)?)))?
        .map(|row| row.map_err(StoreError::from).and_then(|(name, count)| Ok((read("process type", &name)?, count))))
        .collect()
}

fn set_quantity(t: &Transaction<'_>, app: AppId, process_type: &ProcessType, quantity: u32) -> Result<()> {
    t.prepare_cached(
        "INSERT INTO formation VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET quantity = excluded.quantity",
    )?
    .execute((app.0, process_type.as_str(), quantity))?;
    Ok(())
}

/// Says that there is no such app.
fn no_app(name: &AppName) -> StoreError {
    StoreError::NotFound(format!("there is no app named {name}; apps:list shows all, apps:create {name} makes it"))
}

impl Store {
    /// Makes an app and gives it a port of the range that no app has and that is not in `avoid`.
    pub async fn create_app(
        &self,
        name: AppName,
        owner: Option<KeyId>,
        ports: std::ops::RangeInclusive<u16>,
        avoid: Vec<u16>,
    ) -> Result<App> {
        self.transact(move |t, _| {
            t.execute(
                "INSERT INTO apps (name, owner, created_at) VALUES (?1, ?2, ?3)",
                (name.as_str(), owner.map(|k| k.0), now()),
            )
            .map_err(taken(|| {
                format!("the name {name} is taken by an app; choose another, or wait if it is being destroyed")
            }))?;
            let id = AppId(t.last_insert_rowid());
            super::ports::allocate(t, id, ports, &avoid)?;
            let raw = t.query_row(&format!("SELECT {COLUMNS} FROM apps WHERE id = ?1"), [id.0], from_row)?;
            app(t, raw)
        })
        .await
    }

    /// Chooses the folder of the app's repository that is built.
    pub async fn set_source_folder(&self, app: AppId, folder: Option<SourceFolder>) -> Result<()> {
        self.transact(move |t, _| {
            t.execute(
                "UPDATE apps SET source_folder = ?2 WHERE id = ?1",
                (app.0, folder.as_ref().map(SourceFolder::as_str)),
            )?;
            Ok(())
        })
        .await
    }

    /// All apps, by name; those on their way out too.
    pub async fn apps(&self) -> Result<Vec<App>> {
        self.transact(|t, _| {
            let mut query = t.prepare_cached(&format!("SELECT {COLUMNS} FROM apps ORDER BY name"))?;
            query.query_map([], from_row)?.map(|row| app(t, row?)).collect()
        })
        .await
    }

    /// The app of this name, unless it is on its way out.
    pub async fn find_app(&self, name: AppName) -> Result<Option<App>> {
        self.transact(move |t, _| {
            let mut query =
                t.prepare_cached(&format!("SELECT {COLUMNS} FROM apps WHERE name = ?1 AND NOT destroying"))?;
            query.query_row([name.as_str()], from_row).optional()?.map(|raw| app(t, raw)).transpose()
        })
        .await
    }

    /// The app of this name, or an error that says that there is none.
    pub async fn app_named(&self, name: AppName) -> Result<App> {
        self.find_app(name.clone()).await?.ok_or_else(|| no_app(&name))
    }

    /// The app with this identity; `None` once it is gone.
    pub async fn app(&self, id: AppId) -> Result<Option<App>> {
        self.transact(move |t, _| {
            let mut query = t.prepare_cached(&format!("SELECT {COLUMNS} FROM apps WHERE id = ?1"))?;
            query.query_row([id.0], from_row).optional()?.map(|raw| app(t, raw)).transpose()
        })
        .await
    }

    /// Sets the deploy branch; with `only_first`, only when there is none yet. Returns the one in force.
    pub async fn set_deploy_branch(&self, id: AppId, branch: BranchName, only_first: bool) -> Result<BranchName> {
        self.transact(move |t, _| {
            let sql = if only_first {
                "UPDATE apps SET deploy_branch = coalesce(deploy_branch, ?2) WHERE id = ?1 RETURNING deploy_branch"
            } else {
                "UPDATE apps SET deploy_branch = ?2 WHERE id = ?1 RETURNING deploy_branch"
            };
            let text: String = t.query_row(sql, (id.0, branch.as_str()), |r| r.get(0))?;
            read("branch name", &text)
        })
        .await
    }

    /// Declares numbers of instances.
    pub async fn scale(&self, id: AppId, quantities: BTreeMap<ProcessType, u32>) -> Result<()> {
        self.transact(move |t, _| quantities.iter().try_for_each(|(name, count)| set_quantity(t, id, name, *count)))
            .await
    }

    /// Declares that the app is to run, or not.
    pub async fn set_stopped(&self, id: AppId, stopped: bool) -> Result<()> {
        self.transact(move |t, _| {
            t.execute("UPDATE apps SET stopped = ?2 WHERE id = ?1", (id.0, stopped))?;
            Ok(())
        })
        .await
    }

    /// Puts a release on trial as a new generation; an older candidate is given up. `None` when the app is on its way
    /// out.
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
    /// released, and a config release's vars become the app's. Says whether it did.
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
            super::releases::released(t, cipher, id, deployment.release)?;
            Ok(true)
        })
        .await
    }

    /// Gives up a candidate that is not current yet; its release, if never released, counts as failed. Says whether
    /// there was one to give up.
    pub async fn abandon_deployment(&self, id: AppId, deployment: Deployment) -> Result<bool> {
        self.transact(move |t, _| {
            let changed = t.execute(
                "UPDATE apps SET candidate_release = NULL, candidate_generation = NULL
                 WHERE id = ?1 AND candidate_generation = ?2",
                (id.0, deployment.generation),
            )?;
            if changed > 0 {
                super::releases::set_state(t, id, deployment.release, ReleaseState::Candidate, ReleaseState::Failed)?;
            }
            Ok(changed > 0)
        })
        .await
    }

    /// At start: whatever was on trial when the server died was never acknowledged, so it is given up; builds that ran
    /// count as interrupted.
    pub async fn abandon_all_interrupted(&self) -> Result<()> {
        self.transact(|t, _| {
            t.execute("UPDATE apps SET candidate_release = NULL, candidate_generation = NULL", [])?;
            t.execute("UPDATE releases SET state = 'failed' WHERE state = 'candidate'", [])?;
            t.execute(
                "UPDATE builds SET state = 'failed', ended_at = ?1, message = 'interrupted: the server stopped'
                 WHERE state = 'running'",
                [now()],
            )?;
            Ok(())
        })
        .await
    }

    /// Declares that the app is to go: its name stays taken until [`Self::forget_app`].
    pub async fn mark_destroying(&self, id: AppId) -> Result<()> {
        self.transact(move |t, _| {
            t.execute(
                "UPDATE apps SET destroying = 1, candidate_release = NULL, candidate_generation = NULL WHERE id = ?1",
                [id.0],
            )?;
            Ok(())
        })
        .await
    }

    /// Removes the app's last rows, once nothing of it is left elsewhere.
    pub async fn forget_app(&self, id: AppId) -> Result<()> {
        self.transact(move |t, _| {
            t.execute("DELETE FROM apps WHERE id = ?1", [id.0])?;
            Ok(())
        })
        .await
    }
}
