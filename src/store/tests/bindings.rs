use super::*;
use crate::model::{Binding, BindingValue};

fn bindings(password: &str) -> Bindings {
    let binding = Binding {
        binding_type: "postgresql".parse().unwrap(),
        provider: None,
        values: BTreeMap::from([("password".parse().unwrap(), BindingValue::new(password))]),
    };
    Bindings::from([("db".parse().unwrap(), binding)])
}

#[tokio::test]
async fn bindings_are_encrypted_and_those_of_a_release_become_the_apps() {
    // As JSON writes it.
    const ENCODED: &str = "aHVudGVyMi1wbGFpbg";
    let f = fixture();
    let app = f.app("a").await.id;
    assert_eq!(f.store.bindings(app).await.unwrap(), Bindings::new());
    f.store.replace_bindings(app, bindings("hunter2-plain")).await.unwrap();
    assert_eq!(f.store.bindings(app).await.unwrap(), bindings("hunter2-plain"));
    let new = |kind, bindings| NewRelease {
        kind,
        image: Digest::of(b"image"),
        branch: None,
        commit: None,
        build: None,
        config: ConfigVars::new(),
        bindings,
        processes: vec![],
        manifest: ReleaseManifest::default(),
        description: "test".into(),
        created_by: "me".into(),
    };
    let live = async |new| {
        let release = f.store.create_release(app, new, Vec::new(), Placement::AtStart).await.unwrap().0;
        let deployment = f.store.begin_deployment(app, release.number, None).await.unwrap().unwrap();
        assert!(f.store.commit_deployment(app, deployment).await.unwrap());
        f.store.release(app, release.number).await.unwrap().unwrap().bindings
    };
    assert_eq!(live(new(ReleaseKind::Push, bindings("hunter2-plain"))).await, bindings("hunter2-plain"));
    for file in std::fs::read_dir(f.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("hunter2-plain") && !text.contains(ENCODED));
    }
    // A push leaves what is declared as it is, a change or a rollback declares what the release has.
    assert_eq!(live(new(ReleaseKind::Push, Bindings::new())).await, Bindings::new());
    assert_eq!(f.store.bindings(app).await.unwrap(), bindings("hunter2-plain"));
    live(new(ReleaseKind::Rollback, bindings("other"))).await;
    assert_eq!(f.store.bindings(app).await.unwrap(), bindings("other"));
    live(new(ReleaseKind::Config, Bindings::new())).await;
    assert_eq!(f.store.bindings(app).await.unwrap(), Bindings::new());
    f.store.prune_releases(10, false).await.unwrap();
    assert_eq!(f.store.release(app, 1).await.unwrap().unwrap().bindings, bindings("hunter2-plain"), "it is in use");
}

#[tokio::test]
async fn old_releases_lose_their_config_when_it_is_too_large() {
    const LARGE: usize = 200 << 10;
    let f = fixture();
    let app = f.app("a").await.id;
    let vars = |number: u64| super::vars(&format!("{number:04}").repeat(LARGE / 4));
    for number in 1..=90 {
        assert_eq!(f.release(app, ReleaseKind::Config, vars(number)).await.number, number);
        let deployment = f.store.begin_deployment(app, number, None).await.unwrap().unwrap();
        assert!(f.store.commit_deployment(app, deployment).await.unwrap());
    }
    let kept = async |number| {
        let target = f.store.rollback_target(app, Some(number)).await.unwrap().unwrap();
        match target {
            RollbackTarget::Kept(release) => release.config == vars(number),
            RollbackTarget::NotKept(_) => false,
        }
    };
    for number in 1..=90 {
        assert_eq!(kept(number).await, number > 90 - 81, "{number}");
    }
    let rows = f
        .store
        .read(|t, _| Ok(t.query_row("SELECT count(*) AS n FROM release_configs", [], |row| row.get::<_, u64>("n"))?));
    assert_eq!(rows.await.unwrap(), 81);
}
