//! Buildpack packages that were fetched, and the buildpacks that each app has chosen.

use std::time::Duration;

use rusqlite::Transaction;

use super::{
    columns::{optional_text, text},
    database::Store,
    error::Result,
    ids::AppId,
    time::now,
};
use crate::model::{Address, BuildpackSource, Digest};

/// A package of buildpacks that was fetched; its files are stored under its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRow {
    /// Digest of all files of the package.
    pub digest: Digest,
    /// Where the package was fetched from.
    pub source: Address,
    /// Whether every app may use the package's buildpacks by name.
    pub installed: bool,
}

/// A buildpack that an app has chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenBuildpack {
    /// Source as the user wrote it.
    pub source: BuildpackSource,
    /// Package that the source stood for when it was chosen; `None` if the name is looked up at each build.
    pub package: Option<Digest>,
}

fn chosen(t: &Transaction<'_>, app: AppId) -> Result<Vec<ChosenBuildpack>> {
    let mut query = t.prepare_cached("SELECT source, package FROM app_buildpacks WHERE app = ?1 ORDER BY position")?;
    let chosen = query.query_and_then([app.0], |row| {
        Ok(ChosenBuildpack {
            source: text(row, "source", "buildpack")?,
            package: optional_text(row, "package", "digest")?,
        })
    })?;
    chosen.collect()
}

impl Store {
    /// Adds a fetched package. With `installed`, a package that exists already becomes installed.
    pub async fn add_package(&self, digest: Digest, source: String, installed: bool) -> Result<()> {
        self.transact(move |t, _| {
            t.execute(
                "INSERT INTO packages (digest, source, installed, added_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET installed = installed OR excluded.installed,
                    added_at = CASE WHEN excluded.installed OR NOT installed THEN excluded.added_at ELSE added_at END,
                    source = CASE excluded.installed WHEN 1 THEN excluded.source ELSE source END",
                (digest.as_str(), &source, installed, now()),
            )?;
            Ok(())
        })
        .await
    }

    /// Declares that a package is not installed. Its row remains while an app has chosen it.
    pub async fn uninstall_package(&self, digest: Digest) -> Result<()> {
        self.transact(move |t, _| {
            t.execute("UPDATE packages SET installed = 0 WHERE digest = ?1", [digest.as_str()])?;
            Ok(())
        })
        .await
    }

    /// All packages, newest first.
    pub async fn packages(&self) -> Result<Vec<PackageRow>> {
        self.read(|t, _| {
            let mut query =
                t.prepare_cached("SELECT digest, source, installed FROM packages ORDER BY added_at DESC, digest")?;
            let packages = query.query_and_then([], |row| {
                Ok(PackageRow {
                    digest: text(row, "digest", "digest")?,
                    source: Address::new(row.get::<_, String>("source")?),
                    installed: row.get("installed")?,
                })
            })?;
            packages.collect()
        })
        .await
    }

    /// Packages that are neither installed nor chosen by an app, and were fetched longer than `min_age` ago. With `forget`, their
    /// rows are deleted.
    pub async fn unused_packages(&self, min_age: Duration, forget: bool) -> Result<Vec<Digest>> {
        let before = now().saturating_sub(i64::try_from(min_age.as_millis()).unwrap_or(i64::MAX));
        self.transact(move |t, _| {
            const UNUSED: &str = "FROM packages WHERE installed = 0 AND added_at <= ?1
                 AND digest NOT IN (SELECT package FROM app_buildpacks WHERE package NOT NULL)";
            let sql =
                if forget { format!("DELETE {UNUSED} RETURNING digest") } else { format!("SELECT digest {UNUSED}") };
            t.prepare_cached(&sql)?.query_and_then([before], |row| text(row, "digest", "digest"))?.collect()
        })
        .await
    }

    /// Buildpacks that an app has chosen, in order; empty if detection is to choose.
    pub async fn app_buildpacks(&self, app: AppId) -> Result<Vec<ChosenBuildpack>> {
        self.read(move |t, _| chosen(t, app)).await
    }

    /// Replaces an app's buildpacks by what `change` returns. Its error leaves them as they are.
    pub async fn change_app_buildpacks(
        &self,
        app: AppId,
        change: impl FnOnce(Vec<ChosenBuildpack>) -> Result<Vec<ChosenBuildpack>> + Send + 'static,
    ) -> Result<()> {
        self.transact(move |t, _| {
            let after = change(chosen(t, app)?)?;
            t.execute("DELETE FROM app_buildpacks WHERE app = ?1", [app.0])?;
            for (position, ChosenBuildpack { source, package }) in after.iter().enumerate() {
                t.execute(
                    "INSERT INTO app_buildpacks (app, position, source, package) VALUES (?1, ?2, ?3, ?4)",
                    (app.0, position, source.expose(), package.as_ref().map(Digest::as_str)),
                )?;
            }
            Ok(())
        })
        .await
    }
}
