-- Service bindings, each encrypted as a whole; `bytes` is the size of the names and contents of its files.
CREATE TABLE bindings (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    binding BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (app, name)
) STRICT, WITHOUT ROWID;

-- Those of a release are a row of `release_configs`, as its config vars are; no content for none.
ALTER TABLE releases ADD COLUMN bindings_content TEXT NOT NULL DEFAULT '';
