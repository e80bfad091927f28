//! Config vars as they are declared now; each release has a copy of its own.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Transaction;

use super::{AppId, Result, Store, read, secrets::Cipher};
use crate::model::{ConfigKey, Secret};

/// Config vars by name.
pub type ConfigVars = BTreeMap<ConfigKey, Secret>;

fn context(app: AppId, name: &str) -> String {
    format!("config_vars/{}/{name}", app.0)
}

pub(super) fn replace(t: &Transaction<'_>, cipher: &Cipher, app: AppId, vars: &ConfigVars) -> Result<()> {
    t.execute("DELETE FROM config_vars WHERE app = ?1", [app.0])?;
    let mut insert = t.prepare_cached("INSERT INTO config_vars VALUES (?1, ?2, ?3)")?;
    for (name, value) in vars {
        let sealed = cipher.seal(value.expose(), &context(app, name.as_str()))?;
        insert.execute((app.0, name.as_str(), sealed))?;
    }
    Ok(())
}

impl Store {
    /// The app's config vars.
    pub async fn config_vars(&self, app: AppId) -> Result<ConfigVars> {
        self.transact(move |t, cipher| {
            let mut query = t.prepare_cached("SELECT name, value FROM config_vars WHERE app = ?1")?;
            let rows = query.query_map([app.0], |r| Ok((r.get::<_, String>(0)?, r.get::<_, Vec<u8>>(1)?)))?;
            rows.map(|row| {
                let (name, sealed) = row?;
                let value = cipher.open_sealed(&sealed, &context(app, &name))?;
                Ok((read("config var name", &name)?, Secret::new(value)))
            })
            .collect()
        })
        .await
    }

    /// The names of config vars that builds of the app see, too.
    pub async fn build_vars(&self, app: AppId) -> Result<BTreeSet<ConfigKey>> {
        self.transact(move |t, _| {
            let mut query = t.prepare_cached("SELECT name FROM build_vars WHERE app = ?1")?;
            let names = query.query_map([app.0], |r| r.get::<_, String>(0))?;
            names.map(|name| read("config var name", &name?)).collect()
        })
        .await
    }

    /// Says whether builds of the app see these config vars.
    pub async fn set_build_vars(&self, app: AppId, names: Vec<ConfigKey>, seen: bool) -> Result<()> {
        let statement = if seen {
            "INSERT INTO build_vars VALUES (?1, ?2) ON CONFLICT DO NOTHING"
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

    /// Replaces the app's config vars.
    pub async fn replace_config_vars(&self, app: AppId, vars: ConfigVars) -> Result<()> {
        self.transact(move |t, cipher| replace(t, cipher, app, &vars)).await
    }
}
