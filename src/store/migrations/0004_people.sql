-- Each key's name becomes a user of the same identity.
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    admin INTEGER NOT NULL,
    machine INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO users (id, name, admin, machine, created_at) SELECT id, name, admin, 0, created_at FROM keys;

CREATE TABLE new_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL UNIQUE,
    public_key TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO new_keys (id, user, name, fingerprint, public_key, created_at)
    SELECT id, id, name, fingerprint, public_key, created_at FROM keys;

CREATE TABLE members (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    user INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (app, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_user ON members (user);
INSERT INTO members (app, user, role, since) SELECT id, owner, 'owner', created_at FROM apps WHERE owner NOT NULL;

CREATE TABLE new_apps (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    deploy_branch TEXT,
    stack TEXT,
    source_folder TEXT,
    created_at INTEGER NOT NULL,
    stopped INTEGER NOT NULL DEFAULT 0,
    destroying INTEGER NOT NULL DEFAULT 0,
    generations INTEGER NOT NULL DEFAULT 0,
    current_release INTEGER,
    current_generation INTEGER,
    candidate_release INTEGER,
    candidate_generation INTEGER,
    candidate_process_type TEXT
) STRICT;
INSERT INTO new_apps (id, name, deploy_branch, stack, source_folder, created_at, stopped, destroying, generations,
        current_release, current_generation, candidate_release, candidate_generation)
    SELECT id, name, deploy_branch, stack, source_folder, created_at, stopped, destroying, generations,
        current_release, current_generation, candidate_release, candidate_generation FROM apps;

-- JSON carries the version of its format.
CREATE TABLE new_builds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    commit_id TEXT NOT NULL,
    key TEXT NOT NULL,
    pusher TEXT NOT NULL,
    stack TEXT,
    state TEXT NOT NULL,
    image TEXT,
    buildpacks TEXT NOT NULL,
    message TEXT,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    UNIQUE (app, number)
) STRICT;
INSERT INTO new_builds (id, app, number, commit_id, key, pusher, stack, state, image, buildpacks, message, started_at,
        ended_at)
    SELECT id, app, number, commit_id, key, pusher, stack, state, image,
        json_object('version', 1, 'value', json(buildpacks)), message, started_at, ended_at FROM builds;
UPDATE releases SET processes = json_object('version', 1, 'value', json(processes));
UPDATE stacks SET source = json_object('version', 1, 'value', json(source));
UPDATE stack_revisions SET distribution = json_object('version', 1, 'value', json(distribution));
ALTER TABLE releases ADD COLUMN config_version INTEGER NOT NULL DEFAULT 1;

-- Identities that were used are not used again.
DELETE FROM sqlite_sequence WHERE name IN ('users', 'new_keys', 'new_apps', 'new_builds');
INSERT INTO sqlite_sequence (name, seq) SELECT 'users', seq FROM sqlite_sequence WHERE name = 'keys';
INSERT INTO sqlite_sequence (name, seq)
    SELECT 'new_' || name, seq FROM sqlite_sequence WHERE name IN ('keys', 'apps', 'builds');
DROP TABLE keys;
DROP TABLE apps;
DROP TABLE builds;
ALTER TABLE new_keys RENAME TO keys;
ALTER TABLE new_apps RENAME TO apps;
ALTER TABLE new_builds RENAME TO builds;

-- What happened and who did it. Events outlive the users and apps that they name, so they refer to no other table.
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    user INTEGER,
    user_name TEXT NOT NULL,
    fingerprint TEXT,
    address TEXT,
    door TEXT NOT NULL,
    operation TEXT NOT NULL,
    effect TEXT NOT NULL,
    app INTEGER,
    app_name TEXT,
    detail TEXT NOT NULL,
    outcome TEXT NOT NULL,
    message TEXT,
    ended_at INTEGER
) STRICT;
CREATE INDEX events_app ON events (app, id);
CREATE INDEX events_at ON events (at);
