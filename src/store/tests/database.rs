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

/// A bound on waits that are expected to be short, so that a failure is no endless wait.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

#[tokio::test]
async fn a_read_does_not_wait_for_a_write_and_sees_what_was_committed() {
    let f = fixture();
    let app = f.app("a").await.id;
    let (written, begun) = tokio::sync::oneshot::channel();
    let (finish, finished) = std::sync::mpsc::channel::<()>();
    let store = f.store.clone();
    let write = tokio::spawn(async move {
        store
            .transact(move |t, _| {
                t.execute("UPDATE apps SET stopped = 1", [])?;
                written.send(()).unwrap();
                finished.recv_timeout(DEADLINE).unwrap();
                Ok(())
            })
            .await
    });
    tokio::time::timeout(DEADLINE, begun).await.unwrap().unwrap();
    let read = tokio::time::timeout(DEADLINE, f.store.app(app)).await.expect("the read waits for the write");
    assert!(!read.unwrap().unwrap().stopped, "the write is not committed");
    finish.send(()).expect("the write waits for this");
    write.await.unwrap().unwrap();
    assert!(f.store.app(app).await.unwrap().unwrap().stopped);
}

#[tokio::test]
async fn all_reads_of_one_transaction_are_of_the_same_moment() {
    let f = fixture();
    f.app("a").await;
    let (store, reader) = (f.store.clone(), f.store.clone());
    let count = |t: &rusqlite::Transaction<'_>| -> Result<u32> {
        Ok(t.query_row("SELECT count(*) AS apps FROM apps", [], |row| row.get("apps"))?)
    };
    let (seen, first) = tokio::sync::oneshot::channel();
    let (go_on, resumed) = std::sync::mpsc::channel::<()>();
    let read = tokio::spawn(async move {
        reader
            .read(move |t, _| {
                seen.send(count(t)?).unwrap();
                resumed.recv_timeout(DEADLINE).unwrap();
                count(t)
            })
            .await
    });
    assert_eq!(first.await.unwrap(), 1);
    store.create_app("b".parse().unwrap(), None, 10_000..=10_001, vec![]).await.unwrap();
    go_on.send(()).unwrap();
    assert_eq!(read.await.unwrap().unwrap(), 1);
    assert_eq!(store.apps().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_read_cannot_write() {
    let f = fixture();
    f.app("a").await;
    let written = f.store.read(|t, _| Ok(t.execute("UPDATE apps SET stopped = 1", [])?)).await;
    assert!(matches!(written, Err(StoreError::Sqlite(_))), "{written:?}");
}
