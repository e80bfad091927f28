//! Builds: one row for each time that a commit was turned into an image, or should have been.

use rusqlite::{OptionalExtension as _, Row};

use super::{AppId, Millis, Result, Store, now, read, read_json, to_json};
use crate::model::{CommitId, Digest};

/// Identity of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildId(pub i64);

/// How far a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildState {
    /// Under way.
    Running,
    /// An image came out.
    Succeeded,
    /// None did.
    Failed,
}

impl BuildState {
    /// As it is stored and shown.
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
pub struct Ran {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Of all its files; none if it was part of the app.
    pub digest: Option<Digest>,
}

/// A build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Identity.
    pub id: BuildId,
    /// Counted from 1 within the app.
    pub number: u64,
    /// What was built.
    pub commit: CommitId,
    /// Everything that decides the result, hashed: the same key gives the same image.
    pub key: Digest,
    /// The name of the key that pushed.
    pub pusher: String,
    /// How far it is.
    pub state: BuildState,
    /// The manifest of its image.
    pub image: Option<Digest>,
    /// Why it failed.
    pub message: Option<String>,
    /// The buildpacks that made the image, in order.
    pub buildpacks: Vec<Ran>,
    /// The stack that it was built in.
    pub stack: Option<String>,
    /// When it began.
    pub started_at: Millis,
    /// When it ended.
    pub ended_at: Option<Millis>,
}

const COLUMNS: &str = "id, number, commit_id, key, pusher, state, image, message, started_at, ended_at, \
    buildpacks, stack";

type Raw = (i64, u64, [String; 4], Option<String>, Option<String>, i64, Option<i64>, String, Option<String>);

fn from_row(r: &Row<'_>) -> rusqlite::Result<Raw> {
    let texts = [r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?];
    Ok((r.get(0)?, r.get(1)?, texts, r.get(6)?, r.get(7)?, r.get(8)?, r.get(9)?, r.get(10)?, r.get(11)?))
}

fn build((id, number, texts, image, message, started_at, ended_at, buildpacks, stack): Raw) -> Result<Build> {
    let [commit, key, pusher, state] = texts;
    Ok(Build {
        id: BuildId(id),
        number,
        commit: read("commit", &commit)?,
        key: read("build key", &key)?,
        pusher,
        state: read("build state", &state)?,
        image: image.as_deref().map(|i| read("image", i)).transpose()?,
        message,
        started_at,
        ended_at,
        buildpacks: read_json("buildpacks", &buildpacks)?,
        stack,
    })
}

impl Store {
    /// A build begins; returns it with its number.
    pub async fn begin_build(
        &self,
        app: AppId,
        commit: CommitId,
        key: Digest,
        pusher: String,
        stack: Option<String>,
    ) -> Result<Build> {
        self.transact(move |t, _| {
            let raw = t.query_row(
                &format!(
                    "INSERT INTO builds (app, number, commit_id, key, pusher, state, started_at, stack)
                     VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM builds WHERE app = ?1), ?2, ?3, ?4, 'running',
                             ?5, ?6)
                     RETURNING {COLUMNS}"
                ),
                (app.0, commit.as_str(), key.as_str(), &pusher, now(), &stack),
                from_row,
            )?;
            build(raw)
        })
        .await
    }

    /// A build ended, with an image and what made it, or with the reason why there is none.
    pub async fn end_build(&self, id: BuildId, outcome: Result<(Digest, Vec<Ran>), String>) -> Result<()> {
        self.transact(move |t, _| {
            let (state, image, message, buildpacks) = match &outcome {
                Ok((image, ran)) => (BuildState::Succeeded, Some(image.as_str()), None, to_json("buildpacks", ran)?),
                Err(message) => (BuildState::Failed, None, Some(message.as_str()), "[]".to_owned()),
            };
            t.execute(
                "UPDATE builds SET state = ?2, image = ?3, message = ?4, ended_at = ?5, buildpacks = ?6 WHERE id = ?1",
                (id.0, state.as_str(), image, message, now(), buildpacks),
            )?;
            Ok(())
        })
        .await
    }

    /// The app's builds, newest first.
    pub async fn builds(&self, app: AppId, most: u32) -> Result<Vec<Build>> {
        self.transact(move |t, _| {
            let sql = format!("SELECT {COLUMNS} FROM builds WHERE app = ?1 ORDER BY number DESC LIMIT ?2");
            t.prepare_cached(&sql)?.query_map((app.0, most), from_row)?.map(|row| build(row?)).collect()
        })
        .await
    }

    /// The image that this key gave when it was built for this app last, and what made it.
    pub async fn image_of_key(&self, app: AppId, key: Digest) -> Result<Option<(Digest, Vec<Ran>)>> {
        self.transact(move |t, _| {
            let found: Option<(String, String)> = t
                .query_row(
                    "SELECT image, buildpacks FROM builds WHERE app = ?1 AND key = ?2 AND state = 'succeeded'
                     ORDER BY number DESC LIMIT 1",
                    (app.0, key.as_str()),
                    |r| Ok((r.get(0)?, r.get(1)?)),
                )
                .optional()?;
            found.map(|(image, ran)| Ok((read("image", &image)?, read_json("buildpacks", &ran)?))).transpose()
        })
        .await
    }
}
