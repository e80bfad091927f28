//! Config vars as they are declared now; each release has a copy of its own.

use std::collections::BTreeMap;

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

    /// Replaces the app's config vars.
    pub async fn replace_config_vars(&self, app: AppId, vars: ConfigVars) -> Result<()> {
        self.transact(move |t, cipher| replace(t, cipher, app, &vars)).await
    }
}
