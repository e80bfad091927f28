//! Service bindings of an app, as declared now. Each release has a copy of its own.

use rusqlite::Transaction;

use super::{
    columns::{parse, parse_json, to_plain_json},
    database::Store,
    error::Result,
    ids::AppId,
    quotas,
    secrets::Cipher,
};
use crate::model::{Binding, Bindings, Resource};

/// Context of [`Cipher::seal`]: a binding moved to another app or name cannot be decrypted.
fn context(app: AppId, name: &str) -> String {
    format!("bindings/{}/{name}", app.0)
}

/// Size of the names and contents of all files.
pub(super) fn bytes(bindings: &Bindings) -> u64 {
    bindings.values().map(Binding::bytes).sum()
}

/// Replaces the app's bindings.
pub(super) fn replace(t: &Transaction<'_>, cipher: &Cipher, app: AppId, bindings: &Bindings) -> Result<()> {
    t.execute("DELETE FROM bindings WHERE app = ?1", [app.0])?;
    let mut insert = t.prepare_cached("INSERT INTO bindings (app, name, binding, bytes) VALUES (?1, ?2, ?3, ?4)")?;
    for (name, binding) in bindings {
        let text = to_plain_json("binding", binding)?;
        let sealed = cipher.seal(&text, &context(app, name.as_str()))?;
        insert.execute((app.0, name.as_str(), sealed, binding.bytes()))?;
    }
    Ok(())
}

impl Store {
    /// Bindings of the app.
    pub async fn bindings(&self, app: AppId) -> Result<Bindings> {
        self.read(move |t, cipher| {
            let mut query = t.prepare_cached("SELECT name, binding FROM bindings WHERE app = ?1")?;
            let bindings = query.query_and_then([app.0], |row| {
                let name: String = row.get("name")?;
                let text = cipher.open_sealed(&row.get::<_, Vec<u8>>("binding")?, &context(app, &name))?;
                Ok((parse("binding name", &name)?, parse_json("binding", &text)?))
            })?;
            bindings.collect()
        })
        .await
    }

    /// Replaces the app's bindings; refused if they are larger than an app may have.
    pub async fn replace_bindings(&self, app: AppId, bindings: Bindings) -> Result<()> {
        let limits = self.limits();
        self.transact(move |t, cipher| {
            quotas::check_bytes(t, &limits, app, Resource::Bindings, bytes(&bindings))?;
            replace(t, cipher, app, &bindings)
        })
        .await
    }
}
