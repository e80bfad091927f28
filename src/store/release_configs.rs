//! Config vars and service bindings of releases, stored by content: releases of an app that have the same share one row.

use rusqlite::Transaction;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    columns::{parse_json, to_plain_json},
    error::{Result, StoreError},
    ids::AppId,
    secrets::Cipher,
};

/// How the contents of rows begin that a release of an earlier version had for itself; its number follows.
const OF_RELEASE: char = 'v';

/// Context of [`Cipher::seal`]: config vars moved to another app or content cannot be decrypted.
fn context(app: AppId, content: &str) -> String {
    match content.strip_prefix(OF_RELEASE) {
        Some(number) => format!("releases/{}/{number}", app.0),
        None => format!("release_configs/{}/{content}", app.0),
    }
}

/// Stores config vars or bindings, unless the app has a release with the same; returns their content.
pub(super) fn put(t: &Transaction<'_>, cipher: &Cipher, app: AppId, config: &impl Serialize) -> Result<String> {
    let text = to_plain_json("config", config)?;
    let content = cipher.keyed_hash(&text, &format!("release_configs/{}", app.0));
    let sealed = cipher.seal(&text, &context(app, &content))?;
    let sql = "INSERT INTO release_configs (app, content, config) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    t.prepare_cached(sql)?.execute((app.0, &content, sealed))?;
    Ok(content)
}

/// The config vars or bindings with this content.
pub(super) fn get<T: DeserializeOwned>(t: &Transaction<'_>, cipher: &Cipher, app: AppId, content: &str) -> Result<T> {
    let mut query = t.prepare_cached("SELECT config FROM release_configs WHERE app = ?1 AND content = ?2")?;
    let mut found = query.query_map((app.0, content), |row| row.get::<_, Vec<u8>>("config"))?;
    let missing = || StoreError::Corrupt {
        what: "config",
        why: "the config vars or the bindings of a release are missing".to_owned(),
    };
    let sealed = found.next().transpose()?.ok_or_else(missing)?;
    parse_json("config", &cipher.open_sealed(&sealed, &context(app, content))?)
}

/// Removes what no release of any app has.
pub(super) fn remove_unused(t: &Transaction<'_>) -> Result<()> {
    let mut query = t.prepare_cached("SELECT DISTINCT app FROM release_configs")?;
    let apps = query.query_map([], |row| row.get("app").map(AppId))?.collect::<rusqlite::Result<Vec<_>>>()?;
    apps.into_iter().try_for_each(|app| remove_unused_of(t, app))
}

/// Removes what no release of the app has.
pub(super) fn remove_unused_of(t: &Transaction<'_>, app: AppId) -> Result<()> {
    let sql = "DELETE FROM release_configs WHERE app = ?1 AND content NOT IN (
        SELECT config_content FROM releases WHERE app = ?1 UNION SELECT bindings_content FROM releases WHERE app = ?1)";
    t.prepare_cached(sql)?.execute([app.0])?;
    Ok(())
}
