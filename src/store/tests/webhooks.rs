use super::*;

fn new(app: AppId, id: &str) -> NewWebhook {
    NewWebhook {
        id: id.to_owned(),
        app,
        url: "https://forge.example/shop.git".parse().unwrap(),
        branch: "main".parse().unwrap(),
        secret: Secret::new("hunter2-webhook"),
        user: None,
    }
}

#[tokio::test]
async fn the_secret_of_a_webhook_is_in_no_file_and_it_ends_with_its_app() {
    let f = fixture();
    let app = f.app("shop").await.id;
    f.store.add_webhook(new(app, "one")).await.unwrap();
    let (webhook, secret) = f.store.webhook("one".into()).await.unwrap().unwrap();
    assert_eq!((webhook.branch.as_str(), secret.expose(), webhook.user), ("main", "hunter2-webhook", None));
    for file in std::fs::read_dir(f.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
    }
    assert_eq!(f.store.webhooks(app).await.unwrap().len(), 1);
    let other = f.app("other").await.id;
    assert!(!f.store.remove_webhook(other, "one".into()).await.unwrap());
    assert!(f.store.remove_webhook(app, "one".into()).await.unwrap());
    assert!(f.store.webhook("one".into()).await.unwrap().is_none());
}

#[tokio::test]
async fn an_event_is_accepted_once_and_the_oldest_are_forgotten() {
    let f = fixture();
    let app = f.app("shop").await.id;
    for id in ["one", "two"] {
        f.store.add_webhook(new(app, id)).await.unwrap();
    }
    assert!(f.store.accept_delivery("one".into(), [7; 32]).await.unwrap());
    assert!(!f.store.accept_delivery("one".into(), [7; 32]).await.unwrap());
    assert!(f.store.accept_delivery("two".into(), [7; 32]).await.unwrap());
    for n in 0..1000_u32 {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        assert!(f.store.accept_delivery("one".into(), hash).await.unwrap());
    }
    assert!(f.store.accept_delivery("one".into(), [7; 32]).await.unwrap(), "it was the oldest");
    assert!(f.store.webhooks(app).await.unwrap()[0].last_delivery_at.is_some());
}
