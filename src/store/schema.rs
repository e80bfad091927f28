//! The schema and its migrations. Each migration is applied once, in order, in a transaction of its own.

use rusqlite::Connection;

use super::error::{Result, StoreError};

const MIGRATIONS: [&str; 3] = [
    "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO meta VALUES ('server_id', lower(hex(randomblob(4)))), ('route_version', '0');

CREATE TABLE keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL UNIQUE,
    public_key TEXT NOT NULL,
    admin INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE apps (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    owner INTEGER REFERENCES keys (id) ON DELETE SET NULL,
    deploy_branch TEXT,
    created_at INTEGER NOT NULL,
    stopped INTEGER NOT NULL DEFAULT 0,
    destroying INTEGER NOT NULL DEFAULT 0,
    generations INTEGER NOT NULL DEFAULT 0,
    current_release INTEGER,
    current_generation INTEGER,
    candidate_release INTEGER,
    candidate_generation INTEGER
) STRICT;

CREATE TABLE config_vars (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (app, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE formation (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    process_type TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    PRIMARY KEY (app, process_type)
) STRICT, WITHOUT ROWID;

CREATE TABLE builds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    commit_id TEXT NOT NULL,
    key TEXT NOT NULL,
    pusher TEXT NOT NULL,
    state TEXT NOT NULL,
    image TEXT,
    message TEXT,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    UNIQUE (app, number)
) STRICT;

CREATE TABLE releases (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    image TEXT NOT NULL,
    branch TEXT,
    commit_id TEXT,
    build INTEGER,
    config BLOB NOT NULL,
    processes TEXT NOT NULL,
    description TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    ref_set INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE instances (
    id TEXT PRIMARY KEY,
    app INTEGER NOT NULL REFERENCES apps (id),
    generation INTEGER NOT NULL,
    release INTEGER NOT NULL,
    process_type TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    bridge INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    container TEXT,
    state TEXT NOT NULL,
    restarts INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (bridge, slot)
) STRICT, WITHOUT ROWID;
CREATE INDEX instances_app ON instances (app);

CREATE TABLE freed_addresses (
    bridge INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    freed_at INTEGER NOT NULL,
    PRIMARY KEY (bridge, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE ports (
    host_port INTEGER PRIMARY KEY,
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    automatic INTEGER NOT NULL,
    active INTEGER NOT NULL,
    scheme TEXT NOT NULL,
    container_port INTEGER NOT NULL
) STRICT;
",
    "
CREATE TABLE packages (
    digest TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    installed INTEGER NOT NULL,
    added_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE app_buildpacks (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    source TEXT NOT NULL,
    package TEXT REFERENCES packages (digest),
    PRIMARY KEY (app, position)
) STRICT, WITHOUT ROWID;

ALTER TABLE builds ADD COLUMN buildpacks TEXT NOT NULL DEFAULT '[]';
ALTER TABLE builds ADD COLUMN stack TEXT;

CREATE TABLE stacks (
    name TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE stack_revisions (
    stack TEXT NOT NULL REFERENCES stacks (name) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    run TEXT NOT NULL,
    build TEXT NOT NULL,
    distribution TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (stack, number)
) STRICT, WITHOUT ROWID;

ALTER TABLE apps ADD COLUMN stack TEXT;
",
    "
ALTER TABLE apps ADD COLUMN source_folder TEXT;
ALTER TABLE instances ADD COLUMN port INTEGER NOT NULL DEFAULT 8080;

CREATE TABLE build_vars (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (app, name)
) STRICT, WITHOUT ROWID;
",
];

/// Applies the migrations that the database lacks; its `user_version` counts those it has.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection.pragma_query_value(None, "user_version", |r| r.get(0))?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (version, migration) in (1i64..).zip(MIGRATIONS).skip(usize::try_from(found).unwrap_or(0)) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
