use super::*;

#[tokio::test]
async fn server_id_and_route_version_survive_a_restart() {
    let f = fixture();
    let id = f.store.server_id().await.unwrap();
    let version = f.store.next_route_version().await.unwrap();
    drop(f.store);
    let store = Store::open(f.dir.path()).unwrap();
    assert_eq!(store.server_id().await.unwrap(), id);
    assert!(store.next_route_version().await.unwrap() > version);
}
