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
