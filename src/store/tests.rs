mod migrations;

use std::collections::BTreeMap;

use super::*;
use crate::model::{Digest, Distribution, ProcessType, Secret};

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
    assert_eq!(f.store.port_mappings(one.id).await.unwrap()[0].host_port, 10_000, "the automatic port is active again");
    f.store.add_key("a".parse().unwrap(), "SHA256:x".into(), "k".into(), true).await.unwrap();
    assert!(f.store.add_key("a".parse().unwrap(), "SHA256:y".into(), "k".into(), true).await.is_err());
    assert!(f.store.add_key("b".parse().unwrap(), "SHA256:x".into(), "k".into(), true).await.is_err());
}

#[tokio::test]
async fn a_deployment_is_either_committed_or_abandoned() {
    let f = fixture();
    let app = f.app("a").await.id;
    let release = f.release(app, ReleaseKind::Push, BTreeMap::new()).await;
    let deployment = f.store.begin_deployment(app, release.number).await.unwrap().unwrap();
    assert!(f.store.newest_push(app).await.unwrap().is_none());
    assert!(f.store.commit_deployment(app, deployment).await.unwrap());
    assert!(!f.store.abandon_deployment(app, deployment).await.unwrap(), "it is committed");
    assert_eq!(f.store.app(app).await.unwrap().unwrap().current, Some(deployment));
    assert!(f.store.app(app).await.unwrap().unwrap().formation.is_empty(), "only scaling declares quantities");
    assert!(!f.store.newest_push(app).await.unwrap().unwrap().ref_set);
    f.store.note_ref_set(app, release.number).await.unwrap();
    assert!(f.store.newest_push(app).await.unwrap().unwrap().ref_set);

    let second = f.release(app, ReleaseKind::Push, BTreeMap::new()).await;
    let late = f.store.begin_deployment(app, second.number).await.unwrap().unwrap();
    assert!(f.store.abandon_deployment(app, late).await.unwrap());
    assert!(!f.store.commit_deployment(app, late).await.unwrap(), "it is abandoned");
    assert_eq!(f.store.release(app, second.number).await.unwrap().unwrap().state, ReleaseState::Failed);
    assert_eq!(f.store.app(app).await.unwrap().unwrap().current, Some(deployment));
}

#[tokio::test]
async fn vars_of_a_config_release_take_effect_at_its_commit() {
    let f = fixture();
    let app = f.app("a").await.id;
    let release = f.release(app, ReleaseKind::Config, vars("new")).await;
    assert!(f.store.config_vars(app).await.unwrap().is_empty());
    let deployment = f.store.begin_deployment(app, release.number).await.unwrap().unwrap();
    f.store.commit_deployment(app, deployment).await.unwrap();
    assert_eq!(f.store.config_vars(app).await.unwrap(), vars("new"));
}

#[tokio::test]
async fn secrets_appear_in_no_file() {
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
    assert!(
        matches!(Store::open(f.dir.path()), Err(StoreError::Open { .. })),
        "a new key could not decrypt the old vars"
    );
}

#[tokio::test]
async fn the_address_that_was_free_the_longest_is_used_first() {
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
    assert_eq!(seen[1000].0, 0, "all addresses of a bridge are used before the next bridge");
    assert!(seen[1000].1 < 999, "the address freed last is not used first");
}

#[tokio::test]
async fn keys_and_builds_are_read_back() {
    let f = fixture();
    let id = f.store.add_key("a".parse().unwrap(), "SHA256:x".into(), "k".into(), true).await.unwrap();
    let key = f.store.key_by_fingerprint("SHA256:x".into()).await.unwrap().unwrap();
    assert_eq!((key.id, key.name.as_str(), key.public_key.as_str(), key.admin), (id, "a", "k", true));
    assert_eq!(f.store.keys().await.unwrap(), [key]);
    f.store.remove_key("a".parse().unwrap()).await.unwrap();
    assert!(f.store.key_by_fingerprint("SHA256:x".into()).await.unwrap().is_none());

    let app = f.app("a").await.id;
    let (commit, recipe) = ("1".repeat(40).parse().unwrap(), Digest::of(b"recipe"));
    let build = f.store.begin_build(app, commit, recipe.clone(), "a".into(), Some("s".into())).await.unwrap();
    assert_eq!((build.number, build.state, build.ended_at), (1, BuildState::Running, None));
    let used = vec![UsedBuildpack { id: "b".into(), version: "1".into(), digest: Some(Digest::of(b"b")) }];
    let image = Digest::of(b"image");
    f.store.end_build(build.id, Ok((image.clone(), used.clone()))).await.unwrap();
    assert_eq!(f.store.image_of_key(app, recipe.clone()).await.unwrap(), Some((image.clone(), used.clone())));
    assert_eq!(f.store.image_of_key(app, image.clone()).await.unwrap(), None);
    let [read] = f.store.builds(app, 10).await.unwrap().try_into().unwrap();
    assert!(read.ended_at.is_some());
    let succeeded = (BuildState::Succeeded, Some(image), used);
    assert_eq!((read.state, read.image.clone(), read.buildpacks.clone()), succeeded);
    let begun = Build { state: build.state, image: None, buildpacks: vec![], ended_at: None, ..read };
    assert_eq!(begun, build);
}

#[tokio::test]
async fn packages_and_chosen_buildpacks_are_read_back() {
    let f = fixture();
    let app = f.app("a").await.id;
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    f.store.add_package(one.clone(), "https://one.example".into(), true).await.unwrap();
    f.store.add_package(two.clone(), "https://two.example".into(), false).await.unwrap();
    let chosen = [
        ChosenBuildpack { source: "docker://registry.example/two:1".parse().unwrap(), package: Some(two.clone()) },
        ChosenBuildpack { source: "nodejs".parse().unwrap(), package: None },
    ];
    let change = chosen.to_vec();
    f.store.change_app_buildpacks(app, |_| Ok(change)).await.unwrap();
    assert_eq!(f.store.app_buildpacks(app).await.unwrap(), chosen);
    let refused = f.store.change_app_buildpacks(app, |_| Err("no such buildpack".into())).await.unwrap_err();
    assert_eq!(refused.to_string(), "no such buildpack");

    f.store.uninstall_package(one.clone()).await.unwrap();
    assert_eq!(f.store.forget_unused_packages().await.unwrap(), [one], "the other is chosen");
    let left = PackageRow { digest: two, source: "https://two.example".into(), installed: false };
    assert_eq!(f.store.packages().await.unwrap(), [left]);
}

#[tokio::test]
async fn a_stack_gets_a_revision_only_when_its_images_change() {
    let f = fixture();
    let images = |text: &[u8]| StackImages {
        run: Digest::of(text),
        build: Digest::of(b"build"),
        distribution: Distribution::default(),
    };
    let source = StackSource::Images { run: "run".into(), build: "build".into() };
    let first = f.store.put_stack("s".into(), source.clone(), false, images(b"1")).await.unwrap();
    let again = f.store.put_stack("s".into(), source.clone(), false, images(b"1")).await.unwrap_err();
    assert!(matches!(again, StoreError::Taken(_)), "{again}");
    assert_eq!(f.store.put_stack("s".into(), source.clone(), true, images(b"1")).await.unwrap(), first);
    let second = f.store.add_stack_revision("s".into(), images(b"2")).await.unwrap();
    assert_eq!((first.number, second.number), (1, 2));
    assert_eq!(f.store.stack_revisions(Some("s".into())).await.unwrap(), [second.clone(), first.clone()]);
    assert_eq!(f.store.stack_revisions(None).await.unwrap(), [second, first]);
    assert_eq!(f.store.stacks().await.unwrap(), [("s".to_owned(), source)]);

    let app = f.app("a").await.id;
    assert!(!f.store.set_app_stack(app, Some("unknown".into())).await.unwrap());
    assert!(f.store.set_app_stack(app, Some("s".into())).await.unwrap());
    assert!(!f.store.remove_stack("s".into()).await.unwrap(), "an app has chosen it");
    assert!(f.store.set_app_stack(app, None).await.unwrap());
    assert!(f.store.remove_stack("s".into()).await.unwrap());
}

#[tokio::test]
async fn images_of_the_last_releases_are_in_use() {
    let f = fixture();
    let app = f.app("a").await.id;
    for number in 1..=4 {
        f.release(app, ReleaseKind::Push, BTreeMap::new()).await;
        let deployment = f.store.begin_deployment(app, number).await.unwrap().unwrap();
        f.store.commit_deployment(app, deployment).await.unwrap();
    }
    f.release(app, ReleaseKind::Push, BTreeMap::new()).await;
    f.store.fail_unstarted_release(app, 5).await.unwrap();
    let numbers: Vec<_> = f.store.releases(app, 2).await.unwrap().iter().map(|r| (r.number, r.state)).collect();
    assert_eq!(numbers, [(5, ReleaseState::Failed), (4, ReleaseState::Released)]);
    let mut in_use: Vec<_> = f.store.releases_in_use(2).await.unwrap();
    in_use.sort_by_key(|(_, number, _)| *number);
    assert_eq!(in_use, [(app, 3, Digest::of(b"image")), (app, 4, Digest::of(b"image"))]);
    assert_eq!(f.store.newest_push(app).await.unwrap().unwrap().number, 4);
}

#[tokio::test]
async fn server_id_and_route_version_survive_a_restart() {
    let f = fixture();
    let id = f.store.server_id().await.unwrap();
    let version = f.store.next_route_version().await.unwrap();
    drop(f.store);
    let store = Store::open(f.dir.path()).unwrap();
    assert_eq!(store.server_id().await.unwrap(), id);
    assert!(store.next_route_version().await.unwrap() > version);
}
