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
