use super::log::{AuditLog, MAX_TEXT_CHARS};
use crate::{
    operations::Caller,
    store::{Effect, Event, EventFilter, NewEvent, Outcome, Store},
};

struct Fixture {
    log: AuditLog,
    store: Store,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Self { log: AuditLog::open(store.clone()).await.unwrap(), store, folder }
    }

    async fn events(&self) -> Vec<Event> {
        self.log.flush().await;
        self.store.events(EventFilter { reads: true, max: 100, ..EventFilter::default() }).await.unwrap()
    }
}

fn event(operation: &str, effect: Effect) -> NewEvent {
    NewEvent::begun(Caller::local().actor, operation, effect)
}

#[tokio::test]
async fn an_operation_that_is_gone_without_a_result_is_interrupted() {
    let f = Fixture::new().await;
    let mut followed = f.log.follow();
    drop(f.log.begin(event("ps:scale", Effect::Change)).await.unwrap());
    let [interrupted] = f.events().await.try_into().unwrap();
    assert_eq!((interrupted.outcome, interrupted.ended_at.is_some()), (Outcome::Interrupted, true));
    assert_eq!(followed.recv().await.unwrap().outcome, Outcome::Interrupted);
    f.log.begin(event("ps:stop", Effect::Change)).await.unwrap().end((Outcome::Succeeded, None)).await;
    assert_eq!(f.events().await[1].outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn texts_are_cut_to_a_length() {
    let f = Fixture::new().await;
    let long = "ü".repeat(MAX_TEXT_CHARS + 1);
    f.log.record(NewEvent { detail: long.clone(), message: Some(long), ..event("a", Effect::Read) });
    let [event] = f.events().await.try_into().unwrap();
    let cut = format!("{}…", "ü".repeat(MAX_TEXT_CHARS));
    assert_eq!((event.detail.as_str(), event.message.as_deref()), (cut.as_str(), Some(cut.as_str())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_record_a_read_waits_for_no_writer() {
    let f = Fixture::new().await;
    let mut other = rusqlite::Connection::open(f.folder.path().join("paas.db")).unwrap();
    let writing = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    f.log.record(event("apps:list", Effect::Read));
    assert_eq!(f.store.apps().await.unwrap(), []);
    let unwritten = f.store.events(EventFilter { reads: true, max: 1, ..EventFilter::default() }).await.unwrap();
    assert_eq!(unwritten, [], "the other transaction still holds the database");
    drop(writing);
    assert_eq!(f.events().await.len(), 1);
}

#[tokio::test]
async fn while_the_log_is_off_only_its_switch_is_recorded() {
    let f = Fixture::new().await;
    f.log.switch(false).await.unwrap();
    f.log.record(event("apps:list", Effect::Read));
    f.log.begin(event("ps:scale", Effect::Change)).await.unwrap().end((Outcome::Succeeded, None)).await;
    f.log.begin(event("events:on", Effect::Change)).await.unwrap().end((Outcome::Succeeded, None)).await;
    assert_eq!(f.events().await.len(), 1);
}
