//! Apps and their formation.

use std::{collections::BTreeMap, time::Duration};

use rusqlite::{Row, Transaction};

use super::{
    columns::{json, optional_text, parse, text, to_json},
    database::Store,
    deployments::Deployment,
    ending,
    error::{Result, StoreError, taken},
    formation,
    ids::{AppId, UserId},
    members, ports, quotas,
    time::{Millis, now},
    volumes::{self, Mount},
};
use crate::model::{
    AppName, BranchName, CheckSettings, DockerfilePath, ProcessType, ReleaseNumber, Resource, Role, SourceFolder,
    StageName, StopTimeout,
};

/// An app, as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Identity.
    pub id: AppId,
    /// Unique name.
    pub name: AppName,
    /// Branch whose pushes are deployed; the first one pushed.
    pub deploy_branch: Option<BranchName>,
    /// Chosen stack; `None` for the default one.
    pub stack: Option<String>,
    /// Folder of the repository that is built; `None` for all of it.
    pub source_folder: Option<SourceFolder>,
    /// Path of the Dockerfile in the folder that is built; `None` for `Dockerfile`, if there is one.
    pub dockerfile: Option<DockerfilePath>,
    /// Stage of the Dockerfile that is built; `None` for the last one.
    pub build_target: Option<StageName>,
    /// Time of creation.
    pub created_at: Millis,
    /// Whether the app is stopped (`ps:stop`).
    pub stopped: bool,
    /// Whether the app is being destroyed.
    pub destroying: bool,
    /// Current deployment.
    pub current: Option<Deployment>,
    /// Deployment that becomes current when its instances are healthy.
    pub candidate: Option<Deployment>,
    /// The only process type that the candidate restarts; `None` for all.
    pub candidate_process_type: Option<ProcessType>,
    /// Quantity of instances of each process type that was scaled; for others, the release's default applies.
    pub formation: BTreeMap<ProcessType, u32>,
    /// Settings of its health checks.
    pub checks: CheckSettings,
    /// Grace periods of process types; for others, that of the configuration applies.
    pub stop_timeouts: BTreeMap<ProcessType, StopTimeout>,
    /// What is mounted into its containers, in the order in which it is mounted.
    pub mounts: Vec<Mount>,
}

impl App {
    /// Grace period of the instances and tasks of a process type.
    pub fn stop_grace(&self, process_type: &ProcessType, default: Duration) -> Duration {
        self.stop_timeouts.get(process_type).map_or(default, |timeout| Duration::from_secs(timeout.seconds().into()))
    }

    /// The longest grace period that an instance or task of the app may have.
    pub fn longest_stop_grace(&self, default: Duration) -> Duration {
        self.stop_timeouts
            .keys()
            .map(|process_type| self.stop_grace(process_type, default))
            .fold(default, Duration::max)
    }

    /// Whether any of its instances may write to a volume, or a folder of the machine.
    pub fn writes(&self) -> bool {
        self.mounts.iter().any(|mount| !mount.read_only)
    }

    /// What is mounted into the instances of a process type.
    pub fn mounts_of(&self, process_type: &ProcessType) -> impl Iterator<Item = &Mount> {
        self.mounts.iter().filter(move |mount| mount.is_for(process_type))
    }
}

const COLUMNS: &str = "id, name, deploy_branch, created_at, stopped, destroying, \
    current_release, current_generation, candidate_release, candidate_generation, candidate_process_type, stack, source_folder, \
    dockerfile, build_target, checks";

fn app(t: &Transaction<'_>, row: &Row<'_>) -> Result<App> {
    let id = AppId(row.get("id")?);
    let deployment = |release: Option<ReleaseNumber>, generation: Option<u64>| {
        release.zip(generation).map(|(release, generation)| Deployment { release, generation })
    };
    Ok(App {
        id,
        name: text(row, "name", "app name")?,
        deploy_branch: optional_text(row, "deploy_branch", "branch name")?,
        stack: row.get("stack")?,
        source_folder: optional_text(row, "source_folder", "folder")?,
        dockerfile: optional_text(row, "dockerfile", "path of a Dockerfile")?,
        build_target: optional_text(row, "build_target", "stage of a Dockerfile")?,
        created_at: row.get("created_at")?,
        stopped: row.get("stopped")?,
        destroying: row.get("destroying")?,
        current: deployment(row.get("current_release")?, row.get("current_generation")?),
        candidate: deployment(row.get("candidate_release")?, row.get("candidate_generation")?),
        candidate_process_type: optional_text(row, "candidate_process_type", "process type")?,
        formation: formation::of_app(t, id)?,
        checks: json(row, "checks", "settings of health checks")?,
        stop_timeouts: stop_timeouts(t, id)?,
        mounts: volumes::mounts(t, id)?,
    })
}

fn stop_timeouts(t: &Transaction<'_>, app: AppId) -> Result<BTreeMap<ProcessType, StopTimeout>> {
    let mut query = t.prepare_cached("SELECT process_type, seconds FROM stop_timeouts WHERE app = ?1")?;
    let rows = query.query_and_then([app.0], |row| {
        let seconds: u32 = row.get("seconds")?;
        let timeout = seconds.try_into().map_err(|why| StoreError::Corrupt { what: "stop timeout", why })?;
        Ok((text(row, "process_type", "process type")?, timeout))
    })?;
    rows.collect()
}

/// All apps, by name.
pub(super) fn all(t: &Transaction<'_>) -> Result<Vec<App>> {
    let mut query = t.prepare_cached(&format!("SELECT {COLUMNS} FROM apps ORDER BY name"))?;
    query.query_and_then([], |row| app(t, row))?.collect()
}

fn no_such_app(name: &AppName) -> StoreError {
    StoreError::NotFound(format!("there is no app named {name}; apps:list shows all, apps:create {name} creates it"))
}

impl Store {
    /// Creates an app and gives it a port of the range that belongs to no other app and is not in `avoid`. Without an
    /// owner, the app belongs to the admins.
    ///
    /// # Errors
    ///
    /// Among others, if the owner may have no more apps or ports.
    pub async fn create_app(
        &self,
        name: AppName,
        owner: Option<UserId>,
        ports: std::ops::RangeInclusive<u16>,
        avoid: Vec<u16>,
    ) -> Result<App> {
        let limits = self.limits();
        self.transact(move |t, _| {
            let create = || {
                t.execute("INSERT INTO apps (name, created_at) VALUES (?1, ?2)", (name.as_str(), now())).map_err(
                    taken(|| {
                        format!("the name {name} is taken by an app; choose another, or wait if it is being destroyed")
                    }),
                )?;
                let id = AppId(t.last_insert_rowid());
                if let Some(owner) = owner {
                    members::set(t, id, owner, Role::Owner)?;
                }
                ports::allocate(t, id, ports, &avoid, limits.port_rest)?;
                Ok(id)
            };
            let id = quotas::within_owner(t, &limits, owner, None, &[Resource::Apps, Resource::Ports], create)?;
            t.query_row_and_then(&format!("SELECT {COLUMNS} FROM apps WHERE id = ?1"), [id.0], |row| app(t, row))
        })
        .await
    }

    /// Sets the folder of the app's repository that is built.
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

    /// Sets the path of the Dockerfile that is built.
    pub async fn set_dockerfile(&self, app: AppId, path: Option<DockerfilePath>) -> Result<()> {
        self.transact(move |t, _| {
            t.execute(
                "UPDATE apps SET dockerfile = ?2 WHERE id = ?1",
                (app.0, path.as_ref().map(DockerfilePath::as_str)),
            )?;
            Ok(())
        })
        .await
    }

    /// Sets the stage of the Dockerfile that is built.
    pub async fn set_build_target(&self, app: AppId, stage: Option<StageName>) -> Result<()> {
        self.transact(move |t, _| {
            t.execute(
                "UPDATE apps SET build_target = ?2 WHERE id = ?1",
                (app.0, stage.as_ref().map(StageName::as_str)),
            )?;
            Ok(())
        })
        .await
    }

    /// All apps, by name, including those that are being destroyed.
    pub async fn apps(&self) -> Result<Vec<App>> {
        self.read(|t, _| all(t)).await
    }

    /// The names of those of these apps that exist.
    pub async fn app_names(&self, apps: Vec<AppId>) -> Result<Vec<AppName>> {
        self.read(move |t, _| {
            let mut query = t.prepare_cached("SELECT name FROM apps WHERE id = ?1")?;
            let mut names = Vec::new();
            for app in apps {
                names.extend(query.query_and_then([app.0], |row| text(row, "name", "app name"))?.next().transpose()?);
            }
            Ok(names)
        })
        .await
    }

    /// The app of this name, unless it is being destroyed.
    pub async fn find_app(&self, name: AppName) -> Result<Option<App>> {
        self.read(move |t, _| {
            let mut query =
                t.prepare_cached(&format!("SELECT {COLUMNS} FROM apps WHERE name = ?1 AND NOT destroying"))?;
            query.query_and_then([name.as_str()], |row| app(t, row))?.next().transpose()
        })
        .await
    }

    /// The app of this name, or [`StoreError::NotFound`].
    pub async fn app_named(&self, name: AppName) -> Result<App> {
        self.find_app(name.clone()).await?.ok_or_else(|| no_such_app(&name))
    }

    /// The app with this identity; `None` once it is destroyed.
    pub async fn app(&self, id: AppId) -> Result<Option<App>> {
        self.read(move |t, _| {
            let mut query = t.prepare_cached(&format!("SELECT {COLUMNS} FROM apps WHERE id = ?1"))?;
            query.query_and_then([id.0], |row| app(t, row))?.next().transpose()
        })
        .await
    }

    /// Sets the deploy branch; with `only_first`, only when there is none yet. Returns the resulting deploy branch.
    pub async fn set_deploy_branch(&self, id: AppId, branch: BranchName, only_first: bool) -> Result<BranchName> {
        self.transact(move |t, _| {
            let sql = if only_first {
                "UPDATE apps SET deploy_branch = coalesce(deploy_branch, ?2) WHERE id = ?1 RETURNING deploy_branch"
            } else {
                "UPDATE apps SET deploy_branch = ?2 WHERE id = ?1 RETURNING deploy_branch"
            };
            let text: String = t.query_row(sql, (id.0, branch.as_str()), |row| row.get("deploy_branch"))?;
            parse("branch name", &text)
        })
        .await
    }

    /// Declares quantities of instances; refused if the owner may not have so many, or if there are to be more while too many are
    /// ending.
    pub async fn scale(&self, id: AppId, quantities: BTreeMap<ProcessType, u32>) -> Result<BTreeMap<ProcessType, u32>> {
        let limits = self.limits();
        self.transact(move |t, _| {
            let present = formation::of_app(t, id)?;
            if quantities.iter().any(|(name, count)| *count > present.get(name).copied().unwrap_or(0)) {
                ending::refuse_too_many_if_started(t, &limits, id)?;
            }
            quotas::within(t, &limits, id, &quotas::INSTANCES, || {
                quantities.iter().try_for_each(|(name, count)| formation::set_quantity(t, id, name, *count))
            })?;
            Ok(present)
        })
        .await
    }

    /// Changes the settings of the app's health checks. Returns them.
    pub async fn change_checks(
        &self,
        id: AppId,
        change: impl FnOnce(&mut CheckSettings) + Send + 'static,
    ) -> Result<CheckSettings> {
        self.transact(move |t, _| {
            let mut settings: CheckSettings =
                t.query_row_and_then("SELECT checks FROM apps WHERE id = ?1", [id.0], |row| {
                    json(row, "checks", "settings of health checks")
                })?;
            change(&mut settings);
            let text = to_json("settings of health checks", &settings)?;
            t.execute("UPDATE apps SET checks = ?2 WHERE id = ?1", (id.0, text))?;
            Ok(settings)
        })
        .await
    }

    /// Sets the grace periods of process types; those without one have that of the configuration again.
    pub async fn set_stop_timeouts(
        &self,
        id: AppId,
        timeouts: BTreeMap<ProcessType, Option<StopTimeout>>,
    ) -> Result<()> {
        self.transact(move |t, _| {
            for (process_type, timeout) in &timeouts {
                match timeout {
                    Some(timeout) => t.execute(
                        "INSERT INTO stop_timeouts (app, process_type, seconds) VALUES (?1, ?2, ?3)
                         ON CONFLICT DO UPDATE SET seconds = excluded.seconds",
                        (id.0, process_type.as_str(), timeout.seconds()),
                    )?,
                    None => t.execute(
                        "DELETE FROM stop_timeouts WHERE app = ?1 AND process_type = ?2",
                        (id.0, process_type.as_str()),
                    )?,
                };
            }
            Ok(())
        })
        .await
    }

    /// Declares whether the app is stopped; refused if it is started and the owner may not have its instances.
    pub async fn set_stopped(&self, id: AppId, stopped: bool) -> Result<()> {
        let limits = self.limits();
        self.transact(move |t, _| {
            if !stopped {
                ending::refuse_too_many(t, &limits, id)?;
            }
            quotas::within(t, &limits, id, &quotas::INSTANCES, || {
                t.execute("UPDATE apps SET stopped = ?2 WHERE id = ?1", (id.0, stopped))?;
                Ok(())
            })
        })
        .await
    }

    /// Declares that the app is to be destroyed. Its name stays taken until [`Self::forget_app`].
    pub async fn mark_destroying(&self, id: AppId) -> Result<()> {
        self.transact(move |t, _| {
            t.execute(
                "UPDATE apps SET destroying = 1, candidate_release = NULL, candidate_generation = NULL,
                        candidate_process_type = NULL
                 WHERE id = ?1",
                [id.0],
            )?;
            Ok(())
        })
        .await
    }

    /// Deletes the app's last rows. Call it only when the app has no instances, repository or disk any more.
    pub async fn forget_app(&self, id: AppId) -> Result<()> {
        self.transact(move |t, _| {
            // While it still has an owner, for whom they were.
            t.execute("DELETE FROM ports WHERE app = ?1", [id.0])?;
            t.execute("DELETE FROM apps WHERE id = ?1", [id.0])?;
            Ok(())
        })
        .await
    }
}
