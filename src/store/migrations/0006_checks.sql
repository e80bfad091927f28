-- Settings of an app's health checks (checks:set, checks:disable).
ALTER TABLE apps ADD COLUMN checks TEXT NOT NULL DEFAULT '{"version":1,"value":{}}';

-- Whether an instance passes its readiness checks, if it has some.
ALTER TABLE instances ADD COLUMN ready INTEGER NOT NULL DEFAULT 1;
