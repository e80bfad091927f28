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
