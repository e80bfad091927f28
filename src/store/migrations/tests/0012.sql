-- A database of schema version 12 with a row of every kind but a registry login and a binding.
-- secret.key of this test database, in hexadecimal: 6fef49300a67dfcc16effc940e4a08f01a96f0b000455d3bf1955e0583c4f29f
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE app_buildpacks (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    source TEXT NOT NULL,
    package TEXT REFERENCES packages (digest),
    PRIMARY KEY (app, position)
) STRICT, WITHOUT ROWID;
INSERT INTO app_buildpacks VALUES(1,0,'docker://registry.example/two:1','sha256:c551f00e062d7669fa2749960098b38c65e120182dd5eea352368812352eb996');
INSERT INTO app_buildpacks VALUES(1,1,'nodejs',NULL);
CREATE TABLE IF NOT EXISTS "apps" (
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
, checks TEXT NOT NULL DEFAULT '{"version":1,"value":{}}', dockerfile TEXT, build_target TEXT) STRICT;
INSERT INTO apps VALUES(1,'shop','main','debian-13','services/shop',1795921183486,0,0,4,2,2,4,4,NULL,'{"version":1,"value":{}}',NULL,NULL);
INSERT INTO apps VALUES(2,'orphan',NULL,NULL,NULL,1795921183487,1,0,0,NULL,NULL,NULL,NULL,NULL,'{"version":1,"value":{}}','docker/Dockerfile','final');
INSERT INTO apps VALUES(3,'doomed',NULL,NULL,NULL,1795921183487,0,1,0,NULL,NULL,NULL,NULL,NULL,'{"version":1,"value":{}}',NULL,NULL);
CREATE TABLE build_vars (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (app, name)
) STRICT, WITHOUT ROWID;
INSERT INTO build_vars VALUES(1,'TOKEN');
CREATE TABLE IF NOT EXISTS "builds" (
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
INSERT INTO builds VALUES(1,1,1,'1111111111111111111111111111111111111111','','bob','debian-13','succeeded','sha256:bdd295acb9859817b9da544524ed3525a64f61bf5edb16deb0c28b6ae63d378b','{"version":1,"value":[{"id":"nodejs","version":"1.0","digest":"sha256:81df1af4ed72b1b82fed99c73be4831908af977f3bd52c7cb7dfc738e38571dd"},{"id":"own","version":"0.1","digest":null}]}',NULL,1795921183491,1795921183492);
INSERT INTO builds VALUES(2,1,2,'2222222222222222222222222222222222222222','','alice',NULL,'failed',NULL,'{"version":1,"value":[]}','npm install failed',1795921183492,1795921183492);
INSERT INTO builds VALUES(3,2,1,'3333333333333333333333333333333333333333','','gone',NULL,'running',NULL,'{"version":1,"value":[]}',NULL,1795921183493,NULL);
CREATE TABLE config_vars (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (app, name)
) STRICT, WITHOUT ROWID;
INSERT INTO config_vars VALUES(1,'DATABASE_URL',X'e4a9301dae7abf4e60511264f6f9b6d66ae7ce0e8ed211ac756a9450d60e1f50d58ef1fb7917abd2a07bc1798718414b08c1c8dffb97827cdd68ddc9a2a1acb5e0a6');
INSERT INTO config_vars VALUES(1,'TOKEN',X'3baca7ede03dc1ad6348b19fb4edd7ae6270920ae94a4d166bc125ed32c9078dabde72d258989528177abc9bb1bafa');
CREATE TABLE cron_jobs (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    suspended INTEGER NOT NULL DEFAULT 0,
    checked_at INTEGER NOT NULL,
    missed INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app, id)
) STRICT, WITHOUT ROWID;
INSERT INTO cron_jobs VALUES(1,'send-mails',1,1795921183490,2,1);
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
INSERT INTO events VALUES(1,1795921183601,1,'alice','SHA256:aliceAliceAliceAliceAliceAliceAliceAliceAl0','127.0.0.1','ssh','ps:scale','change',1,'shop','web=2','done',NULL,1795921183602);
CREATE TABLE formation (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    process_type TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    PRIMARY KEY (app, process_type)
) STRICT, WITHOUT ROWID;
INSERT INTO formation VALUES(1,'web',2);
INSERT INTO formation VALUES(1,'worker',1);
CREATE TABLE IF NOT EXISTS "instances" (
    id TEXT PRIMARY KEY,
    app INTEGER NOT NULL REFERENCES apps (id),
    generation INTEGER NOT NULL,
    release INTEGER NOT NULL,
    process_type TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    node TEXT NOT NULL,
    endpoint TEXT,
    container TEXT,
    state TEXT NOT NULL,
    restarts INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    port INTEGER NOT NULL
, ready INTEGER NOT NULL DEFAULT 1, oom_kills INTEGER NOT NULL DEFAULT 0, last_oom_kill INTEGER NOT NULL DEFAULT 0, last_failure TEXT) STRICT, WITHOUT ROWID;
INSERT INTO instances VALUES('i-web-1',1,2,2,'web',1,'local',NULL,'c0ffee','healthy',0,0,1795921183498,3000,1,0,0,NULL);
INSERT INTO instances VALUES('i-worker-1',1,2,2,'worker',1,'local',NULL,NULL,'starting',0,0,1795921183499,3000,1,1,1795921183499000000,NULL);
CREATE TABLE IF NOT EXISTS "keys" (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL UNIQUE,
    public_key TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO keys VALUES(1,1,'alice','SHA256:aliceAliceAliceAliceAliceAliceAliceAliceAl0','ssh-ed25519 AAAAalice',1795921183485);
INSERT INTO keys VALUES(2,2,'bob','SHA256:bobBobBobBobBobBobBobBobBobBobBobBobBobBob0','ssh-ed25519 AAAAbob',1795921183486);
CREATE TABLE local_addresses (
    bridge INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    holder TEXT UNIQUE,
    freed_at INTEGER,
    PRIMARY KEY (bridge, slot)
) STRICT, WITHOUT ROWID;
INSERT INTO local_addresses VALUES(0,0,'i-web-1',NULL);
INSERT INTO local_addresses VALUES(0,1,'i-worker-1',NULL);
INSERT INTO local_addresses VALUES(0,2,NULL,1795921183499);
CREATE TABLE members (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    user INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (app, user)
) STRICT, WITHOUT ROWID;
INSERT INTO members VALUES(1,2,'owner',1795921183486);
INSERT INTO members VALUES(2,1,'viewer',1795921183600);
INSERT INTO members VALUES(3,1,'owner',1795921183487);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO meta VALUES('server_id','9fcc05df');
INSERT INTO meta VALUES('route_version','1');
CREATE TABLE packages (
    digest TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    installed INTEGER NOT NULL,
    added_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO packages VALUES('sha256:c551f00e062d7669fa2749960098b38c65e120182dd5eea352368812352eb996','docker://registry.example/two:1',0,1795921183491);
INSERT INTO packages VALUES('sha256:fd20f09f0d15bf67af60804cc43aeb4cdd0425bbe57f0fd7fde175255246fc0c','https://one.example/one.cnb',1,1795921183490);
CREATE TABLE ports (
    host_port INTEGER PRIMARY KEY,
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    automatic INTEGER NOT NULL,
    active INTEGER NOT NULL,
    scheme TEXT NOT NULL,
    container_port INTEGER NOT NULL
) STRICT;
INSERT INTO ports VALUES(7000,1,0,1,'tcp',5000);
INSERT INTO ports VALUES(10000,1,1,0,'http',8080);
INSERT INTO ports VALUES(10001,2,1,1,'http',8080);
INSERT INTO ports VALUES(10002,3,1,1,'http',8080);
CREATE TABLE releases (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    image TEXT NOT NULL,
    branch TEXT,
    commit_id TEXT,
    build INTEGER,
    processes TEXT NOT NULL,
    description TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    ref_set INTEGER NOT NULL DEFAULT 0, config_version INTEGER NOT NULL DEFAULT 1, manifest TEXT NOT NULL DEFAULT '{"version":1,"value":{}}', config_content TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (app, number)
) STRICT, WITHOUT ROWID;
INSERT INTO releases VALUES(1,1,'push','released','sha256:bdd295acb9859817b9da544524ed3525a64f61bf5edb16deb0c28b6ae63d378b','main','1111111111111111111111111111111111111111',1,'{"version":1,"value":[{"process":{"type":"web","command":["node","server.js"],"args":[],"direct":true,"default":true},"health_check":{"probe":"tcp","attempts":60,"wait":{"secs":1,"nanos":0},"timeout":{"secs":5,"nanos":0}},"default_quantity":1,"port":3000,"own_user":false},{"process":{"type":"worker","command":["node","server.js"],"args":[],"direct":true,"default":true},"health_check":{"probe":{"uptime":{"secs":2,"nanos":0}},"attempts":1,"wait":{"secs":1,"nanos":0},"timeout":{"secs":5,"nanos":0}},"default_quantity":0,"port":3000,"own_user":false}]}','Deploy 1111111','bob',1795921183493,1,1,'{"version":1,"value":{}}','v1');
INSERT INTO releases VALUES(1,2,'config','released','sha256:bdd295acb9859817b9da544524ed3525a64f61bf5edb16deb0c28b6ae63d378b','main','1111111111111111111111111111111111111111',1,'{"version":1,"value":[{"process":{"type":"web","command":["node","server.js"],"args":[],"direct":true,"default":true},"health_check":{"probe":"tcp","attempts":60,"wait":{"secs":1,"nanos":0},"timeout":{"secs":5,"nanos":0}},"default_quantity":1,"port":3000,"own_user":false},{"process":{"type":"worker","command":["node","server.js"],"args":[],"direct":true,"default":true},"health_check":{"probe":{"uptime":{"secs":2,"nanos":0}},"attempts":1,"wait":{"secs":1,"nanos":0},"timeout":{"secs":5,"nanos":0}},"default_quantity":0,"port":3000,"own_user":false}]}','Set TOKEN, DATABASE_URL','alice',1795921183495,0,1,'{"version":1,"value":{}}','v2');
INSERT INTO releases VALUES(1,3,'rollback','failed','sha256:bdd295acb9859817b9da544524ed3525a64f61bf5edb16deb0c28b6ae63d378b',NULL,NULL,NULL,'{"version":1,"value":[{"process":{"type":"web","command":["node","server.js"],"args":[],"direct":true,"default":true},"health_check":{"probe":"tcp","attempts":60,"wait":{"secs":1,"nanos":0},"timeout":{"secs":5,"nanos":0}},"default_quantity":1,"port":3000,"own_user":false},{"process":{"type":"worker","command":["node","server.js"],"args":[],"direct":true,"default":true},"health_check":{"probe":{"uptime":{"secs":2,"nanos":0}},"attempts":1,"wait":{"secs":1,"nanos":0},"timeout":{"secs":5,"nanos":0}},"default_quantity":0,"port":3000,"own_user":false}]}','Roll back to v1','bob',1795921183496,0,1,'{"version":1,"value":{}}','v3');
INSERT INTO releases VALUES(1,4,'config','candidate','sha256:bdd295acb9859817b9da544524ed3525a64f61bf5edb16deb0c28b6ae63d378b','main','1111111111111111111111111111111111111111',1,'{"version":1,"value":[{"process":{"type":"web","command":["node","server.js"],"args":[],"direct":true,"default":true},"health_check":{"probe":"tcp","attempts":60,"wait":{"secs":1,"nanos":0},"timeout":{"secs":5,"nanos":0}},"default_quantity":1,"port":3000,"own_user":false},{"process":{"type":"worker","command":["node","server.js"],"args":[],"direct":true,"default":true},"health_check":{"probe":{"uptime":{"secs":2,"nanos":0}},"attempts":1,"wait":{"secs":1,"nanos":0},"timeout":{"secs":5,"nanos":0}},"default_quantity":0,"port":3000,"own_user":false}]}','Set TOKEN','bob',1795921183497,0,1,'{"version":1,"value":{}}','v4');
CREATE TABLE stack_revisions (
    stack TEXT NOT NULL REFERENCES stacks (name) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    run TEXT NOT NULL,
    build TEXT NOT NULL,
    distribution TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (stack, number)
) STRICT, WITHOUT ROWID;
INSERT INTO stack_revisions VALUES('debian-13',1,'sha256:32a1405bf2f6a0b6fe417501c9ae52e46ff816e7a6ae5ee02df898e764d526f6','sha256:8f97000f9625eecf1d5c2ccf6b1b74b29b391f3a4cc2809bae98532a1b43a6f5','{"version":1,"value":{"name":"debian","version":"13","packages":{"libc6":"2.41-12"}}}',1795921183489);
INSERT INTO stack_revisions VALUES('debian-13',2,'sha256:bea88c8d433bc6e0af67ad798fafbe219cb7969226e637ff5ad902c515c9de80','sha256:8f97000f9625eecf1d5c2ccf6b1b74b29b391f3a4cc2809bae98532a1b43a6f5','{"version":1,"value":{"name":"debian","version":"13","packages":{"libc6":"2.41-12"}}}',1795921183489);
INSERT INTO stack_revisions VALUES('own',1,'sha256:c2f6cca9c842fcc8142bc43d17c68c8000133aa05cebd28bc928946596bc5cc9','sha256:8f97000f9625eecf1d5c2ccf6b1b74b29b391f3a4cc2809bae98532a1b43a6f5','{"version":1,"value":{"name":"debian","version":"13","packages":{"libc6":"2.41-12"}}}',1795921183490);
CREATE TABLE stacks (
    name TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO stacks VALUES('debian-13','{"version":1,"value":{"packages":"suite = \"trixie\"\n"}}',1795921183489);
INSERT INTO stacks VALUES('own','{"version":1,"value":{"images":{"run":"registry.example/run:1","build":"registry.example/build:1"}}}',1795921183490);
CREATE TABLE stop_timeouts (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    process_type TEXT NOT NULL,
    seconds INTEGER NOT NULL,
    PRIMARY KEY (app, process_type)
) STRICT, WITHOUT ROWID;
INSERT INTO stop_timeouts VALUES(1,'worker',45);
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    job TEXT,
    release INTEGER NOT NULL,
    command TEXT NOT NULL,
    attached INTEGER NOT NULL,
    state TEXT NOT NULL,
    status INTEGER,
    message TEXT,
    limit_seconds INTEGER NOT NULL,
    due_at INTEGER,
    reported INTEGER NOT NULL DEFAULT 0,
    node TEXT NOT NULL,
    endpoint TEXT,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    UNIQUE (app, number)
) STRICT, WITHOUT ROWID;
INSERT INTO tasks VALUES('shop-run-1-0a1b2c3d',1,1,'run',NULL,2,'{"version":1,"value":{"words":["ls","-l"]}}',1,'ended',0,NULL,86400,NULL,0,'local',NULL,'bob',1795921183490,1795921183491,1795921183492);
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    admin INTEGER NOT NULL,
    machine INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO users VALUES(1,'alice',1,0,1795921183485);
INSERT INTO users VALUES(2,'bob',0,0,1795921183486);
INSERT INTO users VALUES(4,'ci',0,1,1795921183600);
CREATE TABLE registry_logins (
    id INTEGER PRIMARY KEY,
    app INTEGER REFERENCES apps (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    username TEXT NOT NULL,
    password BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE offered_images (
    name TEXT PRIMARY KEY,
    written TEXT NOT NULL,
    manifest TEXT NOT NULL,
    size INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO offered_images VALUES('docker.io/company/base:1','company/base:1','sha256:c551f00e062d7669fa2749960098b38c65e120182dd5eea352368812352eb996',1048576,1795921183700,'alice');
CREATE TABLE network_targets (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    target TEXT NOT NULL,
    addresses TEXT NOT NULL DEFAULT '{"version":1,"value":[]}',
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (app, target)
) STRICT, WITHOUT ROWID;
INSERT INTO network_targets VALUES(1,'10.1.2.0/24:5432','{"version":1,"value":[]}','alice',1795921183701);
CREATE TABLE links (
    source INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    target INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (source, target)
) STRICT, WITHOUT ROWID;
INSERT INTO links VALUES(1,2,'alice',1795921183702);
CREATE TABLE quotas (
    user INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    resource TEXT NOT NULL,
    max INTEGER NOT NULL,
    PRIMARY KEY (user, resource)
) STRICT, WITHOUT ROWID;
INSERT INTO quotas VALUES(2,'apps',60);
INSERT INTO quotas VALUES(2,'volumes',40960);
CREATE TABLE sizes (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    target TEXT NOT NULL,
    kind TEXT NOT NULL,
    cpu_millis INTEGER,
    memory_mib INTEGER,
    PRIMARY KEY (app, target, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO sizes VALUES(1,'_tasks_','limit',NULL,2048);
INSERT INTO sizes VALUES(1,'web','limit',1500,1024);
CREATE TABLE freed_ports (
    host_port INTEGER PRIMARY KEY,
    owner INTEGER,
    freed_at INTEGER NOT NULL
) STRICT;
INSERT INTO freed_ports VALUES(10007,2,1795921183700);
CREATE TABLE release_configs (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    content TEXT NOT NULL,
    config BLOB NOT NULL,
    PRIMARY KEY (app, content)
) STRICT, WITHOUT ROWID;
INSERT INTO release_configs VALUES(1,'v1',X'f73df659046566865da8f8b830a3d002476c9e87322d45d034b09589cb76740a75006f53c5807f592b87');
INSERT INTO release_configs VALUES(1,'v2',X'8d01404df6f95f339ae2a70b2d2b723bae21083fe44d4d2fbd2b61a2e28bac6d63be341f21b741e33a1a921756ab6b3fd699c94c1ad14fa613ef3622dc8c80bc337d6f645059fdbbab7ec1c4a9fd5e370990bcbe57d16f9720434b1c54d33d9443d173e2a549ed');
INSERT INTO release_configs VALUES(1,'v3',X'8a647e94da1810c41134d366da3d56de6eec80c6d0d49e721a97f3e557c92396bb308882c8937c496218');
INSERT INTO release_configs VALUES(1,'v4',X'bc87b701febd63cb6b574b5bd744c27970b0c4aec7e63771f4c3c9d9d87a75ca410c286d219d8c891dcab072f25a3e306b9b3cffdb18717d6a482bd9ff2b5da6eee656e8208da4f1cbb6357f98a988a9594623bb6ca14a0ab4e62165415b329a5a1d936c6348d7b53754154866');
CREATE TABLE volumes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    size_mib INTEGER NOT NULL,
    ready INTEGER NOT NULL DEFAULT 0,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (app, name)
) STRICT;
INSERT INTO volumes VALUES(1,1,'uploads',1024,1,'alice',1795921183701);
CREATE TABLE mounts (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    target TEXT NOT NULL,
    volume INTEGER REFERENCES volumes (id) ON DELETE CASCADE,
    host_path TEXT,
    read_only INTEGER NOT NULL,
    process_type TEXT,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (app, target),
    CHECK ((volume IS NULL) <> (host_path IS NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO mounts VALUES(1,'/data',1,NULL,0,'worker','alice',1795921183702);
INSERT INTO mounts VALUES(1,'/media',NULL,'/srv/media',1,NULL,'alice',1795921183703);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('users',4);
INSERT INTO sqlite_sequence VALUES('keys',3);
INSERT INTO sqlite_sequence VALUES('apps',4);
INSERT INTO sqlite_sequence VALUES('builds',3);
INSERT INTO sqlite_sequence VALUES('events',1);
INSERT INTO sqlite_sequence VALUES('volumes',1);
CREATE INDEX members_user ON members (user);
CREATE INDEX events_app ON events (app, id);
CREATE INDEX events_at ON events (at);
CREATE INDEX instances_app ON instances (app);
CREATE INDEX tasks_state ON tasks (state);
CREATE UNIQUE INDEX tasks_phase ON tasks (app, release, kind) WHERE kind NOT IN ('run', 'cron');
CREATE UNIQUE INDEX registry_logins_host ON registry_logins (coalesce(app, 0), host);
CREATE INDEX links_target ON links (target);
CREATE VIEW app_owners AS
    SELECT app, user, name FROM (
        SELECT m.app AS app, m.user AS user, u.name AS name,
            row_number() OVER (PARTITION BY m.app ORDER BY m.since, u.name) AS place
        FROM members m JOIN users u ON u.id = m.user WHERE m.role = 'owner'
    ) WHERE place = 1;
CREATE TRIGGER port_freed AFTER DELETE ON ports BEGIN
    INSERT OR REPLACE INTO freed_ports (host_port, owner, freed_at)
        VALUES (old.host_port, (SELECT user FROM app_owners WHERE app = old.app),
            CAST(unixepoch('subsec') * 1000 AS INTEGER));
END;
CREATE TRIGGER port_taken AFTER INSERT ON ports BEGIN
    DELETE FROM freed_ports WHERE host_port = new.host_port;
END;
CREATE INDEX mounts_volume ON mounts (volume);
COMMIT;
CREATE TABLE bindings (
    app INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    binding BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (app, name)
) STRICT, WITHOUT ROWID;
ALTER TABLE releases ADD COLUMN bindings_content TEXT NOT NULL DEFAULT '';
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
INSERT INTO tokens VALUES(1,1,'laptop','SHA256:'||hex(zeroblob(4)),1,'deployer',1795921183486,NULL,NULL);
INSERT INTO requests VALUES('00000000000000000000000000000000','SHA256:k1','ps:restart',NULL,X'00',200,X'7b7d',1795921183486,1795921183490);
PRAGMA user_version=12;
