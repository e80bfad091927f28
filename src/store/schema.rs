//! The schema and its migrations. Each migration is applied once, in order, in a transaction of its own.

use rusqlite::{Connection, Transaction};

use super::error::{Result, StoreError};

/// The migrations, in order; one that was released is never changed. A new one comes with a dump of a database of the
/// version before it, in `migrations/tests`.
pub(super) const MIGRATIONS: [&str; 13] = [
    include_str!("migrations/0001_first.sql"),
    include_str!("migrations/0002_buildpacks_and_stacks.sql"),
    include_str!("migrations/0003_source_folder_and_build_vars.sql"),
    include_str!("migrations/0004_people.sql"),
    include_str!("migrations/0005_workloads.sql"),
    include_str!("migrations/0006_checks_and_endings.sql"),
    include_str!("migrations/0007_dockerfiles_networks_links.sql"),
    include_str!("migrations/0008_budgets.sql"),
    include_str!("migrations/0009_volumes_quota.sql"),
    include_str!("migrations/0010_bindings.sql"),
    include_str!("migrations/0011_keyed_build_keys.sql"),
    include_str!("migrations/0012_tokens_and_requests.sql"),
    include_str!("migrations/0013_webhooks.sql"),
];

/// Applies the migrations that the database lacks; its `user_version` counts those it has. Foreign keys are enforced
/// afterwards.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get("user_version"))?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    // A table that others refer to can only be rebuilt while foreign keys are not enforced, and they cannot be switched
    // off inside a transaction (https://www.sqlite.org/lang_altertable.html, section 7).
    connection.pragma_update(None, "foreign_keys", false)?;
    for (version, migration) in (1i64..).zip(MIGRATIONS).skip(usize::try_from(found).unwrap_or(0)) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        check_foreign_keys(&transaction)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(())
}

fn check_foreign_keys(t: &Transaction<'_>) -> Result<()> {
    let mut query = t.prepare("PRAGMA foreign_key_check")?;
    let mut broken =
        query.query_map([], |row| Ok((row.get::<_, String>("table")?, row.get::<_, String>("parent")?)))?;
    let Some((table, parent)) = broken.next().transpose()? else { return Ok(()) };
    Err(StoreError::Corrupt {
        what: "reference",
        why: format!("a row of {table} refers to a row of {parent} that does not exist"),
    })
}
