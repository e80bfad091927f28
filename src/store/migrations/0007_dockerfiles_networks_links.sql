-- Logins at image registries; without an app, of the server. The password is encrypted.
CREATE TABLE registry_logins (
    id INTEGER PRIMARY KEY,
    app INTEGER REFERENCES apps (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    username TEXT NOT NULL,
    password BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- App identities begin at 1.
CREATE UNIQUE INDEX registry_logins_host ON registry_logins (coalesce(app, 0), host);

-- Images on which Dockerfiles may be based without a registry.
CREATE TABLE offered_images (
    name TEXT PRIMARY KEY,
    written TEXT NOT NULL,
    manifest TEXT NOT NULL,
    size INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Path of the Dockerfile in the folder that is built, and the stage that is built of it; NULL for the defaults.
ALTER TABLE apps ADD COLUMN dockerfile TEXT;
ALTER TABLE apps ADD COLUMN build_target TEXT;

-- What an app's instances and tasks may reach besides what all may (network:allow). The addresses are those that a name
-- resolved to when it last resolved.
CREATE TABLE network_targets (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    target TEXT NOT NULL,
    addresses TEXT NOT NULL DEFAULT '{"version":1,"value":[]}',
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (app, target)
) STRICT, WITHOUT ROWID;

-- Which app's instances and tasks may reach which other app, by an internal name (apps:link).
CREATE TABLE links (
    source INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    target INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (source, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX links_target ON links (target);
