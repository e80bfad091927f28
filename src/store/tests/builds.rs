use super::*;

#[tokio::test]
async fn builds_are_read_back() {
    let f = fixture();
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
    for file in std::fs::read_dir(f.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(recipe.hex()), "config vars could be guessed from the key");
    }
    let begun = Build { state: build.state, image: None, buildpacks: vec![], ended_at: None, ..read };
    assert_eq!(begun, build);
}

#[tokio::test]
async fn json_of_another_format_is_refused() {
    let f = fixture();
    let app = f.app("a").await.id;
    let (commit, recipe) = ("1".repeat(40).parse().unwrap(), Digest::of(b"recipe"));
    f.store.begin_build(app, commit, recipe, "a".into(), None).await.unwrap();
    let set = |json: &'static str| {
        let store = f.store.clone();
        async move {
            store.transact(move |t, _| Ok(t.execute("UPDATE builds SET buildpacks = ?1", [json])?)).await.unwrap();
            store.builds(app, 1).await.map(|builds| builds[0].buildpacks.clone()).map_err(|error| error.to_string())
        }
    };
    assert_eq!(set(r#"{"version":1,"value":[]}"#).await, Ok(vec![]));
    let newer = set(r#"{"version":2,"value":{"other":"shape"}}"#).await.unwrap_err();
    assert!(newer.contains("invalid buildpacks: format 2 was written by another version of paas; "), "{newer}");
    assert!(set("[]").await.is_err(), "a value without a version");
}

#[tokio::test]
async fn old_builds_without_a_release_go() {
    let f = fixture();
    let app = f.app("a").await.id;
    let commit: crate::model::CommitId = "1".repeat(40).parse().unwrap();
    let begin = || f.store.begin_build(app, commit.clone(), Digest::of(b"key"), "ann".into(), None);
    let first = begin().await.unwrap();
    f.store.end_build(first.id, Err("no".into())).await.unwrap();
    f.store
        .transact(move |t, _| {
            let sql = "INSERT INTO builds (app, number, commit_id, key, pusher, state, buildpacks, started_at)
                 SELECT app, number + ?1, commit_id, key, pusher, state, buildpacks, started_at FROM builds WHERE number = 1";
            (1..=1001).try_for_each(|number| t.execute(sql, [number]).map(drop)).map_err(Into::into)
        })
        .await
        .unwrap();
    f.store.prune_releases(10, false).await.unwrap();
    let left = f.store.builds(app, u32::MAX).await.unwrap();
    assert_eq!((left.len(), left[0].number, left[999].number), (1000, 1002, 3));
    assert_eq!(begin().await.unwrap().number, 1003);
}
