-- Which app's instances and tasks may reach which other app, by an internal name (apps:link).
CREATE TABLE links (
    source INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    target INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (source, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX links_target ON links (target);
