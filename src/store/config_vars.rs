//! Config vars of an app, as declared now. Each release has a copy of its own.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Transaction;

use super::{
    columns::{parse, text},
    database::Store,
    error::Result,
    ids::AppId,
    quotas,
    secrets::Cipher,
};
use crate::model::{ConfigKey, Resource, Secret};

/// Config vars by name.
pub type ConfigVars = BTreeMap<ConfigKey, Secret>;

/// Context of [`Cipher::seal`]: a value moved to another app or name cannot be decrypted.
fn context(app: AppId, name: &str) -> String {
    format!("config_vars/{}/{name}", app.0)
}

/// Size of names and values.
pub(super) fn bytes(vars: &ConfigVars) -> u64 {
    vars.iter().map(|(name, value)| (name.as_str().len() + value.expose().len()) as u64).sum()
}

/// Replaces the app's config vars.
pub(super) fn replace(t: &Transaction<'_>, cipher: &Cipher, app: AppId, vars: &ConfigVars) -> Result<()> {
    t.execute("DELETE FROM config_vars WHERE app = ?1", [app.0])?;
    let mut insert = t.prepare_cached("INSERT INTO config_vars (app, name, value) VALUES (?1, ?2, ?3)")?;
    for (name, value) in vars {
        let sealed = cipher.seal(value.expose(), &context(app, name.as_str()))?;
        insert.execute((app.0, name.as_str(), sealed))?;
    }
    Ok(())
}

impl Store {
    /// Config vars of the app.
    pub async fn config_vars(&self, app: AppId) -> Result<ConfigVars> {
        self.read(move |t, cipher| {
            let mut query = t.prepare_cached("SELECT name, value FROM config_vars WHERE app = ?1")?;
            let vars = query.query_and_then([app.0], |row| {
                let name: String = row.get("name")?;
                let value = cipher.open_sealed(&row.get::<_, Vec<u8>>("value")?, &context(app, &name))?;
                Ok((parse("config var name", &name)?, Secret::new(value)))
            })?;
            vars.collect()
        })
        .await
    }

    /// Names of the config vars that builds of the app also see.
    pub async fn build_vars(&self, app: AppId) -> Result<BTreeSet<ConfigKey>> {
        self.read(move |t, _| {
            let mut query = t.prepare_cached("SELECT name FROM build_vars WHERE app = ?1")?;
            query.query_and_then([app.0], |row| text(row, "name", "config var name"))?.collect()
        })
        .await
    }

    /// Declares whether builds of the app see these config vars.
    pub async fn set_build_vars(&self, app: AppId, names: Vec<ConfigKey>, visible: bool) -> Result<()> {
        let statement = if visible {
            "INSERT INTO build_vars (app, name) VALUES (?1, ?2) ON CONFLICT DO NOTHING"
        } else {
            "DELETE FROM build_vars WHERE app = ?1 AND name = ?2"
        };
        self.transact(move |t, _| {
            let mut change = t.prepare_cached(statement)?;
            names.iter().try_for_each(|name| change.execute((app.0, name.as_str())).map(drop))?;
            Ok(())
        })
        .await
    }

    /// Replaces the app's config vars; refused if they are larger than an app may have.
    pub async fn replace_config_vars(&self, app: AppId, vars: ConfigVars) -> Result<()> {
        let limits = self.limits();
        self.transact(move |t, cipher| {
            quotas::check_bytes(t, &limits, app, Resource::Config, bytes(&vars))?;
            replace(t, cipher, app, &vars)
        })
        .await
    }
}
