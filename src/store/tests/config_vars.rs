use super::*;

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
