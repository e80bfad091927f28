//! Stacks, and their revisions: what each update made of them.

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{AppId, Millis, Result, Store, now, read, read_json, taken, to_json};
use crate::model::{Digest, Distribution};

/// Where a stack's images come from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StackSource {
    /// They are bootstrapped from Debian's packages, by this definition (TOML).
    Packages(String),
    /// They are images of a registry, or of the engine.
    Images {
        /// What apps run on.
        run: String,
        /// What they are built in.
        build: String,
    },
}

/// A stack as it was at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackRevision {
    /// Of which stack.
    pub stack: String,
    /// Counted from 1.
    pub number: u64,
    /// The manifest of what apps run on.
    pub run: Digest,
    /// The manifest of what they are built in.
    pub build: Digest,
    /// What is in the image that apps run on.
    pub distribution: Distribution,
    /// When it was made.
    pub created_at: Millis,
}

/// What a stack's source gives.
#[derive(Debug, Clone)]
pub struct MadeStack {
    /// The manifest of what apps run on.
    pub run: Digest,
    /// The manifest of what they are built in.
    pub build: Digest,
    /// What is in the image that apps run on.
    pub distribution: Distribution,
}

const COLUMNS: &str = "stack, number, run, build, distribution, created_at";

type Raw = (String, u64, String, String, String, i64);

fn from_row(r: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?))
}

fn revision((stack, number, run, build, distribution, created_at): Raw) -> Result<StackRevision> {
    let distribution = read_json("distribution", &distribution)?;
    Ok(StackRevision {
        stack,
        number,
        run: read("image", &run)?,
        build: read("image", &build)?,
        distribution,
        created_at,
    })
}

fn add_revision(t: &Transaction<'_>, stack: &str, made: &MadeStack) -> Result<StackRevision> {
    let sql = format!("SELECT {COLUMNS} FROM stack_revisions WHERE stack = ?1 ORDER BY number DESC LIMIT 1");
    let newest = t.query_row(&sql, [stack], from_row).optional()?.map(revision).transpose()?;
    if let Some(newest) = &newest
        && newest.run == made.run
        && newest.build == made.build
    {
        return Ok(newest.clone());
    }
    let sql = format!("INSERT INTO stack_revisions ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING {COLUMNS}");
    let number = newest.map_or(1, |newest| newest.number + 1);
    let distribution = to_json("distribution", &made.distribution)?;
    let values = (stack, number, made.run.as_str(), made.build.as_str(), distribution, now());
    revision(t.query_row(&sql, values, from_row)?)
}

impl Store {
    /// Notes where a stack comes from, and what was made of it; `replace` allows that it is there already.
    pub async fn put_stack(
        &self,
        name: String,
        source: StackSource,
        replace: bool,
        made: MadeStack,
    ) -> Result<StackRevision> {
        self.transact(move |t, _| {
            let clause = if replace { "ON CONFLICT DO UPDATE SET source = excluded.source" } else { "" };
            t.execute(
                &format!("INSERT INTO stacks (name, source, created_at) VALUES (?1, ?2, ?3) {clause}"),
                (&name, to_json("stack", &source)?, now()),
            )
            .map_err(taken(|| format!("there is a stack {name} already; stacks:update {name} updates it")))?;
            add_revision(t, &name, &made)
        })
        .await
    }

    /// All stacks by name, with where they come from.
    pub async fn stacks(&self) -> Result<Vec<(String, StackSource)>> {
        self.transact(|t, _| {
            let mut query = t.prepare_cached("SELECT name, source FROM stacks ORDER BY name")?;
            let rows = query.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?)))?;
            rows.map(|row| {
                let (name, source) = row?;
                Ok((name, read_json("stack", &source)?))
            })
            .collect()
        })
        .await
    }

    /// Removes a stack that no app has chosen, with its revisions; says whether it was there and free.
    pub async fn remove_stack(&self, name: String) -> Result<bool> {
        self.transact(move |t, _| {
            let gone = t.execute(
                "DELETE FROM stacks WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM apps WHERE stack = ?1)",
                [&name],
            )?;
            Ok(gone > 0)
        })
        .await
    }

    /// Notes a new revision of a stack, unless its newest has the same images; returns the newest.
    pub async fn add_stack_revision(&self, stack: String, made: MadeStack) -> Result<StackRevision> {
        self.transact(move |t, _| add_revision(t, &stack, &made)).await
    }

    /// The revisions of all stacks, or of one, newest first.
    pub async fn stack_revisions(&self, stack: Option<String>) -> Result<Vec<StackRevision>> {
        self.transact(move |t, _| {
            let sql = format!(
                "SELECT {COLUMNS} FROM stack_revisions WHERE ?1 IS NULL OR stack = ?1 ORDER BY stack, number DESC"
            );
            t.prepare_cached(&sql)?.query_map([&stack], from_row)?.map(|row| revision(row?)).collect()
        })
        .await
    }

    /// Chooses the stack of an app; the default one without a name.
    pub async fn set_app_stack(&self, app: AppId, stack: Option<String>) -> Result<bool> {
        self.transact(move |t, _| {
            let sql = "UPDATE apps SET stack = ?2
                 WHERE id = ?1 AND (?2 IS NULL OR EXISTS (SELECT 1 FROM stacks WHERE name = ?2))";
            Ok(t.execute(sql, (app.0, &stack))? > 0)
        })
        .await
    }
}
