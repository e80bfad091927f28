-- Webhooks of forges: each follows one branch of a remote repository for one app, with the rights of the user who added it.
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    url TEXT NOT NULL,
    branch TEXT NOT NULL,
    secret BLOB NOT NULL,
    user INTEGER REFERENCES users (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    last_delivery_at INTEGER
) STRICT;
CREATE INDEX webhooks_app ON webhooks (app);
CREATE INDEX webhooks_user ON webhooks (user);

-- Hashes of the last events of each, which are accepted once.
CREATE TABLE webhook_deliveries (
    webhook TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    hash BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (webhook, hash)
) STRICT;
