use super::*;

fn new_event(operation: &str, effect: Effect, app: Option<AppId>) -> NewEvent {
    let event = NewEvent {
        at: now(),
        actor: Actor {
            user: Some(UserId(7)),
            name: "bob".into(),
            fingerprint: Some("SHA256:x".into()),
            address: Some("192.0.2.1:5000".into()),
            door: Door::Ssh,
        },
        operation: operation.into(),
        effect,
        app,
        app_name: app.map(|_| "shop".parse().unwrap()),
        detail: "web=2".into(),
        outcome: Outcome::Running,
        message: None,
        ended_at: None,
    };
    event.ended(Outcome::Succeeded, None)
}

fn running_event(operation: &str) -> NewEvent {
    NewEvent { outcome: Outcome::Running, ended_at: None, ..new_event(operation, Effect::Change, None) }
}

fn everything() -> EventFilter {
    EventFilter { reads: true, max: 100, ..EventFilter::default() }
}

async fn operations(store: &Store, filter: EventFilter) -> Vec<String> {
    store.events(filter).await.unwrap().into_iter().map(|event| event.operation).collect()
}

#[tokio::test]
async fn an_event_is_recorded_at_its_start_and_at_its_end() {
    let f = fixture();
    let new = running_event("push");
    let id = f.store.add_event(new.clone()).await.unwrap();
    let [running] = f.store.events(everything()).await.unwrap().try_into().unwrap();
    assert_eq!(running, new.clone().recorded(id));

    let about = NewEvent { app: Some(AppId(5)), app_name: Some("shop".parse().unwrap()), ..new.clone() };
    let end = about.ended(Outcome::Failed, Some("npm install failed".into()));
    f.store.end_event(id, end.clone()).await.unwrap();
    f.store.end_event(id, new.ended(Outcome::Succeeded, None)).await.unwrap();
    let [ended] = f.store.events(everything()).await.unwrap().try_into().unwrap();
    assert!(ended.ended_at >= Some(ended.at));
    let expected = end.recorded(id);
    assert_eq!(ended, expected, "an event ends once");
}

#[tokio::test]
async fn every_outcome_is_read_back() {
    let f = fixture();
    for outcome in Outcome::ALL {
        assert_eq!(outcome.as_str().parse(), Ok(outcome));
        let actor = Actor { user: None, name: "local".into(), fingerprint: None, address: None, door: Door::Local };
        let ended_at = (outcome != Outcome::Running).then(now);
        f.store.add_event(NewEvent { actor, outcome, ended_at, ..new_event("a", Effect::Read, None) }).await.unwrap();
    }
    let read = f.store.events(everything()).await.unwrap();
    assert_eq!(read.iter().map(|event| event.outcome).collect::<Vec<_>>(), Outcome::ALL);
    assert!(read.iter().all(|event| event.ended_at.is_none() == (event.outcome == Outcome::Running)));
    assert!(read.iter().all(|event| event.actor.door == Door::Local && event.actor.user.is_none()));
}

#[tokio::test]
async fn the_newest_events_that_match_are_read_oldest_first() {
    let f = fixture();
    let (one, two) = (AppId(1), AppId(2));
    let all = [
        ("a", Effect::Change, Some(one)),
        ("b", Effect::Read, Some(one)),
        ("c", Effect::Change, Some(two)),
        ("d", Effect::Change, None),
        ("e", Effect::Change, Some(one)),
    ];
    let events = all.map(|(operation, effect, app)| new_event(operation, effect, app));
    let ids = f.store.add_events(events.into()).await.unwrap();
    assert!(ids.is_sorted() && ids.len() == 5, "{ids:?}");
    let cases = [
        (everything(), "abcde"),
        (EventFilter { max: 2, ..everything() }, "de"),
        (EventFilter { reads: false, ..everything() }, "acde"),
        (EventFilter { apps: Some(vec![one]), ..everything() }, "abe"),
        (EventFilter { apps: Some(vec![one]), reads: false, max: 1, ..everything() }, "e"),
        (EventFilter { apps: Some(vec![one, two]), ..everything() }, "abce"),
        (EventFilter { apps: Some(vec![two]), ..everything() }, "c"),
        (EventFilter { apps: Some(vec![]), ..everything() }, ""),
        (EventFilter { since: Some(now() + 3_600_000), ..everything() }, ""),
        (EventFilter { since: Some(0), ..everything() }, "abcde"),
    ];
    for (filter, expected) in cases {
        assert_eq!(operations(&f.store, filter.clone()).await.concat(), expected, "{filter:?}");
    }
}

#[tokio::test]
async fn old_events_are_removed_once_they_have_ended() {
    let f = fixture();
    f.store.add_event(new_event("old", Effect::Change, None)).await.unwrap();
    let running = running_event("running");
    f.store.add_event(running).await.unwrap();
    assert_eq!(f.store.remove_old_events(0, 2).await.unwrap(), 0);
    assert_eq!(f.store.remove_old_events(now() + 1, 2).await.unwrap(), 1);
    assert_eq!(operations(&f.store, everything()).await, ["running"]);
}

#[tokio::test]
async fn the_oldest_events_are_removed_when_there_are_too_many() {
    let f = fixture();
    let events = ["a", "b", "c", "d"].map(|operation| new_event(operation, Effect::Read, None));
    f.store.add_events(events.into()).await.unwrap();
    assert_eq!(f.store.remove_old_events(0, 4).await.unwrap(), 0);
    assert_eq!(f.store.remove_old_events(0, 3).await.unwrap(), 1);
    assert_eq!(operations(&f.store, everything()).await, ["b", "c", "d"]);
}

#[tokio::test]
async fn what_ran_when_the_server_stopped_is_interrupted() {
    let f = fixture();
    f.store.add_event(new_event("ended", Effect::Change, None)).await.unwrap();
    let running = running_event("running");
    f.store.add_event(running).await.unwrap();
    f.store.abandon_all_interrupted().await.unwrap();
    let outcomes: Vec<_> = f.store.events(everything()).await.unwrap().iter().map(|event| event.outcome).collect();
    assert_eq!(outcomes, [Outcome::Succeeded, Outcome::Interrupted]);
}

#[tokio::test]
async fn events_outlive_their_app_and_user() {
    let f = fixture();
    let bob = f.user("bob").await;
    let app = f.app("shop").await.id;
    let mut new = new_event("apps:destroy", Effect::Change, Some(app));
    new.actor.user = Some(bob.id);
    f.store.add_event(new).await.unwrap();
    f.store.forget_app(app).await.unwrap();
    f.store.remove_user(bob.id).await.unwrap();
    let [event] =
        f.store.events(EventFilter { apps: Some(vec![app]), ..everything() }).await.unwrap().try_into().unwrap();
    assert_eq!((event.actor.user, event.actor.name.as_str()), (Some(bob.id), "bob"));
}
