use std::{collections::HashMap, fs, path::Path};

use rusqlite::Connection;

use super::{super::schema, *};
use crate::model::{ConfigKey, Exposure, Resource};

/// Schema version of each dump, and its text.
fn dumps() -> Vec<(usize, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations/tests");
    let mut dumps: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            (path.file_stem().unwrap().to_str().unwrap().parse().unwrap(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    dumps.sort();
    dumps
}

/// A data folder with the database and the secret key of a dump.
fn restore(dump: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let key = dump.lines().find_map(|line| line.strip_prefix("-- secret.key of this test database, in hexadecimal: "));
    let key: Vec<u8> =
        (0..32).map(|byte| u8::from_str_radix(&key.unwrap()[2 * byte..2 * byte + 2], 16).unwrap()).collect();
    fs::write(dir.path().join("secret.key"), key).unwrap();
    Connection::open(dir.path().join("paas.db")).unwrap().execute_batch(dump).unwrap();
    dir
}

/// The schema of the database in this folder, without differences of white space.
fn schema_of(folder: &Path) -> Vec<(String, String, Option<String>)> {
    let connection = Connection::open(folder.join("paas.db")).unwrap();
    let mut query = connection.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name").unwrap();
    let rows = query.query_map([], |row| {
        let sql: Option<String> = row.get("sql")?;
        let words = sql.map(|sql| sql.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ,", ","));
        Ok((row.get("type")?, row.get("name")?, words))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_migrated_database_has_the_schema_of_a_new_one() {
    let new = fixture();
    let expected = schema_of(new.dir.path());
    assert!(expected.iter().any(|(_, name, _)| name == "apps"));
    let dumps = dumps();
    assert!(dumps.iter().any(|(version, _)| version + 1 == schema::MIGRATIONS.len()), "the last version has no dump");
    for (version, dump) in dumps {
        let dir = restore(&dump);
        drop(Store::open(dir.path()).unwrap());
        assert_eq!(schema_of(dir.path()), expected, "the dump of schema version {version}");
    }
    for version in 0..schema::MIGRATIONS.len() {
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(dir.path().join("paas.db")).unwrap();
        schema::MIGRATIONS[..version].iter().for_each(|migration| connection.execute_batch(migration).unwrap());
        connection.pragma_update(None, "user_version", version).unwrap();
        drop(connection);
        fs::write(dir.path().join("secret.key"), [0; 32]).unwrap();
        drop(Store::open(dir.path()).unwrap());
        assert_eq!(schema_of(dir.path()), expected, "an empty database of schema version {version}");
    }
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let Fixture { store, dir } = fixture();
    drop(store);
    let connection = Connection::open(dir.path().join("paas.db")).unwrap();
    connection.pragma_update(None, "user_version", schema::MIGRATIONS.len() + 1).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::TooNew { .. })));
}

#[test]
fn a_migration_that_leaves_a_broken_reference_is_rolled_back() {
    let dir = restore(&dump_3());
    let connection = Connection::open(dir.path().join("paas.db")).unwrap();
    connection.execute_batch("PRAGMA foreign_keys = OFF; UPDATE ports SET app = 99").unwrap();
    let before = schema_of(dir.path());
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("a row of ports refers to a row of apps that does not exist"), "{error}");
    assert_eq!(schema_of(dir.path()), before);
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get("user_version")).unwrap();
    assert_eq!(version, 3);
}

fn dump_3() -> String {
    dumps().into_iter().find(|(version, _)| *version == 3).unwrap().1
}

/// The database of schema version 3, migrated, and its folder.
fn version_3() -> (Store, tempfile::TempDir) {
    let dir = restore(&dump_3());
    (Store::open(dir.path()).unwrap(), dir)
}

/// The apps of that database.
const SHOP: AppId = AppId(1);
const ORPHAN: AppId = AppId(2);
const DOOMED: AppId = AppId(3);

/// Config vars of `shop` and of its release 2.
fn config() -> ConfigVars {
    let mut config = vars("hunter2");
    config.insert("DATABASE_URL".parse().unwrap(), Secret::new("postgres://db.example/shop"));
    config
}

#[tokio::test]
async fn the_limit_of_volumes_of_schema_version_8_is_read_back() {
    let dir = restore(&dumps().into_iter().find(|(version, _)| *version == 8).unwrap().1);
    let store = Store::open(dir.path()).unwrap();
    let limits = store.quotas(UserId(2)).await.unwrap().into_iter().filter(|row| row.own);
    let limits: Vec<_> = limits.map(|row| (row.resource, row.max)).collect();
    assert_eq!(limits, [(Resource::Apps, Some(60)), (Resource::Volumes, Some(40_960))]);
}

#[tokio::test]
async fn apps_of_schema_version_3_are_read_back() {
    let (store, _dir) = version_3();
    let apps = store.apps().await.unwrap();
    let [doomed, orphan, shop] = &apps[..] else { panic!("{apps:?}") };
    assert_eq!((shop.id, orphan.id, doomed.id), (SHOP, ORPHAN, DOOMED));
    assert_eq!((shop.destroying, orphan.destroying, doomed.destroying), (false, false, true));
    assert_eq!((shop.stopped, orphan.stopped), (false, true));
    assert_eq!(shop.deploy_branch, Some("main".parse().unwrap()));
    assert_eq!(shop.source_folder, Some("services/shop".parse().unwrap()));
    assert_eq!(shop.stack.as_deref(), Some("debian-13"));
    assert_eq!(shop.current, Some(Deployment { release: 2, generation: 2 }));
    assert_eq!(shop.candidate, Some(Deployment { release: 4, generation: 4 }));
    assert_eq!(shop.formation, BTreeMap::from([(ProcessType::web(), 2), ("worker".parse().unwrap(), 1)]));

    assert_eq!(store.config_vars(shop.id).await.unwrap(), config());
    assert_eq!(store.build_vars(shop.id).await.unwrap().iter().map(ConfigKey::as_str).collect::<Vec<_>>(), ["TOKEN"]);
    assert_eq!(shop.candidate_process_type, None);
    let next = store.create_app("next".parse().unwrap(), None, 10_000..=10_999, vec![]).await.unwrap();
    assert_eq!(next.id, AppId(5), "the identity of a destroyed app is not reused");
}

#[tokio::test]
async fn releases_and_builds_of_schema_version_3_are_read_back() {
    let (store, dir) = version_3();
    let releases = store.releases(SHOP, 10).await.unwrap();
    let states: Vec<_> = releases.iter().map(|r| (r.number, r.kind, r.state, r.created_by.as_str())).collect();
    assert_eq!(
        states,
        [
            (4, ReleaseKind::Config, ReleaseState::Candidate, "bob"),
            (3, ReleaseKind::Rollback, ReleaseState::Failed, "bob"),
            (2, ReleaseKind::Config, ReleaseState::Released, "alice"),
            (1, ReleaseKind::Push, ReleaseState::Released, "bob"),
        ]
    );
    assert_eq!(store.release(SHOP, 2).await.unwrap().unwrap().config, config());
    for number in 1..=4 {
        let release = store.release(SHOP, number).await.unwrap().unwrap();
        let processes: Vec<_> = release
            .processes
            .iter()
            .map(|p| (p.process.process_type.as_str(), p.default_quantity, p.port, p.exposes))
            .collect();
        assert_eq!(processes, [("web", 1, 3000, Exposure::PortMappings), ("worker", 0, 3000, Exposure::Nothing)]);
    }
    assert!(store.newest_push(SHOP).await.unwrap().unwrap().ref_set);

    let builds = store.builds(SHOP, 10).await.unwrap();
    let [failed, succeeded] = &builds[..] else { panic!("{builds:?}") };
    assert_eq!((failed.state, failed.message.as_deref()), (BuildState::Failed, Some("npm install failed")));
    assert!(failed.buildpacks.is_empty());
    assert_eq!((succeeded.state, succeeded.stack.as_deref()), (BuildState::Succeeded, Some("debian-13")));
    assert_eq!(
        succeeded.buildpacks,
        [
            UsedBuildpack { id: "nodejs".into(), version: "1.0".into(), digest: Some(Digest::of(b"nodejs")) },
            UsedBuildpack { id: "own".into(), version: "0.1".into(), digest: None },
        ]
    );
    let found = store.image_of_key(SHOP, Digest::of(b"recipe 1")).await.unwrap();
    assert_eq!(found, None, "its key was a plain hash");
    assert_eq!(store.builds(ORPHAN, 10).await.unwrap()[0].state, BuildState::Running);
    drop(store);
    let bytes = fs::read(dir.path().join("paas.db")).unwrap();
    let contains = |digest: &Digest| bytes.windows(64).any(|window| window == digest.hex().as_bytes());
    assert!(!contains(&Digest::of(b"recipe 1")) && contains(&Digest::of(b"image 1")), "nothing of it is left");
}

#[tokio::test]
async fn buildpacks_and_stacks_of_schema_version_3_are_read_back() {
    let (store, _dir) = version_3();
    let chosen = store.app_buildpacks(SHOP).await.unwrap();
    assert_eq!(
        chosen,
        [
            ChosenBuildpack {
                source: "docker://registry.example/two:1".parse().unwrap(),
                package: Some(Digest::of(b"chosen package")),
            },
            ChosenBuildpack { source: "nodejs".parse().unwrap(), package: None },
        ]
    );
    let packages = store.packages().await.unwrap();
    let installed: Vec<_> = packages.iter().filter(|p| p.installed).map(|p| p.digest.clone()).collect();
    assert_eq!((packages.len(), installed), (2, vec![Digest::of(b"installed package")]));

    assert_eq!(
        store.stacks().await.unwrap(),
        [
            ("debian-13".to_owned(), StackSource::Packages("suite = \"trixie\"\n".into())),
            (
                "own".to_owned(),
                StackSource::Images(ImageReferences {
                    run: "registry.example/run:1".into(),
                    build: "registry.example/build:1".into(),
                }),
            ),
        ]
    );
    let revisions = store.stack_revisions(Some("debian-13".into())).await.unwrap();
    assert_eq!(revisions.iter().map(|r| r.number).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(revisions[0].run, Digest::of(b"stack run 2"));
    assert_eq!(
        revisions[0].distribution,
        Distribution {
            name: "debian".into(),
            version: "13".into(),
            packages: BTreeMap::from([("libc6".to_owned(), "2.41-12".to_owned())]),
        }
    );
}

#[tokio::test]
async fn instances_and_ports_of_schema_version_3_are_read_back() {
    let (store, _dir) = version_3();
    let instances = store.instances(SHOP).await.unwrap();
    let read: Vec<_> =
        instances.iter().map(|i| (i.name(), i.generation, i.state, i.container.as_deref(), i.port)).collect();
    assert_eq!(
        read,
        [
            ("web.1".to_owned(), 2, InstanceState::Healthy, Some("c0ffee"), 3000),
            ("worker.1".to_owned(), 2, InstanceState::Starting, None, 3000),
        ]
    );
    assert!(instances.iter().all(|instance| instance.endpoint.is_none()), "only the runtime knows its range");
    store.set_local_endpoints("10.9.0.0/16".parse().unwrap()).await.unwrap();
    let endpoints: Vec<_> =
        store.instances(SHOP).await.unwrap().iter().map(|row| row.endpoint.unwrap().to_string()).collect();
    assert_eq!(endpoints, ["10.9.0.2", "10.9.0.3"], "those of bridge 0, slots 0 and 1");
    assert_eq!(
        store.port_mappings(SHOP).await.unwrap(),
        [PortMapping { scheme: PortScheme::Tcp, host_port: 7000, container_port: 5000 }]
    );
    assert_eq!(store.port_mappings(ORPHAN).await.unwrap()[0].host_port, 10_001);
    let routing = store.routing_state().await.unwrap();
    let exposed: Vec<_> = instances.iter().map(|row| routing.is_exposed(row)).collect();
    assert_eq!(exposed, [true, false]);
    assert_eq!(routing.exposed, HashMap::from([((SHOP, 2), ProcessType::web())]));
    assert_eq!(store.server_id().await.unwrap(), "9fcc05df");
    assert_eq!(store.next_route_version().await.unwrap(), 2);
}

#[tokio::test]
async fn keys_and_owners_of_schema_version_3_become_users_and_members() {
    let (store, _dir) = version_3();
    let users = store.users().await.unwrap();
    let read: Vec<_> = users.iter().map(|u| (u.id, u.name.as_str(), u.admin, u.machine)).collect();
    assert_eq!(read, [(UserId(1), "alice", true, false), (UserId(2), "bob", false, false)]);
    let keys = store.keys().await.unwrap();
    let read: Vec<_> = keys.iter().map(|k| (k.id, k.user, k.user_name.as_str(), k.name.as_str(), k.admin)).collect();
    assert_eq!(read, [(KeyId(1), UserId(1), "alice", "alice", true), (KeyId(2), UserId(2), "bob", "bob", false)]);
    assert_eq!(keys[1].public_key, "ssh-ed25519 AAAAbob");
    assert_eq!(keys[1].created_at, users[1].created_at);
    let created_at = store.app(SHOP).await.unwrap().unwrap().created_at;
    let owner = Member { user: "bob".parse().unwrap(), role: Role::Owner, machine: false, since: created_at };
    assert_eq!(store.members(SHOP).await.unwrap(), [owner]);
    assert_eq!(store.members(ORPHAN).await.unwrap(), [], "the app belongs to the admins");
    assert_eq!(store.events(EventFilter { reads: true, max: 10, ..EventFilter::default() }).await.unwrap(), []);

    assert_eq!(store.add_user("next".parse().unwrap(), false).await.unwrap().id, UserId(4), "`gone` had identity 3");
}
