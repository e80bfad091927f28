-- The addresses of this machine belong to its runtime; other runtimes assign their own.
CREATE TABLE local_addresses (
    bridge INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    holder TEXT UNIQUE,
    freed_at INTEGER,
    PRIMARY KEY (bridge, slot)
) STRICT, WITHOUT ROWID;
INSERT INTO local_addresses (bridge, slot, holder) SELECT bridge, slot, id FROM instances;
INSERT OR IGNORE INTO local_addresses (bridge, slot, freed_at) SELECT bridge, slot, freed_at FROM freed_addresses;
DROP TABLE freed_addresses;

CREATE TABLE new_instances (
    id TEXT PRIMARY KEY,
    app INTEGER NOT NULL REFERENCES apps (id),
    generation INTEGER NOT NULL,
    release INTEGER NOT NULL,
    process_type TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    node TEXT NOT NULL,
    endpoint TEXT,
    container TEXT,
    state TEXT NOT NULL,
    restarts INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    port INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO new_instances (id, app, generation, release, process_type, ordinal, node, container, state, restarts,
        not_before, created_at, port)
    SELECT id, app, generation, release, process_type, ordinal, 'local', container, state, restarts, not_before,
        created_at, port FROM instances;
DROP TABLE instances;
ALTER TABLE new_instances RENAME TO instances;
CREATE INDEX instances_app ON instances (app);

-- What was run, or is to be run, once: commands of users, the release phase, scheduled jobs.
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    job TEXT,
    release INTEGER NOT NULL,
    command TEXT NOT NULL,
    attached INTEGER NOT NULL,
    state TEXT NOT NULL,
    status INTEGER,
    message TEXT,
    limit_seconds INTEGER NOT NULL,
    due_at INTEGER,
    reported INTEGER NOT NULL DEFAULT 0,
    node TEXT NOT NULL,
    endpoint TEXT,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    UNIQUE (app, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX tasks_state ON tasks (state);
CREATE UNIQUE INDEX tasks_phase ON tasks (app, release, kind) WHERE kind NOT IN ('run', 'cron');

ALTER TABLE releases ADD COLUMN manifest TEXT NOT NULL DEFAULT '{"version":1,"value":{}}';

-- What is known of the scheduled jobs that the current release of an app declares.
CREATE TABLE cron_jobs (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    suspended INTEGER NOT NULL DEFAULT 0,
    checked_at INTEGER NOT NULL,
    missed INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app, id)
) STRICT, WITHOUT ROWID;
