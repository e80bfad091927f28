//! The reconciler on a runtime in memory, into which failures are injected. The database and the router are real.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU16, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{InstanceReport, Instances, ReportState, RolloutError, StartedInstances};
use crate::{
    config::Config,
    model::{
        Bindings, CheckMode, CheckType, DeclaredCheck, Digest, Exposure, HealthCheck, HttpProbe, Line, Probe, Process,
        ProcessType, ReleaseManifest, ReleaseNumber,
    },
    periodic::Driver,
    progress::Progress,
    router::Link,
    store::{App, Mount, MountSource, NewRelease, ProcessSpec, ReleaseKind, ReleaseState, Store, StoreError},
    workload::{
        DiskWatch, Runtime, Subjects,
        memory::{Call, Memory},
    },
};

/// Longest wait for a condition.
const DEADLINE: Duration = Duration::from_secs(30);

static FIXTURES: AtomicU8 = AtomicU8::new(1);

struct Fixture {
    config: Arc<Config>,
    store: Store,
    memory: Memory,
    router: Option<std::thread::JoinHandle<()>>,
    stop_router: CancellationToken,
    _dir: tempfile::TempDir,
}

struct Server {
    instances: Instances,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Server {
    async fn stop(self) {
        self.shutdown.cancel();
        self.tracker.close();
        tokio::time::timeout(DEADLINE, self.tracker.wait()).await.expect("all tasks end");
    }

    async fn rollout(&self, app: &App, release: ReleaseNumber) -> Result<(), RolloutError> {
        let (progress, mut lines) = Progress::channel();
        let cancel = CancellationToken::new();
        let rollout = self.instances.rollout(app.id, release, &progress, &cancel);
        tokio::select! {
            result = rollout => result,
            () = async { while lines.recv().await.is_some() {} } => unreachable!("the progress lives as long as the rollout"),
        }
    }

    async fn settle(&self, app: &App) -> Result<(), RolloutError> {
        self.settle_started(app, StartedInstances::default()).await.0
    }

    /// The same for a caller that started these instances, with the lines for it.
    async fn settle_started(&self, app: &App, started: StartedInstances) -> (Result<(), RolloutError>, Vec<Line>) {
        let (progress, mut pending) = Progress::channel();
        let result = self.instances.settle(app.id, started, &progress, &CancellationToken::new()).await;
        drop(progress);
        let mut lines = Vec::new();
        while let Some(line) = pending.recv().await {
            lines.push(line);
        }
        (result, lines)
    }

    async fn report(&self, app: &App) -> Vec<InstanceReport> {
        self.instances.report(app.id).await.unwrap()
    }
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
        config.router.listen = vec![[127, 79, 0, FIXTURES.fetch_add(1, Ordering::Relaxed)].into()];
        config.router.workers = 1;
        config.instances.drain_seconds = 1;
        let config = Arc::new(config);
        let stop_router = CancellationToken::new();
        let (of_router, stop) = (Arc::clone(&config), stop_router.clone());
        let router = Some(std::thread::spawn(move || crate::router::run(&of_router, stop).unwrap()));
        let store = Store::open(dir.path()).unwrap();
        Self { config, store, memory: Memory::default(), router, stop_router, _dir: dir }
    }

    async fn server(&self) -> Server {
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let link = Link::start(self.config.data_dir.join("router.sock"), &tracker, shutdown.clone());
        let driver = Driver::new(tracker.clone(), shutdown.clone());
        let (config, store) = (Arc::clone(&self.config), self.store.clone());
        let runtime = Runtime::Memory(self.memory.clone());
        let started = Instances::start(config, store, runtime, link, &driver, &tracker, shutdown.clone());
        Server { instances: started.await.unwrap(), tracker, shutdown }
    }

    async fn app(&self) -> App {
        self.store.create_app("hello".parse().unwrap(), None, 10_000..=10_999, vec![]).await.unwrap()
    }

    /// A release with these quantities of a process type that is healthy as soon as it runs.
    async fn release(&self, app: &App, quantity: u32) -> ReleaseNumber {
        self.release_with(app, quantity, 8080, Vec::new()).await
    }

    /// The same, with a port and more health checks.
    async fn release_with(&self, app: &App, quantity: u32, port: u16, checks: Vec<DeclaredCheck>) -> ReleaseNumber {
        let process = Process {
            process_type: "worker".parse().unwrap(),
            command: vec![],
            args: vec![],
            direct: false,
            default: false,
            working_dir: None,
        };
        let soon = Duration::from_millis(5);
        let health_check = HealthCheck { probe: Probe::Uptime(soon), ..HealthCheck::default_for(Exposure::Nothing) };
        let exposes = Exposure::Nothing;
        let spec = ProcessSpec {
            process,
            exposes,
            health_checks: [vec![health_check.into()], checks].concat(),
            default_quantity: quantity,
            port,
            own_user: false,
        };
        let new = NewRelease {
            kind: ReleaseKind::Push,
            image: Digest::of(b"image"),
            branch: None,
            commit: None,
            build: None,
            config: std::collections::BTreeMap::new(),
            bindings: Bindings::new(),
            processes: vec![spec],
            manifest: ReleaseManifest::default(),
            description: String::new(),
            created_by: "me".into(),
        };
        let placement = Runtime::Memory(self.memory.clone()).placement();
        self.store.create_release(app.id, new, Vec::new(), placement).await.unwrap().0.number
    }

    async fn state_of(&self, app: &App, release: ReleaseNumber) -> ReleaseState {
        self.store.release(app.id, release).await.unwrap().unwrap().state
    }

    /// Waits until exactly these many workloads have a container, and all of them run.
    async fn until_left(&self, number: usize) {
        let left = async {
            while self.memory.containers().len() != number || self.memory.running().len() != number {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, left).await;
        assert!(waited.is_ok(), "{number} are wanted, not {:?}", self.memory.containers());
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop_router.cancel();
        let _ = self.router.take().map(std::thread::JoinHandle::join);
    }
}

fn ids(report: &[InstanceReport]) -> Vec<String> {
    report.iter().map(|instance| instance.id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_runs_where_the_runtime_says() {
    let f = Fixture::new();
    let (server, app) = (f.server().await, f.app().await);
    let v1 = f.release(&app, 3).await;
    server.rollout(&app, v1).await.unwrap();
    let report = server.report(&app).await;
    assert_eq!(ids(&report), f.memory.running());
    assert!(report.iter().all(|i| i.state == ReportState::Healthy && i.address.is_some_and(|a| a.is_loopback())));
    f.store.scale(app.id, [("worker".parse().unwrap(), 1)].into()).await.unwrap();
    server.settle(&app).await.unwrap();
    f.until_left(1).await;
    f.store.set_stopped(app.id, true).await.unwrap();
    server.settle(&app).await.unwrap();
    f.until_left(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_function_of_the_runtime_may_fail_and_is_tried_again() {
    let f = Fixture::new();
    let (server, app) = (f.server().await, f.app().await);
    for call in [Call::Prepare, Call::Create, Call::Start, Call::Observe] {
        let release = f.release(&app, 2).await;
        f.memory.fail_next(call);
        server.rollout(&app, release).await.unwrap_or_else(|error| panic!("{call:?}: {error}"));
        assert_eq!(f.state_of(&app, release).await, ReleaseState::Released, "{call:?}");
        f.until_left(2).await;
    }
    for call in [Call::Stop, Call::Remove] {
        let release = f.release(&app, 2).await;
        f.memory.fail_next(call);
        server.rollout(&app, release).await.unwrap();
        f.until_left(2).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_whose_instances_end_at_once_does_not_replace_the_current_one() {
    let f = Fixture::new();
    let (server, app) = (f.server().await, f.app().await);
    let good = f.release(&app, 2).await;
    server.rollout(&app, good).await.unwrap();
    let before = f.memory.running();
    f.memory.end_at_once(Some(3));
    let bad = f.release(&app, 2).await;
    let error = server.rollout(&app, bad).await.unwrap_err().to_string();
    assert!(error.contains("did not become healthy: it exited with status 3"), "{error}");
    assert_eq!(f.state_of(&app, bad).await, ReleaseState::Failed);
    f.until_left(2).await;
    assert_eq!(f.memory.running(), before, "the instances of the current release were not touched");
    f.memory.end_at_once(None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_ends_or_is_lost_is_replaced() {
    let f = Fixture::new();
    let (server, app) = (f.server().await, f.app().await);
    let v1 = f.release(&app, 2).await;
    server.rollout(&app, v1).await.unwrap();
    let replaced = async |gone: &str| {
        let there = async {
            loop {
                let report = server.report(&app).await;
                if report.len() == 2 && report.iter().all(|i| i.state == ReportState::Healthy && i.id.as_str() != gone)
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, there).await.expect("it is replaced");
    };
    let first = f.memory.running().remove(0);
    f.memory.end(&first, 1);
    replaced(&first).await;
    assert_eq!(server.report(&app).await.iter().map(|i| i.restarts).sum::<u32>(), 1);
    // No event tells that a container was removed: the verification finds out.
    let second = f.memory.running().remove(0);
    f.memory.lose(&second);
    server.instances.worker(app.id).verify();
    replaced(&second).await;
    server.stop().await;
}

/// Only what a command started can fail it; that another instance fails at that time is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_a_command_did_not_start_does_not_fail_it() {
    let f = Fixture::new();
    let (server, app) = (f.server().await, f.app().await);
    let v1 = f.release(&app, 2).await;
    server.rollout(&app, v1).await.unwrap();
    f.memory.end_at_once(Some(3));
    let first = server.report(&app).await.remove(0);
    f.memory.end(first.id.as_str(), 3);
    let crashes_again = async {
        while !server.report(&app).await.iter().any(|instance| instance.restarts > 1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, crashes_again).await.expect("its successor fails, too");

    let worker: ProcessType = "worker".parse().unwrap();
    let scale = async |before: u32, after: u32| {
        f.store.scale(app.id, [(worker.clone(), after)].into()).await.unwrap();
        let of = |quantity| [(worker.clone(), quantity)].into();
        server.settle_started(&app, StartedInstances::added(&of(before), &of(after))).await
    };
    let (result, lines) = scale(2, 3).await;
    let error = result.unwrap_err().to_string();
    assert_eq!((error.as_str(), lines), ("worker.3 did not become healthy: it exited with status 3", vec![]));
    let notice = "worker.1 is not healthy: it exited with status 3; this command did not start it, and it is started again \
                  until it is healthy";
    let (result, lines) = scale(3, 2).await;
    assert_eq!((result.map_err(|e| e.to_string()), lines), (Ok(()), vec![Line::Trouble(notice.into())]));
    assert_eq!(server.report(&app).await.iter().filter(|i| i.state != ReportState::Retiring).count(), 2);

    f.store.set_stopped(app.id, true).await.unwrap();
    let (result, lines) = server.settle_started(&app, StartedInstances::default()).await;
    assert_eq!((result.map_err(|e| e.to_string()), lines), (Ok(()), vec![]), "what is stopped does not fail");
    f.until_left(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_adopts_what_runs_and_removes_what_nobody_knows() {
    let f = Fixture::new();
    let (server, app) = (f.server().await, f.app().await);
    let v1 = f.release(&app, 3).await;
    server.rollout(&app, v1).await.unwrap();
    let before = f.memory.running();
    server.stop().await;
    let created = f.memory.count(Call::Create);
    f.memory.end(&before[0], 0);
    f.memory.stray("hello-worker-9-stray");
    let server = f.server().await;
    server.settle(&app).await.unwrap();
    f.until_left(3).await;
    let after = f.memory.running();
    assert!(after.contains(&before[1]) && after.contains(&before[2]), "{before:?} {after:?}");
    assert!(!after.contains(&before[0]));
    assert_eq!(f.memory.count(Call::Create), created + 1, "only the one that had ended is created again");
    let hour = Duration::from_hours(1);
    f.store.change_checks(app.id, move |settings| settings.wait_to_retire = Some(hour)).await.unwrap();
    f.store.mark_destroying(app.id).await.unwrap();
    let destroyed = f.store.app(app.id).await.unwrap().unwrap();
    let limit = server.instances.removal_limit(&destroyed).await.unwrap();
    assert!(limit > hour + f.config.instances.stop_grace(), "an instance may be drained for so long: {limit:?}");
    f.memory.fail_next(Call::Stop);
    server.instances.remove_app(app.id).await.unwrap();
    assert!(f.memory.containers().is_empty());
    server.stop().await;
}

/// Servers at the addresses of the first workloads in memory, all on one port, each with a status of its own.
struct Answers {
    port: u16,
    statuses: Vec<Arc<AtomicU16>>,
    _tasks: JoinSet<()>,
}

impl Answers {
    async fn new() -> Self {
        let first = TcpListener::bind((Ipv4Addr::new(127, 78, 0, 1), 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        for last in 2..=6 {
            listeners.push(TcpListener::bind((Ipv4Addr::new(127, 78, 0, last), port)).await.unwrap());
        }
        let (mut statuses, mut tasks) = (Vec::new(), JoinSet::new());
        for listener in listeners {
            let status = Arc::new(AtomicU16::new(200));
            statuses.push(Arc::clone(&status));
            tasks.spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut request = [0; 1024];
                    let _ = stream.read(&mut request).await;
                    let status = status.load(Ordering::Relaxed);
                    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 4\r\n\r\nwhy?");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
        Self { port, statuses, _tasks: tasks }
    }

    /// Sets what the server at the address of an instance answers.
    fn set(&self, instance: &InstanceReport, status: u16) {
        let Some(std::net::IpAddr::V4(address)) = instance.address else { panic!("{instance:?}") };
        self.statuses[usize::from(address.octets()[3]) - 1].store(status, Ordering::Relaxed);
    }
}

fn check(check_type: CheckType, attempts: u32) -> DeclaredCheck {
    DeclaredCheck {
        check_type,
        probe: Some(Probe::Http(HttpProbe::get("/state"))),
        attempts: Some(attempts),
        wait: Some(Duration::from_secs(1)),
        ..DeclaredCheck::default()
    }
}

async fn until_reported(server: &Server, app: &App, what: &str, holds: impl Fn(&[InstanceReport]) -> bool) {
    let held = async {
        while !holds(&server.report(app).await) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, held).await;
    assert!(waited.is_ok(), "{what}: {:?}", server.report(app).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_fails_its_readiness_check_is_unready_until_it_passes() {
    let (f, answers) = (Fixture::new(), Answers::new().await);
    let (server, app) = (f.server().await, f.app().await);
    let v1 = f.release_with(&app, 2, answers.port, vec![check(CheckType::Readiness, 2)]).await;
    server.rollout(&app, v1).await.unwrap();
    let first = server.report(&app).await;
    let state_of = |report: &[InstanceReport], n: usize| report.get(n).map(|instance| instance.state);
    answers.set(&first[0], 503);
    until_reported(&server, &app, "it is unready", |now| state_of(now, 0) == Some(ReportState::Unready)).await;
    let now = server.report(&app).await;
    assert_eq!((ids(&now), state_of(&now, 1)), (ids(&first), Some(ReportState::Healthy)), "no instance was replaced");

    // A restarted server knows it, and goes on.
    server.stop().await;
    let server = f.server().await;
    server.settle(&app).await.unwrap();
    assert_eq!(state_of(&server.report(&app).await, 0), Some(ReportState::Unready));
    answers.set(&first[0], 200);
    until_reported(&server, &app, "it is ready", |now| state_of(now, 0) == Some(ReportState::Healthy)).await;

    // Without the check it counts as ready.
    answers.set(&first[1], 503);
    until_reported(&server, &app, "it is unready", |now| state_of(now, 1) == Some(ReportState::Unready)).await;
    f.store.change_checks(app.id, |settings| settings.default_mode = CheckMode::Skipped).await.unwrap();
    server.instances.checks_changed(&app);
    until_reported(&server, &app, "it is ready", |now| state_of(now, 1) == Some(ReportState::Healthy)).await;
    assert_eq!(ids(&server.report(&app).await), ids(&first));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_never_becomes_ready_does_not_replace_the_current_one() {
    let (f, answers) = (Fixture::new(), Answers::new().await);
    let (server, app) = (f.server().await, f.app().await);
    let v1 = f.release(&app, 1).await;
    server.rollout(&app, v1).await.unwrap();
    for status in &answers.statuses {
        status.store(404, Ordering::Relaxed);
    }
    let never = f.release_with(&app, 1, answers.port, vec![check(CheckType::Readiness, 1)]).await;
    let error = server.rollout(&app, never).await.unwrap_err().to_string();
    assert!(error.contains("five times the same response: GET /state on port"), "{error}");
    assert!(error.contains("with Host localhost got status 404: why?"), "{error}");
    f.until_left(1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_fails_its_liveness_check_is_restarted() {
    let (f, answers) = (Fixture::new(), Answers::new().await);
    let (server, app) = (f.server().await, f.app().await);
    let v1 = f.release_with(&app, 2, answers.port, vec![check(CheckType::Liveness, 2)]).await;
    server.rollout(&app, v1).await.unwrap();
    let first = server.report(&app).await;
    answers.set(&first[1], 500);
    until_reported(&server, &app, "it is replaced", |now| {
        now.len() == 2 && now[1].id != first[1].id && now[1].state == ReportState::Healthy
    })
    .await;
    let now = server.report(&app).await;
    assert_eq!((now[0].id.clone(), now[1].restarts), (first[0].id.clone(), 1));
    f.until_left(2).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liveness_check_leaves_an_instance_alone_for_its_initial_delay() {
    let (f, answers) = (Fixture::new(), Answers::new().await);
    let (server, app) = (f.server().await, f.app().await);
    for status in &answers.statuses {
        status.store(500, Ordering::Relaxed);
    }
    let delay = Duration::from_secs(5);
    let delayed = DeclaredCheck { initial_delay: delay, ..check(CheckType::Liveness, 1) };
    let v1 = f.release_with(&app, 1, answers.port, vec![delayed]).await;
    let begun = std::time::Instant::now();
    server.rollout(&app, v1).await.unwrap();
    until_reported(&server, &app, "it is replaced", |now| now.iter().any(|instance| instance.restarts == 1)).await;
    assert!(begun.elapsed() >= delay, "{:?}", begun.elapsed());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_is_only_to_be_reported_changes_nothing() {
    let (f, answers) = (Fixture::new(), Answers::new().await);
    let (server, app) = (f.server().await, f.app().await);
    for status in &answers.statuses {
        status.store(500, Ordering::Relaxed);
    }
    let only_reported = DeclaredCheck { warn: true, ..check(CheckType::Startup, 1) };
    let v1 = f.release_with(&app, 1, answers.port, vec![only_reported]).await;
    let (progress, mut lines) = Progress::channel();
    server.instances.rollout(app.id, v1, &progress, &CancellationToken::new()).await.unwrap();
    drop(progress);
    let mut told = Vec::new();
    while let Some(line) = lines.recv().await {
        told.push(line);
    }
    let warns = |line: &crate::model::Line| matches!(line, crate::model::Line::Trouble(text) if text.starts_with("worker.1: startup check: GET /state on port"));
    assert!(told.iter().any(warns), "{told:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_disabled_checks_the_old_instances_end_before_the_new_ones_start() {
    let f = Fixture::new();
    let (server, app) = (f.server().await, f.app().await);
    f.store.change_checks(app.id, |settings| settings.default_mode = CheckMode::Disabled).await.unwrap();
    for _ in 0..2 {
        // Its check could never pass.
        let release = f.release_with(&app, 2, 1, vec![check(CheckType::Startup, 1)]).await;
        server.rollout(&app, release).await.unwrap();
        server.settle(&app).await.unwrap();
        let report = server.report(&app).await;
        let serves = |instance: &InstanceReport| instance.state == ReportState::Healthy && instance.release == release;
        assert!(report.len() == 2 && report.iter().all(serves), "{report:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_releases_have_a_volume_at_once_and_the_old_one_comes_back() {
    let f = Fixture::new();
    let (server, app) = (f.server().await, f.app().await);
    let source = MountSource::Host("/srv/files".parse().unwrap());
    let mount = Mount { source, target: "/data".parse().unwrap(), read_only: false, process_type: None };
    f.store.add_mount(app.id, mount, "me".into()).await.unwrap();
    let v1 = f.release(&app, 2).await;
    server.rollout(&app, v1).await.unwrap();
    let old = f.memory.running();
    let v2 = f.release(&app, 2).await;
    server.rollout(&app, v2).await.unwrap();
    let new = f.memory.running();
    // A container that is missing has been removed before.
    let at = |call: Call, ids: &[String]| {
        let calls = f.memory.calls();
        let of =
            |(called, about): &(Call, String)| *called == call && ids.iter().any(|id| about.ends_with(id.as_str()));
        calls.iter().enumerate().filter(|(_, call)| of(call)).map(|(at, _)| at).collect::<Vec<_>>()
    };
    assert!(new.iter().all(|id| !old.contains(id)) && new.len() == 2, "{old:?} {new:?}");
    assert!(at(Call::Remove, &old).iter().max() < at(Call::Create, &new).iter().min(), "{:?}", f.memory.calls());

    f.memory.end_at_once(Some(3));
    let bad = f.release(&app, 2).await;
    let failed = async {
        let error = server.rollout(&app, bad).await.unwrap_err().to_string();
        f.memory.end_at_once(None);
        error
    };
    let error = failed.await;
    assert!(error.contains("it exited with status 3"), "{error}");
    server.settle(&app).await.unwrap();
    f.until_left(2).await;
    let report = server.report(&app).await;
    assert!(report.iter().all(|i| i.release == v2 && i.state == ReportState::Healthy), "{report:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_has_written_too_much_is_killed_and_replaced() {
    let f = Fixture::new();
    let (server, app) = (f.server().await, f.app().await);
    let v1 = f.release(&app, 2).await;
    server.rollout(&app, v1).await.unwrap();
    let ids = f.memory.running();
    let limit = f.config.instances.disk_mib << 20;
    f.memory.write(&ids[0], limit);
    f.memory.write(&ids[1], limit + 1);
    let watch = DiskWatch::new(Runtime::Memory(f.memory.clone()), f.config.instances.disk_mib);
    let subjects =
        async { Ok::<_, StoreError>(Subjects { workloads: server.instances.watched().await?, limits: Vec::new() }) };
    assert_eq!(watch.look(subjects).await.unwrap().summary, "killed for writing too much: 1");
    until_reported(&server, &app, "it is replaced", |now| {
        now.len() == 2 && now.iter().all(|i| i.state == ReportState::Healthy && i.id.as_str() != ids[1])
    })
    .await;
    let report = server.report(&app).await;
    let (kept, new): (Vec<_>, Vec<_>) = report.iter().partition(|instance| instance.id.as_str() == ids[0]);
    assert_eq!((kept[0].restarts, &kept[0].last_failure), (0, &None));
    let reason = "Wrote 1025 MiB of files, more than its limit of 1024 MiB (instances.disk_mib)";
    assert_eq!((new[0].restarts, new[0].last_failure.as_deref()), (1, Some(reason)));
    server.stop().await;
}
