use std::collections::BTreeMap;

use super::*;
use crate::model::{Digest, ProcessType, Secret};

struct Fixture {
    store: Store,
    dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    Fixture { store: Store::open(dir.path()).unwrap(), dir }
}

impl Fixture {
    async fn app(&self, name: &str) -> App {
        self.store.create_app(name.parse().unwrap(), None, 10_000..=10_001, vec![]).await.unwrap()
    }

    async fn release(&self, app: AppId, kind: ReleaseKind, config: ConfigVars) -> Release {
        let new = NewRelease {
            kind,
            image: Digest::of(b"image"),
            branch: Some("main".parse().unwrap()),
            commit: Some("1".repeat(40).parse().unwrap()),
            build: None,
            config,
            processes: vec![],
            description: "test".into(),
            created_by: "me".into(),
        };
        self.store.create_release(app, new).await.unwrap()
    }
}

fn vars(value: &str) -> ConfigVars {
    BTreeMap::from([("TOKEN".parse().unwrap(), Secret::new(value))])
}

#[tokio::test]
async fn names_ports_and_keys_are_unique() {
    let f = fixture();
    let one = f.app("one").await;
    assert!(matches!(
        f.store.create_app("one".parse().unwrap(), None, 10_000..=10_001, vec![]).await,
        Err(StoreError::Taken(_))
    ));
    let two = f.app("two").await;
    assert_eq!(f.store.port_mappings(two.id).await.unwrap()[0].host_port, 10_001);
    let full = f.store.create_app("three".parse().unwrap(), None, 10_000..=10_001, vec![]).await.unwrap_err();
    assert!(full.to_string().contains("all ports from 10000"), "{full}");
    let mapping = |port| vec![PortMapping { scheme: PortScheme::Tcp, host_port: port, container_port: 5000 }];
    let error = f.store.set_port_mappings(one.id, mapping(10_001)).await.unwrap_err();
    assert!(error.to_string().contains("belongs to the app two"), "{error}");
    f.store.set_port_mappings(one.id, mapping(7000)).await.unwrap();
    assert_eq!(f.store.port_mappings(one.id).await.unwrap(), mapping(7000));
    f.store.set_port_mappings(one.id, vec![]).await.unwrap();
    assert_eq!(f.store.port_mappings(one.id).await.unwrap()[0].host_port, 10_000, "its own port comes back");
    f.store.add_key("a".parse().unwrap(), "SHA256:x".into(), "k".into(), true).await.unwrap();
    assert!(f.store.add_key("a".parse().unwrap(), "SHA256:y".into(), "k".into(), true).await.is_err());
    assert!(f.store.add_key("b".parse().unwrap(), "SHA256:x".into(), "k".into(), true).await.is_err());
}

#[tokio::test]
async fn the_commit_point_is_decided_once() {
    let f = fixture();
    let app = f.app("a").await.id;
    let release = f.release(app, ReleaseKind::Push, BTreeMap::new()).await;
    let deployment = f.store.begin_deployment(app, release.number).await.unwrap().unwrap();
    assert!(f.store.newest_push(app).await.unwrap().is_none());
    assert!(f.store.commit_deployment(app, deployment).await.unwrap());
    assert!(!f.store.abandon_deployment(app, deployment).await.unwrap(), "too late");
    assert_eq!(f.store.app(app).await.unwrap().unwrap().current, Some(deployment));
    assert!(f.store.app(app).await.unwrap().unwrap().formation.is_empty(), "only who scales declares numbers");
    assert!(!f.store.newest_push(app).await.unwrap().unwrap().ref_set);
    f.store.note_ref_set(app, release.number).await.unwrap();
    assert!(f.store.newest_push(app).await.unwrap().unwrap().ref_set);

    let second = f.release(app, ReleaseKind::Push, BTreeMap::new()).await;
    let late = f.store.begin_deployment(app, second.number).await.unwrap().unwrap();
    assert!(f.store.abandon_deployment(app, late).await.unwrap());
    assert!(!f.store.commit_deployment(app, late).await.unwrap(), "given up is given up");
    assert_eq!(f.store.release(app, second.number).await.unwrap().unwrap().state, ReleaseState::Failed);
    assert_eq!(f.store.app(app).await.unwrap().unwrap().current, Some(deployment));
}

#[tokio::test]
async fn vars_of_a_config_release_hold_from_its_commit_on() {
    let f = fixture();
    let app = f.app("a").await.id;
    let release = f.release(app, ReleaseKind::Config, vars("new")).await;
    assert!(f.store.config_vars(app).await.unwrap().is_empty());
    let deployment = f.store.begin_deployment(app, release.number).await.unwrap().unwrap();
    f.store.commit_deployment(app, deployment).await.unwrap();
    assert_eq!(f.store.config_vars(app).await.unwrap(), vars("new"));
}

#[tokio::test]
async fn secrets_are_nowhere_in_the_files() {
    let f = fixture();
    let app = f.app("a").await.id;
    f.store.replace_config_vars(app, vars("hunter2-plain")).await.unwrap();
    f.release(app, ReleaseKind::Config, vars("hunter2-plain")).await;
    assert_eq!(f.store.config_vars(app).await.unwrap(), vars("hunter2-plain"));
    for file in std::fs::read_dir(f.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(13).any(|w| w == b"hunter2-plain"));
    }
    assert_eq!(format!("{:?}", vars("hunter2-plain")), r#"{ConfigKey("TOKEN"): Secret(…)}"#);
    drop(f.store);
    std::fs::remove_file(f.dir.path().join("secret.key")).unwrap();
    assert!(matches!(Store::open(f.dir.path()), Err(StoreError::Open { .. })), "a new key would lose the old vars");
}

#[tokio::test]
async fn the_address_that_was_free_the_longest_comes_first() {
    let f = fixture();
    let app = f.app("a").await.id;
    let new = |n: u32| NewInstance {
        id: format!("i{n}").parse().unwrap(),
        app,
        generation: 1,
        release: 1,
        process_type: ProcessType::web(),
        ordinal: 1,
        restarts: 0,
        not_before: 0,
        port: 8080,
    };
    let mut seen = Vec::new();
    for n in 0..1002 {
        let made = f.store.add_instance(new(n)).await.unwrap();
        seen.push((made.bridge, made.slot));
        f.store.remove_instance(made.id).await.unwrap();
    }
    assert_eq!(seen[999], (0, 999));
    assert_eq!(seen[1000].0, 0, "a bridge is filled before the next one is used");
    assert!(seen[1000].1 < 999, "the one freed last is not first");
}

#[tokio::test]
async fn restarts_keep_everything() {
    let f = fixture();
    let id = f.store.server_id().await.unwrap();
    let version = f.store.next_route_version().await.unwrap();
    drop(f.store);
    let store = Store::open(f.dir.path()).unwrap();
    assert_eq!(store.server_id().await.unwrap(), id);
    assert!(store.next_route_version().await.unwrap() > version);
}
