-- Tokens of the HTTP API. The fingerprint is the SHA-256 of the token, which is stored nowhere.
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    fingerprint TEXT NOT NULL UNIQUE,
    app INTEGER REFERENCES apps (id) ON DELETE CASCADE,
    role TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER,
    UNIQUE (user, name)
) STRICT;
CREATE INDEX tokens_app ON tokens (app);

-- Requests to the HTTP API that take long, or that must not be repeated (Idempotency-Key), with their responses.
CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    caller TEXT NOT NULL,
    operation TEXT NOT NULL,
    idempotency_key TEXT,
    fingerprint BLOB NOT NULL,
    status INTEGER,
    response BLOB,
    began_at INTEGER NOT NULL,
    ended_at INTEGER,
    UNIQUE (caller, idempotency_key)
) STRICT;
CREATE INDEX requests_began_at ON requests (began_at);
