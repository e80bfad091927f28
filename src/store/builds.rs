//! Builds: one row for each build that was started, whether or not it produced an image.

use rusqlite::{Row, Transaction};

use super::{
    columns::{json, optional_text, text, to_json},
    database::Store,
    error::Result,
    ids::{AppId, BuildId},
    secrets::Cipher,
    time::{Millis, now},
};
use crate::model::{CommitId, Digest};

/// State of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BuildState {
    /// The build runs.
    Running,
    /// The build produced an image.
    Succeeded,
    /// The build failed or was interrupted.
    Failed,
}

impl BuildState {
    /// Name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for BuildState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Running, Self::Succeeded, Self::Failed]
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| text.to_owned())
    }
}

/// A buildpack that took part in a build.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UsedBuildpack {
    /// Buildpack id.
    pub id: String,
    /// Buildpack version.
    pub version: String,
    /// Digest of all files of the buildpack; `None` if it was part of the app.
    pub digest: Option<Digest>,
}

/// A build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Identity.
    pub id: BuildId,
    /// Counted from 1 within the app.
    pub number: u64,
    /// Commit that was built.
    pub commit: CommitId,
    /// Name of the user who pushed.
    pub pusher: String,
    /// State.
    pub state: BuildState,
    /// Manifest of the image.
    pub image: Option<Digest>,
    /// Why the build failed.
    pub message: Option<String>,
    /// Buildpacks that built the image, in order.
    pub buildpacks: Vec<UsedBuildpack>,
    /// Stack whose build image was used.
    pub stack: Option<String>,
    /// Time of the start.
    pub started_at: Millis,
    /// Time of the end.
    pub ended_at: Option<Millis>,
}

const COLUMNS: &str = "id, number, commit_id, pusher, state, image, message, started_at, ended_at, \
    buildpacks, stack";

const NO_BUILDPACKS: [UsedBuildpack; 0] = [];

fn build(row: &Row<'_>) -> Result<Build> {
    Ok(Build {
        id: BuildId(row.get("id")?),
        number: row.get("number")?,
        commit: text(row, "commit_id", "commit")?,
        pusher: row.get("pusher")?,
        state: text(row, "state", "build state")?,
        image: optional_text(row, "image", "image")?,
        message: row.get("message")?,
        buildpacks: json(row, "buildpacks", "buildpacks")?,
        stack: row.get("stack")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
    })
}

/// What stands for a build's key in the database: the key is a hash of config vars and bindings, too, of which short ones could be
/// guessed from it.
fn sealed_key(cipher: &Cipher, app: AppId, key: &Digest) -> String {
    cipher.keyed_hash(key.as_str(), &format!("builds/{}", app.0))
}

/// Number of builds of an app that are kept besides those of its releases.
const KEPT: u32 = 1000;

/// Removes rows of old builds that no release has.
pub(super) fn prune(t: &Transaction<'_>) -> Result<()> {
    t.execute(
        "DELETE FROM builds WHERE state != 'running'
         AND NOT EXISTS (SELECT 1 FROM releases r WHERE r.build = builds.id)
         AND id IN (SELECT id FROM (
            SELECT id, row_number() OVER (PARTITION BY app ORDER BY number DESC) AS place FROM builds
         ) WHERE place > ?1)",
        [KEPT],
    )?;
    Ok(())
}

impl Store {
    /// Adds a running build and gives it the app's next number. Builds with the same key, a hash of source and recipe, produce the
    /// same image.
    pub async fn begin_build(
        &self,
        app: AppId,
        commit: CommitId,
        key: Digest,
        pusher: String,
        stack: Option<String>,
    ) -> Result<Build> {
        self.transact(move |t, cipher| {
            t.query_row_and_then(
                &format!(
                    "INSERT INTO builds (app, number, commit_id, key, pusher, state, started_at, stack, buildpacks)
                     VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM builds WHERE app = ?1), ?2, ?3, ?4, 'running',
                             ?5, ?6, ?7)
                     RETURNING {COLUMNS}"
                ),
                (
                    app.0,
                    commit.as_str(),
                    sealed_key(cipher, app, &key),
                    &pusher,
                    now(),
                    &stack,
                    to_json("buildpacks", &NO_BUILDPACKS)?,
                ),
                build,
            )
        })
        .await
    }

    /// Records the end of a build: the image and the buildpacks that built it, or why it failed.
    pub async fn end_build(&self, id: BuildId, outcome: Result<(Digest, Vec<UsedBuildpack>), String>) -> Result<()> {
        self.transact(move |t, _| {
            let (state, image, message, buildpacks) = match &outcome {
                Ok((image, used)) => (BuildState::Succeeded, Some(image.as_str()), None, to_json("buildpacks", used)?),
                Err(message) => {
                    (BuildState::Failed, None, Some(message.as_str()), to_json("buildpacks", &NO_BUILDPACKS)?)
                }
            };
            t.execute(
                "UPDATE builds SET state = ?2, image = ?3, message = ?4, ended_at = ?5, buildpacks = ?6 WHERE id = ?1",
                (id.0, state.as_str(), image, message, now(), buildpacks),
            )?;
            Ok(())
        })
        .await
    }

    /// The app's newest `max` builds, newest first.
    pub async fn builds(&self, app: AppId, max: u32) -> Result<Vec<Build>> {
        self.builds_before(app, None, max).await
    }

    /// The same, of those before a number.
    pub async fn builds_before(&self, app: AppId, before: Option<u64>, max: u32) -> Result<Vec<Build>> {
        self.read(move |t, _| {
            let sql = format!("SELECT {COLUMNS} FROM builds WHERE app = ?1 AND (?2 IS NULL OR number < ?2) ORDER BY number DESC LIMIT ?3");
            t.prepare_cached(&sql)?.query_and_then((app.0, before, max), build)?.collect()
        })
        .await
    }

    /// Image of the app's newest successful build with this key, and the buildpacks that built it.
    pub async fn image_of_key(&self, app: AppId, key: Digest) -> Result<Option<(Digest, Vec<UsedBuildpack>)>> {
        self.read(move |t, cipher| {
            let mut query = t.prepare_cached(
                "SELECT image, buildpacks FROM builds WHERE app = ?1 AND key = ?2 AND state = 'succeeded'
                 ORDER BY number DESC LIMIT 1",
            )?;
            let mut found = query.query_and_then((app.0, sealed_key(cipher, app, &key)), |row| {
                Ok((text(row, "image", "image")?, json(row, "buildpacks", "buildpacks")?))
            })?;
            found.next().transpose()
        })
        .await
    }
}
