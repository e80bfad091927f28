use std::net::IpAddr;

use super::*;
use crate::model::{AddressPlan, Concurrency, CronJob, ReleaseManifest, TaskCommand, TaskKind};

fn plan() -> AddressPlan {
    "10.210.0.0/16".parse().unwrap()
}

fn new(app: AppId, id: &str, kind: TaskKind) -> NewTask {
    NewTask {
        id: id.parse().unwrap(),
        app,
        kind,
        job: (kind == TaskKind::Cron).then(|| "job".to_owned()),
        release: 1,
        command: TaskCommand::Script("true".into()),
        attached: false,
        limit_seconds: 60,
        created_by: "ann".into(),
    }
}

fn ids(tasks: &[Task]) -> Vec<&str> {
    tasks.iter().map(|task| task.id.as_str()).collect()
}

#[tokio::test]
async fn the_first_end_of_a_task_counts_and_frees_its_address() {
    let f = fixture();
    let app = f.app("a").await.id;
    let placement = Placement::Local(plan());
    let task = f.store.add_task(new(app, "one", TaskKind::Run), placement).await.unwrap();
    assert_eq!((task.name.to_string().as_str(), task.endpoint), ("run.1", Some(IpAddr::V4(plan().instance(0, 0)))));
    assert_eq!(task.failure().as_deref(), Some("has not ended"));
    assert!(f.store.start_task(task.id.clone()).await.unwrap());
    let ended = f.store.end_task(task.id.clone(), Some(0), None).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.failure()), (TaskState::Ended, None));
    let again = f.store.end_task(task.id.clone(), Some(1), Some("late".into())).await.unwrap().unwrap();
    assert_eq!(again, ended);
    assert!(!f.store.start_task(task.id).await.unwrap(), "it has ended");
    for n in 0..1000 {
        let next = f.store.add_task(new(app, &format!("t{n}"), TaskKind::Run), placement).await.unwrap();
        f.store.end_task(next.id, None, None).await.unwrap();
    }
    let last = f.store.add_task(new(app, "last", TaskKind::Run), placement).await.unwrap();
    assert_eq!(last.endpoint, Some(IpAddr::V4(plan().instance(0, 1))), "the longest free address is used next");
}

#[tokio::test]
async fn an_app_has_a_limited_number_of_tasks_and_none_while_it_is_destroyed() {
    let f = fixture();
    let app = f.app("a").await.id;
    for n in 0..20 {
        f.store.add_task(new(app, &format!("t{n}"), TaskKind::Run), Placement::AtStart).await.unwrap();
    }
    let refused = f.store.add_task(new(app, "more", TaskKind::Run), Placement::AtStart).await.unwrap_err();
    assert!(matches!(refused, StoreError::Exhausted(_)), "{refused}");
    let other = f.app("b").await.id;
    f.store.mark_destroying(other).await.unwrap();
    let refused = f.store.add_task(new(other, "late", TaskKind::Run), Placement::AtStart).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
}

#[tokio::test]
async fn old_tasks_are_forgotten_but_not_the_last_run_of_a_job() {
    let f = fixture();
    let app = f.app("a").await.id;
    for (id, kind) in
        [("old", TaskKind::Run), ("job", TaskKind::Cron), ("run1", TaskKind::Run), ("run2", TaskKind::Run)]
    {
        f.store.add_task(new(app, id, kind), Placement::AtStart).await.unwrap();
        f.store.end_task(id.parse().unwrap(), Some(0), None).await.unwrap();
    }
    f.store.add_task(new(app, "runs", TaskKind::Run), Placement::AtStart).await.unwrap();
    assert_eq!(ids(&f.store.forget_tasks(app, 2).await.unwrap()), ["old"]);
    assert_eq!(ids(&f.store.tasks(app, None, 9).await.unwrap()), ["runs", "run2", "run1", "job"]);
    assert_eq!(ids(&f.store.forget_tasks(app, 0).await.unwrap()), ["job", "run1", "run2"]);
    assert_eq!(ids(&f.store.unended_tasks().await.unwrap()), ["runs"]);
}

#[tokio::test]
async fn a_long_task_that_ends_last_is_kept() {
    let f = fixture();
    let app = f.app("a").await.id;
    for id in ["long", "short1", "short2"] {
        f.store.add_task(new(app, id, TaskKind::Run), Placement::AtStart).await.unwrap();
    }
    for id in ["short1", "short2", "long"] {
        f.store.end_task(id.parse().unwrap(), Some(0), None).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert_eq!(ids(&f.store.forget_tasks(app, 1).await.unwrap()), ["short1", "short2"]);
}

/// Makes a release with this job, or without one, the current one.
async fn deploy(f: &Fixture, app: AppId, job: Option<&str>) {
    let cron = job.map(|id| CronJob {
        id: id.into(),
        command: "true".into(),
        schedule: "@daily".into(),
        time_zone: "UTC".into(),
        concurrency: Concurrency::Forbid,
        timeout_seconds: None,
        maintenance: false,
    });
    let manifest = ReleaseManifest { cron: cron.into_iter().collect(), ..ReleaseManifest::default() };
    let release = f.release_with(app, ReleaseKind::Push, BTreeMap::new(), manifest).await.number;
    let deployment = f.store.begin_deployment(app, release, None).await.unwrap().unwrap();
    assert!(f.store.commit_deployment(app, deployment).await.unwrap());
}

#[tokio::test]
async fn a_job_is_known_from_the_commit_of_its_release_on_until_one_without_it() {
    let f = fixture();
    let app = f.app("a").await.id;
    assert_eq!(f.store.cron_job(app, "job".into()).await.unwrap(), None);
    deploy(&f, app, Some("job")).await;
    let first = f.store.cron_job(app, "job".into()).await.unwrap().unwrap();
    assert_eq!((first.suspended, first.missed, first.skipped), (false, 0, 0));
    f.store.suspend_job(app, "job".into(), true).await.unwrap();
    deploy(&f, app, Some("job")).await;
    assert!(
        f.store.cron_job(app, "job".into()).await.unwrap().unwrap().suspended,
        "the next release keeps what is known"
    );
    assert_eq!(f.store.apps_with_jobs().await.unwrap(), [app]);
    deploy(&f, app, None).await;
    assert_eq!(f.store.cron_job(app, "job".into()).await.unwrap(), None);
    assert!(f.store.apps_with_jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_run_deals_with_its_due_time_and_does_not_overlap_if_it_must_not() {
    let f = fixture();
    let app = f.app("a").await.id;
    deploy(&f, app, Some("job")).await;
    let run = |id: &str, due, concurrency| {
        let times = JobTimes { due, missed: 2, concurrency };
        f.store.add_job_run(new(app, id, TaskKind::Cron), times, Placement::AtStart)
    };
    let state = || async { f.store.cron_job(app, "job".into()).await.unwrap().unwrap() };
    assert!(
        matches!(run("one", Some(7_000), Concurrency::Forbid).await.unwrap(), AddedRun::Added(_, others) if others.is_empty())
    );
    assert_eq!((state().await.checked_at, state().await.missed), (7_000, 2));
    match run("two", Some(8_000), Concurrency::Forbid).await.unwrap() {
        AddedRun::Overlaps(other) => assert_eq!(other.id.as_str(), "one"),
        AddedRun::Added(..) => panic!("it overlaps"),
    }
    assert_eq!((state().await.checked_at, state().await.skipped), (8_000, 1));
    match run("three", None, Concurrency::Replace).await.unwrap() {
        AddedRun::Added(_, others) => assert_eq!(ids(&others), ["one"]),
        AddedRun::Overlaps(_) => panic!("it may overlap"),
    }
    assert_eq!(state().await.checked_at, 8_000, "a run by hand is for no due time");
    f.store.end_task("one".parse().unwrap(), Some(3), None).await.unwrap();
    f.store.end_task("three".parse().unwrap(), Some(3), None).await.unwrap();
    assert_eq!(ids(&f.store.unreported_runs().await.unwrap()), ["one"]);
    f.store.set_reported("one".parse().unwrap()).await.unwrap();
    assert!(f.store.unreported_runs().await.unwrap().is_empty());
    f.store.pass_job(app, "job".into(), 9_000, NoRun::Missed(3)).await.unwrap();
    assert_eq!((state().await.checked_at, state().await.missed, state().await.skipped), (9_000, 7, 1));
}

#[tokio::test]
async fn the_endpoints_of_this_machine_follow_the_configured_range() {
    let f = fixture();
    let app = f.app("a").await.id;
    let task = f.store.add_task(new(app, "one", TaskKind::Run), Placement::Local(plan())).await.unwrap();
    let moved: AddressPlan = "10.9.0.0/16".parse().unwrap();
    f.store.set_local_endpoints(moved).await.unwrap();
    let task = f.store.task(task.id).await.unwrap().unwrap();
    assert_eq!(task.endpoint, Some(IpAddr::V4(moved.instance(0, 0))));
}
