//! Buildpacks that are installed on the server, and those that an app chooses.

use rusqlite::Transaction;

use super::{AppId, Result, Store, StoreError, now, read};
use crate::model::{BuildpackSource, Digest};

/// A package of buildpacks that was fetched; its files are kept by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRow {
    /// Of all its files.
    pub digest: Digest,
    /// Where it came from.
    pub source: String,
    /// Whether every app may name its buildpacks.
    pub installed: bool,
}

/// A buildpack that an app is to be built with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenBuildpack {
    /// As it was named.
    pub source: BuildpackSource,
    /// The package that this meant when it was chosen; none if it is looked up by name at each build.
    pub package: Option<Digest>,
}

fn chosen(t: &Transaction<'_>, app: AppId) -> Result<Vec<ChosenBuildpack>> {
    let mut query = t.prepare_cached("SELECT source, package FROM app_buildpacks WHERE app = ?1 ORDER BY position")?;
    let rows = query.query_map([app.0], |r| Ok((r.get::<_, String>(0)?, r.get::<_, Option<String>>(1)?)))?;
    rows.map(|row| {
        let (source, package) = row?;
        let package = package.as_deref().map(|digest| read("digest", digest)).transpose()?;
        Ok(ChosenBuildpack { source: read("buildpack", &source)?, package })
    })
    .collect()
}

impl Store {
    /// Notes a fetched package, or that it is installed now.
    pub async fn add_package(&self, digest: Digest, source: String, installed: bool) -> Result<()> {
        self.transact(move |t, _| {
            t.execute(
                "INSERT INTO packages (digest, source, installed, added_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET installed = installed OR excluded.installed,
                    added_at = CASE excluded.installed WHEN 1 THEN excluded.added_at ELSE added_at END,
                    source = CASE excluded.installed WHEN 1 THEN excluded.source ELSE source END",
                (digest.as_str(), &source, installed, now()),
            )?;
            Ok(())
        })
        .await
    }

    /// Says that a package is no longer installed; it stays while an app has chosen it.
    pub async fn uninstall_package(&self, digest: Digest) -> Result<()> {
        self.transact(move |t, _| {
            t.execute("UPDATE packages SET installed = 0 WHERE digest = ?1", [digest.as_str()])?;
            Ok(())
        })
        .await
    }

    /// All packages, those added last first.
    pub async fn packages(&self) -> Result<Vec<PackageRow>> {
        self.transact(|t, _| {
            let mut query =
                t.prepare_cached("SELECT digest, source, installed FROM packages ORDER BY added_at DESC, digest")?;
            let rows = query.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get(1)?, r.get(2)?)))?;
            rows.map(|row| {
                let (digest, source, installed) = row?;
                Ok(PackageRow { digest: read("digest", &digest)?, source, installed })
            })
            .collect()
        })
        .await
    }

    /// Forgets packages that are neither installed nor chosen by an app; what they were.
    pub async fn forget_unused_packages(&self) -> Result<Vec<Digest>> {
        self.transact(|t, _| {
            let mut query = t.prepare_cached(
                "DELETE FROM packages WHERE installed = 0
                 AND digest NOT IN (SELECT package FROM app_buildpacks WHERE package NOT NULL) RETURNING digest",
            )?;
            let rows = query.query_map([], |r| r.get::<_, String>(0))?;
            rows.map(|row| read("digest", &row?)).collect()
        })
        .await
    }

    /// The buildpacks that an app has chosen, in order; none to leave it to detection.
    pub async fn app_buildpacks(&self, app: AppId) -> Result<Vec<ChosenBuildpack>> {
        self.transact(move |t, _| chosen(t, app)).await
    }

    /// Changes an app's buildpacks to what `change` makes of them, or refuses with its words.
    pub async fn change_app_buildpacks(
        &self,
        app: AppId,
        change: impl FnOnce(Vec<ChosenBuildpack>) -> Result<Vec<ChosenBuildpack>, String> + Send + 'static,
    ) -> Result<()> {
        self.transact(move |t, _| {
            let after = change(chosen(t, app)?).map_err(StoreError::NotFound)?;
            t.execute("DELETE FROM app_buildpacks WHERE app = ?1", [app.0])?;
            for (position, ChosenBuildpack { source, package }) in after.iter().enumerate() {
                t.execute(
                    "INSERT INTO app_buildpacks (app, position, source, package) VALUES (?1, ?2, ?3, ?4)",
                    (app.0, position, source.to_string(), package.as_ref().map(Digest::as_str)),
                )?;
            }
            Ok(())
        })
        .await
    }
}
