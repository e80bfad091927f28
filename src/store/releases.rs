//! Releases: image, config vars and processes, numbered; only the state of one ever changes.

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{
    AppId, BuildId, ConfigVars, Millis, Result, Store, StoreError, now, read, read_json, secrets::Cipher, to_json,
};
use crate::model::{BranchName, CONTAINER_PORT, CommitId, Digest, HealthCheck, Process, ReleaseNumber};

/// What made a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseKind {
    /// A push.
    Push,
    /// A change of config vars.
    Config,
    /// An older release brought back.
    Rollback,
    /// The deployed commit, built again.
    Rebuild,
    /// The same layers on a newer run image.
    Rebase,
}

impl ReleaseKind {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Config => "config",
            Self::Rollback => "rollback",
            Self::Rebuild => "rebuild",
            Self::Rebase => "rebase",
        }
    }
}

impl std::str::FromStr for ReleaseKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Push, Self::Config, Self::Rollback, Self::Rebuild, Self::Rebase]
            .into_iter()
            .find(|k| k.as_str() == text)
            .ok_or_else(|| text.to_owned())
    }
}

/// How far a release came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseState {
    /// On trial.
    Candidate,
    /// It was healthy and became the current one, then or now.
    Released,
    /// It never became healthy.
    Failed,
}

impl ReleaseState {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Released => "released",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for ReleaseState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Candidate, Self::Released, Self::Failed]
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| text.to_owned())
    }
}

/// A process type of a release.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProcessSpec {
    /// The process as the image declares it.
    pub process: Process,
    /// When an instance of it counts as healthy.
    pub health_check: HealthCheck,
    /// How many instances the app itself asks for, where nobody has scaled it.
    pub default_quantity: u32,
    /// The port that `PORT` names.
    #[serde(default = "usual_port")]
    pub port: u16,
    /// Whether user and stop signal are the image's own, as a Dockerfile says.
    #[serde(default)]
    pub own_user: bool,
}

fn usual_port() -> u16 {
    CONTAINER_PORT
}

/// A release to be made.
#[derive(Debug, Clone)]
pub struct NewRelease {
    /// What makes it.
    pub kind: ReleaseKind,
    /// The manifest of its image.
    pub image: Digest,
    /// The branch that was pushed.
    pub branch: Option<BranchName>,
    /// The commit in it.
    pub commit: Option<CommitId>,
    /// The build that made the image.
    pub build: Option<BuildId>,
    /// Its config vars.
    pub config: ConfigVars,
    /// Its processes.
    pub processes: Vec<ProcessSpec>,
    /// For people.
    pub description: String,
    /// Name of the key.
    pub created_by: String,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Counted from 1 within the app.
    pub number: ReleaseNumber,
    /// What made it.
    pub kind: ReleaseKind,
    /// How far it came.
    pub state: ReleaseState,
    /// The manifest of its image.
    pub image: Digest,
    /// The branch that was pushed.
    pub branch: Option<BranchName>,
    /// The commit in it.
    pub commit: Option<CommitId>,
    /// The build that made the image.
    pub build: Option<BuildId>,
    /// Its config vars.
    pub config: ConfigVars,
    /// Its processes.
    pub processes: Vec<ProcessSpec>,
    /// For people.
    pub description: String,
    /// Name of the key.
    pub created_by: String,
    /// When it was made.
    pub created_at: Millis,
}

/// Where a pushed release's branch belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedRelease {
    /// The release.
    pub number: ReleaseNumber,
    /// The branch that was pushed.
    pub branch: BranchName,
    /// The commit in it.
    pub commit: CommitId,
    /// Whether the branch was set to it.
    pub ref_set: bool,
}

const COLUMNS: &str =
    "number, kind, state, image, branch, commit_id, build, config, processes, description, created_by, created_at";

struct Raw {
    number: u64,
    texts: [String; 3],
    branch: Option<String>,
    commit: Option<String>,
    build: Option<i64>,
    config: Vec<u8>,
    processes: String,
    description: String,
    created_by: String,
    created_at: i64,
}

fn from_row(r: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        number: r.get(0)?,
        texts: [r.get(1)?, r.get(2)?, r.get(3)?],
        branch: r.get(4)?,
        commit: r.get(5)?,
        build: r.get(6)?,
        config: r.get(7)?,
        processes: r.get(8)?,
        description: r.get(9)?,
        created_by: r.get(10)?,
        created_at: r.get(11)?,
    })
}

fn context(app: AppId, number: ReleaseNumber) -> String {
    format!("releases/{}/{number}", app.0)
}

fn release(cipher: &Cipher, app: AppId, raw: Raw) -> Result<Release> {
    let [kind, state, image] = raw.texts;
    Ok(Release {
        number: raw.number,
        kind: read("release kind", &kind)?,
        state: read("release state", &state)?,
        image: read("image", &image)?,
        branch: raw.branch.as_deref().map(|b| read("branch name", b)).transpose()?,
        commit: raw.commit.as_deref().map(|c| read("commit", c)).transpose()?,
        build: raw.build.map(BuildId),
        config: read_json("config", &cipher.open_sealed(&raw.config, &context(app, raw.number))?)?,
        processes: read_json("processes", &raw.processes)?,
        description: raw.description,
        created_by: raw.created_by,
        created_at: raw.created_at,
    })
}

fn one(t: &Transaction<'_>, cipher: &Cipher, app: AppId, number: ReleaseNumber) -> Result<Option<Release>> {
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE app = ?1 AND number = ?2");
    let raw = t.prepare_cached(&sql)?.query_row((app.0, number), from_row).optional()?;
    raw.map(|raw| release(cipher, app, raw)).transpose()
}

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

/// Part of the commit point.
pub(super) fn released(t: &Transaction<'_>, cipher: &Cipher, app: AppId, number: ReleaseNumber) -> Result<()> {
    let Some(release) = one(t, cipher, app, number)? else {
        return Err(StoreError::Corrupt { what: "release", why: format!("v{number} is missing") });
    };
    match (release.kind, release.state) {
        (ReleaseKind::Config | ReleaseKind::Rollback, ReleaseState::Candidate) => {
            super::config_vars::replace(t, cipher, app, &release.config)?;
        }
        (ReleaseKind::Push | ReleaseKind::Rebuild | ReleaseKind::Rebase, _)
        | (_, ReleaseState::Released | ReleaseState::Failed) => {}
    }
    set_state(t, app, number, ReleaseState::Candidate, ReleaseState::Released)
}

impl Store {
    /// Makes a release, on trial.
    pub async fn create_release(&self, app: AppId, new: NewRelease) -> Result<Release> {
        self.transact(move |t, cipher| {
            let number: u64 =
                t.query_row("SELECT coalesce(max(number), 0) + 1 FROM releases WHERE app = ?1", [app.0], |r| r.get(0))?;
            let config = cipher.seal(&to_json("config", &new.config)?, &context(app, number))?;
            t.execute(
                &format!(
                    "INSERT INTO releases (app, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
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
                    to_json("processes", &new.processes)?,
                    &new.description,
                    &new.created_by,
                    now(),
                ),
            )?;
            one(t, cipher, app, number)?
                .ok_or_else(|| StoreError::Corrupt { what: "release", why: "it vanished".to_owned() })
        })
        .await
    }

    /// A release.
    pub async fn release(&self, app: AppId, number: ReleaseNumber) -> Result<Option<Release>> {
        self.transact(move |t, cipher| one(t, cipher, app, number)).await
    }

    /// The app's releases, newest first.
    pub async fn releases(&self, app: AppId, most: u32) -> Result<Vec<Release>> {
        self.transact(move |t, cipher| {
            let sql = format!("SELECT {COLUMNS} FROM releases WHERE app = ?1 ORDER BY number DESC LIMIT ?2");
            let mut query = t.prepare_cached(&sql)?;
            query.query_map((app.0, most), from_row)?.map(|row| release(cipher, app, row?)).collect()
        })
        .await
    }

    /// The newest pushed release, where its branch belongs, and whether the branch was set there.
    pub async fn newest_push(&self, app: AppId) -> Result<Option<PushedRelease>> {
        self.transact(move |t, _| {
            let found: Option<(u64, String, String, bool)> = t
                .query_row(
                    "SELECT number, branch, commit_id, ref_set FROM releases
                     WHERE app = ?1 AND kind = 'push' AND state = 'released' AND branch NOT NULL AND commit_id NOT NULL
                     ORDER BY number DESC LIMIT 1",
                    [app.0],
                    |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)),
                )
                .optional()?;
            found
                .map(|(number, branch, commit, ref_set)| {
                    let (branch, commit) = (read("branch name", &branch)?, read("commit", &commit)?);
                    Ok(PushedRelease { number, branch, commit, ref_set })
                })
                .transpose()
        })
        .await
    }

    /// Notes that a pushed release's branch is set. From then on the branch is its repository's own.
    pub async fn note_ref_set(&self, app: AppId, number: ReleaseNumber) -> Result<()> {
        self.transact(move |t, _| {
            t.execute("UPDATE releases SET ref_set = 1 WHERE app = ?1 AND number = ?2", (app.0, number))?;
            Ok(())
        })
        .await
    }

    /// Gives up a release that was not even put on trial.
    pub async fn give_up_release(&self, app: AppId, number: ReleaseNumber) -> Result<()> {
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

    /// Releases whose images must be kept: each app's current and candidate one and its last `keep` released ones.
    pub async fn releases_in_use(&self, keep: u32) -> Result<Vec<(AppId, ReleaseNumber, Digest)>> {
        self.transact(move |t, _| {
            let mut query = t.prepare_cached(
                "SELECT r.app, r.number, r.image FROM releases r JOIN apps a ON a.id = r.app
                 WHERE r.number IN (a.current_release, a.candidate_release) OR r.state = 'candidate' OR r.number IN (
                    SELECT number FROM releases p WHERE p.app = r.app AND p.state = 'released'
                    ORDER BY number DESC LIMIT ?1)",
            )?;
            let rows = query.query_map([keep], |r| Ok((AppId(r.get(0)?), r.get(1)?, r.get::<_, String>(2)?)))?;
            rows.map(|row| row.map_err(StoreError::from).and_then(|(a, n, image)| Ok((a, n, read("image", &image)?))))
                .collect()
        })
        .await
    }
}
