use super::*;

#[tokio::test]
async fn names_and_ports_are_unique() {
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
    assert!(error.to_string().contains("belongs to another app"), "{error}");
    f.store.set_port_mappings(one.id, mapping(7000)).await.unwrap();
    assert_eq!(f.store.port_mappings(one.id).await.unwrap(), mapping(7000));
    f.store.set_port_mappings(one.id, vec![]).await.unwrap();
    assert_eq!(f.store.port_mappings(one.id).await.unwrap()[0].host_port, 10_000, "the automatic port is active again");
}

#[tokio::test]
async fn build_settings_are_read_back() {
    let f = fixture();
    let app = f.app("one").await;
    assert_eq!((app.dockerfile, app.build_target), (None, None));
    let read = async || {
        let app = f.store.app(app.id).await.unwrap().unwrap();
        (app.dockerfile.map(|path| path.to_string()), app.build_target.map(|stage| stage.to_string()))
    };
    f.store.set_dockerfile(app.id, Some("./docker/Dockerfile".parse().unwrap())).await.unwrap();
    f.store.set_build_target(app.id, Some("final".parse().unwrap())).await.unwrap();
    assert_eq!(read().await, (Some("docker/Dockerfile".into()), Some("final".into())));
    f.store.set_dockerfile(app.id, None).await.unwrap();
    f.store.set_build_target(app.id, None).await.unwrap();
    assert_eq!(read().await, (None, None));
}
