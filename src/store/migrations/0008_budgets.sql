-- Limits of a user that differ from those of the configuration.
CREATE TABLE quotas (
    user INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    resource TEXT NOT NULL,
    max INTEGER NOT NULL,
    PRIMARY KEY (user, resource)
) STRICT, WITHOUT ROWID;

-- The user whom an app counts against: of its owners, the one who is it the longest.
CREATE VIEW app_owners AS
    SELECT app, user, name FROM (
        SELECT m.app AS app, m.user AS user, u.name AS name,
            row_number() OVER (PARTITION BY m.app ORDER BY m.since, u.name) AS place
        FROM members m JOIN users u ON u.id = m.user WHERE m.role = 'owner'
    ) WHERE place = 1;

-- CPU time (thousandths of a CPU) and memory (MiB) of an app's instances, tasks and builds: what they have at most, and what is
-- kept free for each of them.
CREATE TABLE sizes (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    target TEXT NOT NULL,
    kind TEXT NOT NULL,
    cpu_millis INTEGER,
    memory_mib INTEGER,
    PRIMARY KEY (app, target, kind)
) STRICT, WITHOUT ROWID;

-- Ports that were freed, and whose app had them; NULL for the admins.
CREATE TABLE freed_ports (
    host_port INTEGER PRIMARY KEY,
    owner INTEGER,
    freed_at INTEGER NOT NULL
) STRICT;
CREATE TRIGGER port_freed AFTER DELETE ON ports BEGIN
    INSERT OR REPLACE INTO freed_ports (host_port, owner, freed_at)
        VALUES (old.host_port, (SELECT user FROM app_owners WHERE app = old.app),
            CAST(unixepoch('subsec') * 1000 AS INTEGER));
END;
CREATE TRIGGER port_taken AFTER INSERT ON ports BEGIN
    DELETE FROM freed_ports WHERE host_port = new.host_port;
END;

-- Config vars of releases, once for all releases of an app that have the same: `content` is a keyed hash of them. Those of
-- earlier releases are encrypted for the release whose number follows the `v`.
CREATE TABLE release_configs (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    content TEXT NOT NULL,
    config BLOB NOT NULL,
    PRIMARY KEY (app, content)
) STRICT, WITHOUT ROWID;
INSERT INTO release_configs (app, content, config) SELECT app, 'v' || number, config FROM releases;

ALTER TABLE releases ADD COLUMN config_content TEXT NOT NULL DEFAULT '';
UPDATE releases SET config_content = 'v' || number;
ALTER TABLE releases DROP COLUMN config;

-- Volumes: disks of a declared size whose files outlive releases. Their identity is the name of their file, so it is never
-- used again. One that is not ready has no disk yet.
CREATE TABLE volumes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    size_mib INTEGER NOT NULL,
    ready INTEGER NOT NULL DEFAULT 0,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (app, name)
) STRICT;

-- What is mounted into the containers of an app: a volume, or a folder of the machine; without a process type, into all.
CREATE TABLE mounts (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    target TEXT NOT NULL,
    volume INTEGER REFERENCES volumes (id) ON DELETE CASCADE,
    host_path TEXT,
    read_only INTEGER NOT NULL,
    process_type TEXT,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (app, target),
    CHECK ((volume IS NULL) <> (host_path IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX mounts_volume ON mounts (volume);

-- Why the instance of the same name before it failed.
ALTER TABLE instances ADD COLUMN last_failure TEXT;
