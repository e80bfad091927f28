use super::*;

#[tokio::test]
async fn images_of_the_last_releases_are_in_use() {
    let f = fixture();
    let app = f.app("a").await.id;
    for number in 1..=4 {
        f.release(app, ReleaseKind::Push, BTreeMap::new()).await;
        let deployment = f.store.begin_deployment(app, number, None).await.unwrap().unwrap();
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
async fn config_vars_of_another_format_are_refused() {
    let f = fixture();
    let app = f.app("a").await.id;
    let release = f.release(app, ReleaseKind::Push, vars("x")).await;
    assert_eq!(f.store.release(app, release.number).await.unwrap(), Some(release.clone()));
    f.store.transact(|t, _| Ok(t.execute("UPDATE releases SET config_version = 2", [])?)).await.unwrap();
    let error = f.store.release(app, release.number).await.unwrap_err().to_string();
    assert!(error.contains("invalid config: format 2 was written by another version of paas; "), "{error}");
}
