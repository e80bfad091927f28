//! Stacks and their revisions. An update of a stack adds a revision.

use rusqlite::{Row, Transaction};

use super::{
    columns::{json, text, to_json},
    database::Store,
    error::{Result, taken},
    ids::AppId,
    time::{Millis, now},
};
use crate::model::{Digest, Distribution};

/// Where a stack's images come from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum StackSource {
    /// Bootstrapped from Debian packages by this definition (TOML).
    Packages(String),
    /// Images of a registry or of the engine.
    Images(ImageReferences),
}

/// The images of a stack, as a registry or the engine knows them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageReferences {
    /// Reference of the run image.
    pub run: String,
    /// Reference of the build image.
    pub build: String,
}

/// One state of a stack's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackRevision {
    /// Name of the stack.
    pub stack: String,
    /// Counted from 1.
    pub number: u64,
    /// Manifest of the run image.
    pub run: Digest,
    /// Manifest of the build image.
    pub build: Digest,
    /// Distribution and packages of the run image.
    pub distribution: Distribution,
    /// Time of creation.
    pub created_at: Millis,
}

/// Images that were made from a stack's source.
#[derive(Debug, Clone)]
pub struct StackImages {
    /// Manifest of the run image.
    pub run: Digest,
    /// Manifest of the build image.
    pub build: Digest,
    /// Distribution and packages of the run image.
    pub distribution: Distribution,
}

const COLUMNS: &str = "stack, number, run, build, distribution, created_at";

fn revision(row: &Row<'_>) -> Result<StackRevision> {
    Ok(StackRevision {
        stack: row.get("stack")?,
        number: row.get("number")?,
        run: text(row, "run", "image")?,
        build: text(row, "build", "image")?,
        distribution: json(row, "distribution", "distribution")?,
        created_at: row.get("created_at")?,
    })
}

fn add_revision(t: &Transaction<'_>, stack: &str, images: &StackImages) -> Result<StackRevision> {
    let sql = format!("SELECT {COLUMNS} FROM stack_revisions WHERE stack = ?1 ORDER BY number DESC LIMIT 1");
    let newest = t.prepare_cached(&sql)?.query_and_then([stack], revision)?.next().transpose()?;
    if let Some(newest) = &newest
        && newest.run == images.run
        && newest.build == images.build
    {
        return Ok(newest.clone());
    }
    let sql = format!("INSERT INTO stack_revisions ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING {COLUMNS}");
    let number = newest.map_or(1, |newest| newest.number + 1);
    let distribution = to_json("distribution", &images.distribution)?;
    let values = (stack, number, images.run.as_str(), images.build.as_str(), distribution, now());
    t.query_row_and_then(&sql, values, revision)
}

impl Store {
    /// Adds a stack with its first revision. With `replace`, an existing stack gets this source, and the images as a
    /// revision.
    pub async fn put_stack(
        &self,
        name: String,
        source: StackSource,
        replace: bool,
        images: StackImages,
    ) -> Result<StackRevision> {
        self.transact(move |t, _| {
            let clause = if replace { "ON CONFLICT DO UPDATE SET source = excluded.source" } else { "" };
            t.execute(
                &format!("INSERT INTO stacks (name, source, created_at) VALUES (?1, ?2, ?3) {clause}"),
                (&name, to_json("stack", &source)?, now()),
            )
            .map_err(taken(|| format!("there is a stack {name} already; stacks:update {name} updates it")))?;
            add_revision(t, &name, &images)
        })
        .await
    }

    /// Names and sources of all stacks, by name.
    pub async fn stacks(&self) -> Result<Vec<(String, StackSource)>> {
        self.read(|t, _| {
            let mut query = t.prepare_cached("SELECT name, source FROM stacks ORDER BY name")?;
            query.query_and_then([], |row| Ok((row.get("name")?, json(row, "source", "stack")?)))?.collect()
        })
        .await
    }

    /// Removes a stack and its revisions, unless an app has chosen it. Returns whether the stack was removed.
    pub async fn remove_stack(&self, name: String) -> Result<bool> {
        self.transact(move |t, _| {
            let removed = t.execute(
                "DELETE FROM stacks WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM apps WHERE stack = ?1)",
                [&name],
            )?;
            Ok(removed > 0)
        })
        .await
    }

    /// Adds a revision of a stack unless its newest one has the same images. Returns the newest.
    pub async fn add_stack_revision(&self, stack: String, images: StackImages) -> Result<StackRevision> {
        self.transact(move |t, _| add_revision(t, &stack, &images)).await
    }

    /// Revisions of one stack, or of all, newest first.
    pub async fn stack_revisions(&self, stack: Option<String>) -> Result<Vec<StackRevision>> {
        self.read(move |t, _| {
            let sql = format!(
                "SELECT {COLUMNS} FROM stack_revisions WHERE ?1 IS NULL OR stack = ?1 ORDER BY stack, number DESC"
            );
            t.prepare_cached(&sql)?.query_and_then([&stack], revision)?.collect()
        })
        .await
    }

    /// Sets the stack of an app; `None` for the default one. Returns `false` if there is no such stack.
    pub async fn set_app_stack(&self, app: AppId, stack: Option<String>) -> Result<bool> {
        self.transact(move |t, _| {
            let sql = "UPDATE apps SET stack = ?2
                 WHERE id = ?1 AND (?2 IS NULL OR EXISTS (SELECT 1 FROM stacks WHERE name = ?2))";
            Ok(t.execute(sql, (app.0, &stack))? > 0)
        })
        .await
    }
}
