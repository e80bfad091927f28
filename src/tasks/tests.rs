//! Tasks on a runtime in memory, into which failures are injected.

use std::{sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{TaskRequest, Tasks};
use crate::{
    config::Config,
    engine::Input,
    model::{Bindings, Digest, ReleaseManifest, SizeTarget, TaskCommand, TaskKind},
    periodic::Waker,
    store::{App, NewRelease, NewTask, Placement, ReleaseKind, Store, Task, TaskState},
    workload::{
        Purpose, Runtime, Workload, WorkloadBudget,
        memory::{Call, Memory},
    },
};

/// Longest wait for a condition.
const DEADLINE: Duration = Duration::from_secs(30);

struct Fixture {
    config: Arc<Config>,
    store: Store,
    memory: Memory,
    tracker: TaskTracker,
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Arc::new(Config { data_dir: dir.path().to_owned(), ..Config::default() });
        let store = Store::open(dir.path()).unwrap();
        Self { config, store, memory: Memory::default(), tracker: TaskTracker::new(), dir }
    }

    /// A server that has not taken over the tasks of an earlier one yet.
    fn tasks(&self) -> Tasks {
        let runtime = Runtime::Memory(self.memory.clone());
        let (schedule, shutdown) = (Waker::default(), CancellationToken::new());
        Tasks::new(Arc::clone(&self.config), self.store.clone(), runtime, schedule, self.tracker.clone(), shutdown)
    }

    fn running(&self) -> Tasks {
        let tasks = self.tasks();
        tasks.adopt();
        tasks
    }

    /// An app with a current release.
    async fn app(&self) -> App {
        let app = self.store.create_app("hello".parse().unwrap(), None, 10_000..=10_999, vec![]).await.unwrap();
        let new = NewRelease {
            kind: ReleaseKind::Push,
            image: Digest::of(b"image"),
            branch: None,
            commit: None,
            build: None,
            config: std::collections::BTreeMap::new(),
            bindings: Bindings::new(),
            processes: vec![],
            manifest: ReleaseManifest::default(),
            description: String::new(),
            created_by: "me".into(),
        };
        let release = self.store.create_release(app.id, new, Vec::new(), Placement::AtStart).await.unwrap().0;
        let deployment = self.store.begin_deployment(app.id, release.number, None).await.unwrap().unwrap();
        assert!(self.store.commit_deployment(app.id, deployment).await.unwrap());
        self.store.app(app.id).await.unwrap().unwrap()
    }

    /// The row of a task that a server has left behind.
    async fn left(&self, app: &App, id: &str, kind: TaskKind, attached: bool) -> Task {
        let new = NewTask {
            id: id.parse().unwrap(),
            app: app.id,
            kind,
            job: None,
            release: 1,
            command: TaskCommand::Script("true".into()),
            attached,
            limit_seconds: 60,
            created_by: "me".into(),
        };
        self.store.add_task(new, Placement::AtStart).await.unwrap()
    }

    /// The same, and its container, which runs.
    async fn left_running(&self, app: &App, id: &str, kind: TaskKind, attached: bool) -> Task {
        let task = self.left(app, id, kind, attached).await;
        let release = self.store.release(app.id, 1).await.unwrap().unwrap();
        let budget = WorkloadBudget::read(&self.store, app.id, &SizeTarget::Tasks).await.unwrap();
        let (name, grace) = (("run", 1), Duration::from_secs(1));
        let workload = Workload::of_release(id, Purpose::Task, &app.name, &release, name, &[], grace, budget);
        assert_eq!(workload.input, Input::None);
        let runtime = Runtime::Memory(self.memory.clone());
        let container = runtime.create(&workload).await.unwrap();
        self.store.start_task(task.id.clone()).await.unwrap();
        runtime.start(&container).await.unwrap();
        task
    }

    async fn ended(&self, task: &Task) -> Task {
        let ended = async {
            loop {
                let now = self.store.task(task.id.clone()).await.unwrap().unwrap();
                if now.state == TaskState::Ended {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, ended).await.unwrap_or_else(|_| panic!("{} has not ended", task.id))
    }

    async fn until_running(&self, number: usize) {
        let there = async {
            while self.memory.running().len() != number {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, there).await.expect("they run");
    }

    async fn until_removed(&self) {
        let gone = async {
            while !self.memory.containers().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, gone).await.expect("the containers are removed");
    }
}

fn request(limit: Option<u64>) -> TaskRequest {
    TaskRequest {
        kind: TaskKind::Run,
        job: None,
        release: 1,
        command: TaskCommand::Script("true".into()),
        limit: limit.map(Duration::from_secs),
        by: "me".into(),
    }
}

#[tokio::test]
async fn the_end_of_a_task_is_recorded_and_its_container_removed() {
    let f = Fixture::new();
    let (tasks, app) = (f.running(), f.app().await);
    let task = tasks.spawn(&app, request(None)).await.unwrap();
    f.until_running(1).await;
    f.memory.end(task.id.as_str(), 4);
    assert_eq!(tasks.ended(&task).await.unwrap().status, Some(4));
    let limited = tasks.spawn(&app, request(Some(0))).await.unwrap();
    let limited = f.ended(&limited).await;
    assert_eq!(limited.failure().as_deref(), Some("stopped: it ran longer than its limit of 0 s"));
    for call in [Call::Prepare, Call::Create, Call::Start] {
        f.memory.fail_next(call);
        let failed = tasks.spawn(&app, request(None)).await.unwrap();
        let failed = f.ended(&failed).await;
        assert_eq!(failed.status, None, "{call:?}");
        assert!(failed.message.is_some_and(|message| message.contains("injected")), "{call:?}");
    }
    f.until_removed().await;
}

#[tokio::test]
async fn a_task_ends_as_it_does_although_its_output_cannot_be_written() {
    let f = Fixture::new();
    std::fs::write(f.dir.path().join("tasks"), "no folder").unwrap();
    let (tasks, app) = (f.running(), f.app().await);
    let task = tasks.spawn(&app, request(None)).await.unwrap();
    f.until_running(1).await;
    f.memory.end(task.id.as_str(), 0);
    assert_eq!(f.ended(&task).await.failure(), None);
}

#[tokio::test]
async fn a_server_takes_over_what_an_earlier_one_has_left() {
    let f = Fixture::new();
    let app = f.app().await;
    // The release phase of a release is added together.
    let before = f.left(&app, "before", TaskKind::Predeploy, false).await;
    let resumed = f.left_running(&app, "resumed", TaskKind::Release, false).await;
    let after = f.left(&app, "after", TaskKind::Postdeploy, false).await;
    let over = f.left_running(&app, "over", TaskKind::Run, false).await;
    f.memory.end("over", 7);
    let attached = f.left_running(&app, "attached", TaskKind::Run, true).await;
    let lost = f.left_running(&app, "lost", TaskKind::Run, false).await;
    f.memory.lose("lost");
    let queued = f.left(&app, "queued", TaskKind::Run, false).await;
    let tasks = f.running();
    tasks.adopted().await;

    assert_eq!(f.ended(&over).await.status, Some(7));
    assert_eq!(f.ended(&attached).await.failure().unwrap(), "interrupted: the server stopped");
    assert!(f.ended(&lost).await.failure().unwrap().contains("removed by someone else"));
    assert_eq!(f.ended(&before).await.failure().unwrap(), "not run: the server stopped during the deployment");
    f.until_running(2).await;
    assert_eq!(f.memory.running(), ["queued", "resumed"], "the release phase is run one after the other");
    f.memory.end("resumed", 0);
    f.until_running(2).await;
    f.memory.end("queued", 1);
    assert_eq!((f.ended(&resumed).await.status, f.ended(&queued).await.status), (Some(0), Some(1)));
    f.until_running(1).await;
    f.memory.end("after", 0);
    assert_eq!(f.ended(&after).await.status, Some(0));
    f.until_removed().await;
}

#[tokio::test]
async fn a_task_that_is_not_taken_over_yet_is_stopped_once_it_is() {
    let f = Fixture::new();
    let app = f.app().await;
    let left = f.left_running(&app, "left", TaskKind::Run, false).await;
    let tasks = f.tasks();
    let stop = tasks.stop(&left, "stopped by me");
    let (stopped, ()) = tokio::join!(stop, async {
        tokio::task::yield_now().await;
        assert_eq!(f.memory.running(), ["left"]);
        tasks.adopt();
    });
    assert_eq!(stopped.unwrap().failure().as_deref(), Some("stopped by me"));
    assert!(f.memory.running().is_empty());
}

#[tokio::test]
async fn the_tasks_of_a_destroyed_app_are_stopped_and_forgotten() {
    let f = Fixture::new();
    let (tasks, app) = (f.running(), f.app().await);
    tasks.spawn(&app, request(None)).await.unwrap();
    f.until_running(1).await;
    f.memory.fail_next(Call::Stop);
    tasks.remove_app(app.id).await.unwrap();
    assert!(f.store.tasks(app.id, None, 9).await.unwrap().is_empty());
    f.until_removed().await;
}
