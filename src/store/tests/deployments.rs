use super::*;
use crate::store::Placement;

#[tokio::test]
async fn a_deployment_is_either_committed_or_abandoned() {
    let f = fixture();
    let app = f.app("a").await.id;
    let release = f.release(app, ReleaseKind::Push, BTreeMap::new()).await;
    let deployment = f.store.begin_deployment(app, release.number, None).await.unwrap().unwrap();
    assert!(f.store.newest_push(app).await.unwrap().is_none());
    assert!(f.store.commit_deployment(app, deployment).await.unwrap());
    assert!(!f.store.abandon_deployment(app, deployment).await.unwrap(), "it is committed");
    assert_eq!(f.store.app(app).await.unwrap().unwrap().current, Some(deployment));
    assert!(f.store.app(app).await.unwrap().unwrap().formation.is_empty(), "only scaling declares quantities");
    assert!(!f.store.newest_push(app).await.unwrap().unwrap().ref_set);
    f.store.note_ref_set(app, release.number).await.unwrap();
    assert!(f.store.newest_push(app).await.unwrap().unwrap().ref_set);

    let second = f.release(app, ReleaseKind::Push, BTreeMap::new()).await;
    let late = f.store.begin_deployment(app, second.number, None).await.unwrap().unwrap();
    assert!(f.store.abandon_deployment(app, late).await.unwrap());
    assert!(!f.store.commit_deployment(app, late).await.unwrap(), "it is abandoned");
    assert_eq!(f.store.release(app, second.number).await.unwrap().unwrap().state, ReleaseState::Failed);
    assert_eq!(f.store.app(app).await.unwrap().unwrap().current, Some(deployment));
}

#[tokio::test]
async fn vars_of_a_config_release_take_effect_at_its_commit() {
    let f = fixture();
    let app = f.app("a").await.id;
    let release = f.release(app, ReleaseKind::Config, vars("new")).await;
    assert!(f.store.config_vars(app).await.unwrap().is_empty());
    let deployment = f.store.begin_deployment(app, release.number, None).await.unwrap().unwrap();
    f.store.commit_deployment(app, deployment).await.unwrap();
    assert_eq!(f.store.config_vars(app).await.unwrap(), vars("new"));
}

/// An app with instances `web.1`, `worker.1`, and a retiring `worker.2`, of the current deployment of release 1.
async fn running(f: &Fixture) -> (AppId, Deployment) {
    let app = f.app("a").await.id;
    let release = f.release(app, ReleaseKind::Push, BTreeMap::new()).await.number;
    let deployment = f.store.begin_deployment(app, release, None).await.unwrap().unwrap();
    assert!(f.store.commit_deployment(app, deployment).await.unwrap());
    for (id, process_type, state) in [
        ("web-1", "web", InstanceState::Healthy),
        ("worker-1", "worker", InstanceState::Healthy),
        ("worker-2", "worker", InstanceState::Retiring),
    ] {
        let new = NewInstance {
            id: id.parse().unwrap(),
            app,
            generation: deployment.generation,
            release,
            process_type: process_type.parse().unwrap(),
            ordinal: 1,
            restarts: 0,
            not_before: 0,
            port: 8080,
            last_failure: None,
        };
        f.store.add_instance(new, Placement::AtStart).await.unwrap();
        f.store.set_instance(id.parse().unwrap(), Some(format!("c-{id}")), state).await.unwrap();
    }
    (app, deployment)
}

async fn generations(f: &Fixture, app: AppId) -> BTreeMap<String, u64> {
    let rows = f.store.instances(app).await.unwrap();
    rows.into_iter().map(|row| (row.id.to_string(), row.generation)).collect()
}

#[tokio::test]
async fn a_restart_of_one_process_type_moves_the_other_instances_to_its_generation() {
    let f = fixture();
    let (app, first) = running(&f).await;
    let other = running_elsewhere(&f, first).await;
    let before = f.store.instances(app).await.unwrap();
    let second = f.store.begin_deployment(app, 1, Some(ProcessType::web())).await.unwrap().unwrap();
    assert_eq!(f.store.app(app).await.unwrap().unwrap().candidate_process_type, Some(ProcessType::web()));
    assert_eq!(f.store.instances(app).await.unwrap(), before, "nothing moves before the commit");
    assert!(f.store.commit_deployment(app, second).await.unwrap());
    let moved = f.store.app(app).await.unwrap().unwrap();
    assert_eq!((moved.current, moved.candidate, moved.candidate_process_type), (Some(second), None, None));
    let (old, new) = (first.generation, second.generation);
    let expected = [("web-1", old), ("worker-1", new), ("worker-2", old)].map(|(id, n)| (id.to_owned(), n));
    assert_eq!(generations(&f, app).await, expected.into());
    let worker = f.store.instance("worker-1".parse().unwrap()).await.unwrap().unwrap();
    let same = before.into_iter().find(|row| row.id == worker.id).unwrap();
    assert_eq!(worker, Instance { generation: new, ..same }, "only its generation changes");
    assert_eq!(f.store.instance(other.clone()).await.unwrap().unwrap().generation, old, "another app's is untouched");
}

async fn running_elsewhere(f: &Fixture, deployment: Deployment) -> crate::model::InstanceId {
    let new = NewInstance {
        id: "other-worker-1".parse().unwrap(),
        app: f.app("other").await.id,
        generation: deployment.generation,
        release: deployment.release,
        process_type: "worker".parse().unwrap(),
        ordinal: 1,
        restarts: 0,
        not_before: 0,
        port: 8080,
        last_failure: None,
    };
    f.store.add_instance(new, Placement::AtStart).await.unwrap().id
}

#[tokio::test]
async fn a_restart_of_all_process_types_moves_no_instance() {
    let f = fixture();
    let (app, _) = running(&f).await;
    let before = generations(&f, app).await;
    let second = f.store.begin_deployment(app, 1, None).await.unwrap().unwrap();
    assert!(f.store.commit_deployment(app, second).await.unwrap());
    assert_eq!(generations(&f, app).await, before);
}

#[tokio::test]
async fn an_abandoned_restart_of_one_process_type_leaves_everything_as_it_was() {
    let f = fixture();
    let (app, first) = running(&f).await;
    let before = generations(&f, app).await;
    let restart = || f.store.begin_deployment(app, 1, Some(ProcessType::web()));
    let is_as_before = || async {
        let found = f.store.app(app).await.unwrap().unwrap();
        assert_eq!((found.current, found.candidate, found.candidate_process_type), (Some(first), None, None));
        assert_eq!(generations(&f, app).await, before);
        assert_eq!(f.store.release(app, 1).await.unwrap().unwrap().state, ReleaseState::Released);
    };
    let second = restart().await.unwrap().unwrap();
    assert!(f.store.abandon_deployment(app, second).await.unwrap());
    assert!(!f.store.commit_deployment(app, second).await.unwrap(), "it is abandoned");
    is_as_before().await;
    restart().await.unwrap().unwrap();
    f.store.abandon_all_interrupted().await.unwrap();
    is_as_before().await;

    // A full restart in place of one of a process type restarts all.
    restart().await.unwrap().unwrap();
    f.store.begin_deployment(app, 1, None).await.unwrap().unwrap();
    assert_eq!(f.store.app(app).await.unwrap().unwrap().candidate_process_type, None);
}

#[tokio::test]
async fn one_process_type_of_another_release_is_not_deployed() {
    let f = fixture();
    let (app, first) = running(&f).await;
    let next = f.release(app, ReleaseKind::Push, BTreeMap::new()).await.number;
    let error = f.store.begin_deployment(app, next, Some(ProcessType::web())).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)));
    assert!(error.to_string().starts_with("v2 is not the current release"), "{error}");
    let found = f.store.app(app).await.unwrap().unwrap();
    assert_eq!((found.current, found.candidate), (Some(first), None));
}
