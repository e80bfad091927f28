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

#[tokio::test]
async fn releases_with_the_same_config_share_a_row_that_goes_with_the_last() {
    let f = fixture();
    let (a, b) = (f.app("a").await.id, f.app("b").await.id);
    let contents = || {
        f.store.read(|t, _| {
            Ok(t.query_row("SELECT count(*) AS n FROM release_configs", [], |row| row.get::<_, u64>("n"))?)
        })
    };
    for _ in 0..20 {
        let release = f.release(a, ReleaseKind::Push, vars("x")).await;
        f.store.fail_unstarted_release(a, release.number).await.unwrap();
    }
    let other = f.release(a, ReleaseKind::Push, vars("y")).await;
    assert_eq!(contents().await.unwrap(), 2);
    assert_eq!(f.store.release(a, 1).await.unwrap().unwrap().config, vars("x"));
    f.release(b, ReleaseKind::Push, vars("x")).await;
    assert_eq!(contents().await.unwrap(), 3, "another app has rows of its own");
    // No row tells which releases of two apps have the same values.
    let hashes = f.store.read(|t, _| {
        Ok(t.query_row("SELECT count(DISTINCT content) AS n FROM release_configs", [], |row| row.get::<_, u64>("n"))?)
    });
    assert_eq!(hashes.await.unwrap(), 3);

    assert_eq!(f.store.prune_releases(10, true).await.unwrap(), [(a, 10)]);
    assert_eq!(f.store.prune_releases(10, false).await.unwrap(), [(a, 10)]);
    assert_eq!(f.store.prune_releases(10, false).await.unwrap(), []);
    let left: Vec<_> = f.store.releases(a, 100).await.unwrap().iter().map(|release| release.number).collect();
    assert_eq!(left, (11..=21).rev().collect::<Vec<_>>());
    f.store.fail_unstarted_release(a, other.number).await.unwrap();
    for _ in 0..10 {
        let release = f.release(a, ReleaseKind::Push, vars("x")).await;
        f.store.fail_unstarted_release(a, release.number).await.unwrap();
    }
    assert_eq!(f.store.prune_releases(10, false).await.unwrap(), [(a, 11)]);
    assert_eq!(contents().await.unwrap(), 2, "nothing has y any more");
    let next = f.release(a, ReleaseKind::Push, vars("z")).await;
    assert_eq!(next.number, 32, "no number is given again");
}

#[tokio::test]
async fn what_runs_or_was_pushed_last_is_never_pruned() {
    let f = fixture();
    let app = f.app("a").await.id;
    f.release(app, ReleaseKind::Push, vars("x")).await;
    let deployment = f.store.begin_deployment(app, 1, None).await.unwrap().unwrap();
    f.store.commit_deployment(app, deployment).await.unwrap();
    for number in 2..=1003 {
        f.release(app, ReleaseKind::Config, vars("x")).await;
        f.store
            .transact(move |t, _| Ok(t.execute("UPDATE releases SET state = 'released' WHERE number = ?1", [number])?))
            .await
            .unwrap();
    }
    // The current one and the newest push are v1.
    assert_eq!(f.store.prune_releases(10, false).await.unwrap(), [(app, 2)]);
    assert!(f.store.release(app, 1).await.unwrap().is_some());
    assert!(f.store.release(app, 3).await.unwrap().is_none() && f.store.release(app, 4).await.unwrap().is_some());
}

#[tokio::test]
async fn config_vars_are_kept_as_long_as_somebody_can_roll_back_to_them() {
    let f = fixture();
    let app = f.app("a").await.id;
    for number in 1..=6 {
        f.release(app, ReleaseKind::Push, vars(&number.to_string())).await;
        // v2 and v6 have one image, the others one each.
        let image = Digest::of(format!("image {}", if number == 2 { 6 } else { number }).as_bytes());
        let set = move |t: &rusqlite::Transaction<'_>| {
            Ok(t.execute("UPDATE releases SET image = ?1 WHERE number = ?2", (image.as_str(), number))?)
        };
        f.store.transact(move |t, _| set(t)).await.unwrap();
        let deployment = f.store.begin_deployment(app, number, None).await.unwrap().unwrap();
        f.store.commit_deployment(app, deployment).await.unwrap();
    }
    let target = |number| f.store.rollback_target(app, number);
    let config_of = |target| match target {
        Some(RollbackTarget::Kept(release)) => Ok((release.number, release.config)),
        Some(RollbackTarget::NotKept(number)) => Err(Some(number)),
        None => Err(None),
    };
    assert_eq!(config_of(target(Some(1)).await.unwrap()), Ok((1, vars("1"))));
    f.store.prune_releases(3, true).await.unwrap();
    assert_eq!(config_of(target(Some(1)).await.unwrap()), Ok((1, vars("1"))), "a dry run removes nothing");
    f.store.prune_releases(3, false).await.unwrap();
    assert_eq!(config_of(target(Some(1)).await.unwrap()), Err(Some(1)));
    assert_eq!(config_of(target(Some(2)).await.unwrap()), Ok((2, vars("2"))), "its image is kept for v6");
    assert_eq!(config_of(target(Some(3)).await.unwrap()), Err(Some(3)));
    assert_eq!(config_of(target(Some(4)).await.unwrap()), Ok((4, vars("4"))));
    assert_eq!(config_of(target(None).await.unwrap()), Ok((5, vars("5"))), "the last before the current");
    assert_eq!(config_of(target(Some(7)).await.unwrap()), Err(None));
    let f7 = f.release(app, ReleaseKind::Push, vars("7")).await;
    f.store.fail_unstarted_release(app, f7.number).await.unwrap();
    assert_eq!(config_of(target(Some(7)).await.unwrap()), Err(None), "it was never live");
    let listed: Vec<_> = f.store.releases(app, 100).await.unwrap().iter().map(|release| release.number).collect();
    assert_eq!(listed, (1..=7).rev().collect::<Vec<_>>(), "a list needs no config vars");
}
