use super::*;

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
