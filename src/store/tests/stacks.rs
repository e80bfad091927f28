use super::*;

#[tokio::test]
async fn a_stack_gets_a_revision_only_when_its_images_change() {
    let f = fixture();
    let images = |text: &[u8]| StackImages {
        run: Digest::of(text),
        build: Digest::of(b"build"),
        distribution: Distribution::default(),
    };
    let source = StackSource::Images(ImageReferences { run: "run".into(), build: "build".into() });
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
