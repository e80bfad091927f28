-- Settings of an app's health checks (checks:set, checks:disable).
ALTER TABLE apps ADD COLUMN checks TEXT NOT NULL DEFAULT '{"version":1,"value":{}}';

-- Whether an instance passes its readiness checks, if it has some.
ALTER TABLE instances ADD COLUMN ready INTEGER NOT NULL DEFAULT 1;

-- Grace periods of process types, in seconds; for others, the configuration applies.
CREATE TABLE stop_timeouts (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    process_type TEXT NOT NULL,
    seconds INTEGER NOT NULL,
    PRIMARY KEY (app, process_type)
) STRICT, WITHOUT ROWID;

-- How often a process of the instance was killed because it was out of memory.
ALTER TABLE instances ADD COLUMN oom_kills INTEGER NOT NULL DEFAULT 0;

-- When the last of them was, in nanoseconds since 1970 by the engine's clock.
ALTER TABLE instances ADD COLUMN last_oom_kill INTEGER NOT NULL DEFAULT 0;
