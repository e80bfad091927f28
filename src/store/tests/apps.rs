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
