//! A runtime in memory, deterministic, into which failures can be injected: shows that the seam suffices to test what is
//! above it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use tokio::sync::broadcast;

use super::{
    spec::{Purpose, Workload, WorkloadBudget},
    volumes::{MountedVolume, VolumeError},
};
use crate::{
    data_dir::FreeSpace,
    engine::{
        Archiving, Attached, Container, ContainerExit, ContainerId, ContainerState, EngineError, Executed, Execution,
        ListeningSocket, LogLine, LogOptions, MemoryKill, Result, UsageSample, Written,
    },
    model::{AppName, Digest, ReleaseNumber, TerminalSize},
    store::Placement,
};

/// A function of the runtime that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Memory::prepare`].
    Prepare,
    /// [`Memory::create`].
    Create,
    /// [`Memory::start`].
    Start,
    /// [`Memory::observe`].
    Observe,
    /// [`Memory::stop`].
    Stop,
    /// [`Memory::remove`].
    Remove,
}

/// A runtime in memory; cheap to clone.
#[derive(Debug, Clone)]
pub struct Memory(Arc<State>);

#[derive(Debug)]
struct State {
    containers: Mutex<BTreeMap<String, Held>>,
    failures: Mutex<VecDeque<Call>>,
    /// Everything that was asked, in order.
    calls: Mutex<Vec<(Call, String)>>,
    exits: broadcast::Sender<(Purpose, ContainerExit)>,
    /// Exit code with which workloads of this app end as soon as they are started.
    ends_at_once: Mutex<Option<i64>>,
    /// Bytes that workloads have written.
    written: Mutex<HashMap<String, u64>>,
    /// What the disk has left.
    free: Mutex<Option<FreeSpace>>,
}

#[derive(Debug, Clone)]
struct Held {
    purpose: Purpose,
    container: Container,
}

/// What the id of a container begins with; the id of its workload follows.
const PREFIX: &str = "c-";

fn workload_id(container: &ContainerId) -> &str {
    container.as_str().strip_prefix(PREFIX).unwrap_or(container.as_str())
}

impl Held {
    fn new(id: &str, purpose: Purpose, address: IpAddr) -> Self {
        let container = Container {
            has_own_resolver: true,
            group_parent: None,
            id: ContainerId(format!("{PREFIX}{id}")),
            name: id.to_owned(),
            labels: HashMap::new(),
            state: ContainerState::Created,
            address: Some(address),
            started_at: None,
            finished_at: None,
            ended_in_outage: false,
            exit_code: None,
            oom_killed: false,
            memory_mib: None,
            pid: None,
            stop_grace: None,
        };
        Self { purpose, container }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(State {
            containers: Mutex::default(),
            failures: Mutex::default(),
            calls: Mutex::default(),
            exits: broadcast::Sender::new(256),
            ends_at_once: Mutex::default(),
            written: Mutex::default(),
            free: Mutex::default(),
        }))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tests' side.
impl Memory {
    /// Has the next call of this function fail.
    pub fn fail_next(&self, call: Call) {
        lock(&self.0.failures).push_back(call);
    }

    /// Has workloads end with this exit code as soon as they are started; `None` has them go on.
    pub fn end_at_once(&self, code: Option<i64>) {
        *lock(&self.0.ends_at_once) = code;
    }

    /// Has a workload have written so many bytes.
    pub fn write(&self, id: &str, bytes: u64) {
        lock(&self.0.written).insert(id.to_owned(), bytes);
    }

    /// Has the disk have so much left.
    pub fn set_free(&self, free: Option<FreeSpace>) {
        *lock(&self.0.free) = free;
    }

    /// Ends a running workload.
    pub fn end(&self, id: &str, code: i64) {
        let ended = lock(&self.0.containers).get_mut(id).map(|held| {
            held.container.state = ContainerState::Exited;
            held.container.exit_code = Some(code);
            held.container.finished_at = Some(Timestamp::now());
            held.clone()
        });
        if let Some(Held { purpose, container: Container { id, name, labels, .. } }) = ended {
            let _ = self.0.exits.send((purpose, ContainerExit { id, name, labels, exit_code: code }));
        }
    }

    /// Removes a container as another program on the machine would.
    pub fn lose(&self, id: &str) {
        lock(&self.0.containers).remove(id);
    }

    /// Adds the running container of an instance that nobody knows.
    pub fn stray(&self, id: &str) {
        let mut held = Held::new(id, Purpose::Instance, IpAddr::V4(Ipv4Addr::new(127, 78, 1, 1)));
        held.container.state = ContainerState::Running;
        lock(&self.0.containers).insert(id.to_owned(), held);
    }

    /// Identities of the workloads that run.
    pub fn running(&self) -> Vec<String> {
        let containers = lock(&self.0.containers);
        containers.iter().filter(|(_, held)| held.container.state.is_alive()).map(|(id, _)| id.clone()).collect()
    }

    /// Identities of the workloads that have a container.
    pub fn containers(&self) -> Vec<String> {
        lock(&self.0.containers).keys().cloned().collect()
    }

    /// How often a function was called.
    pub fn count(&self, call: Call) -> usize {
        lock(&self.0.calls).iter().filter(|(called, _)| *called == call).count()
    }

    /// What was created, stopped and removed, in order.
    pub fn calls(&self) -> Vec<(Call, String)> {
        lock(&self.0.calls).clone()
    }

    fn called(&self, call: Call, about: &str) -> Result<()> {
        lock(&self.0.calls).push((call, about.to_owned()));
        let mut failures = lock(&self.0.failures);
        match failures.iter().position(|failure| *failure == call) {
            Some(at) => {
                failures.remove(at);
                Err(EngineError::Incomplete("an injected failure"))
            }
            None => Ok(()),
        }
    }
}

/// The runtime's side.
#[expect(clippy::unused_async, clippy::unused_self, reason = "the functions are those of every runtime")]
impl Memory {
    pub(super) fn placement(&self) -> Placement {
        Placement::AtStart
    }

    pub(super) async fn prepare(&self, app: &AppName, _: ReleaseNumber, _: &Digest) -> Result<()> {
        self.called(Call::Prepare, app.as_str())
    }

    pub(super) async fn create(&self, workload: &Workload) -> Result<ContainerId> {
        self.called(Call::Create, &workload.id)?;
        let mut containers = lock(&self.0.containers);
        let address = IpAddr::V4(Ipv4Addr::new(127, 78, 0, u8::try_from(containers.len() + 1).unwrap_or(u8::MAX)));
        let held =
            containers.entry(workload.id.clone()).or_insert_with(|| Held::new(&workload.id, workload.purpose, address));
        Ok(held.container.id.clone())
    }

    pub(super) async fn start(&self, container: &ContainerId) -> Result<()> {
        self.called(Call::Start, container.as_str())?;
        let name = workload_id(container).to_owned();
        if let Some(held) = lock(&self.0.containers).get_mut(&name) {
            held.container.state = ContainerState::Running;
            held.container.started_at = Some(Timestamp::now());
        }
        let code = *lock(&self.0.ends_at_once);
        if let Some(code) = code {
            self.end(&name, code);
        }
        Ok(())
    }

    pub(super) async fn observe(&self, id: &str) -> Result<Option<Container>> {
        self.called(Call::Observe, id)?;
        Ok(lock(&self.0.containers).get(id).map(|held| held.container.clone()))
    }

    pub(super) async fn list(&self, purpose: Purpose) -> Result<Vec<Container>> {
        let containers = lock(&self.0.containers);
        Ok(containers.values().filter(|held| held.purpose == purpose).map(|held| held.container.clone()).collect())
    }

    #[expect(clippy::unused_async, reason = "the runtimes have the same functions")]
    pub(super) async fn usage(&self, _: &ContainerId) -> Result<Option<UsageSample>> {
        Ok(None)
    }

    pub(super) fn changes(&self, purpose: Purpose) -> BoxStream<'static, ContainerExit> {
        let exits = self.0.exits.subscribe();
        stream::unfold(exits, |mut exits| async move { exits.recv().await.ok().map(|exit| (exit, exits)) })
            .filter_map(move |(of, exit)| std::future::ready((of == purpose).then_some(exit)))
            .boxed()
    }

    pub(super) fn memory_kills(&self, _: Purpose) -> BoxStream<'static, MemoryKill> {
        stream::pending().boxed()
    }

    pub(super) async fn stop(&self, container: &ContainerId, _: Duration) -> Result<()> {
        self.called(Call::Stop, container.as_str())?;
        let name = workload_id(container);
        if self.running().iter().any(|id| id == name) {
            self.end(name, 143);
        }
        Ok(())
    }

    pub(super) async fn remove(&self, container: &ContainerId) -> Result<()> {
        self.called(Call::Remove, container.as_str())?;
        lock(&self.0.containers).remove(workload_id(container));
        Ok(())
    }

    pub(super) fn logs(&self, _: &ContainerId, _: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        stream::empty().boxed()
    }

    pub(super) async fn diagnose(&self, _: &ContainerId) -> Result<Vec<ListeningSocket>> {
        Ok(Vec::new())
    }

    pub(super) async fn attach(&self, _: &ContainerId) -> Result<Attached> {
        Err(EngineError::Incomplete("the streams of a workload in memory"))
    }

    pub(super) async fn wait(&self, container: &ContainerId) -> Result<Option<i64>> {
        let name = workload_id(container);
        let mut exits = self.0.exits.subscribe();
        loop {
            match lock(&self.0.containers).get(name) {
                None => return Ok(None),
                Some(held) if !held.container.state.is_alive() => return Ok(held.container.exit_code),
                Some(_) => {}
            }
            let _ = exits.recv().await;
        }
    }

    pub(super) async fn resize(&self, _: &ContainerId, _: TerminalSize) -> Result<()> {
        Ok(())
    }

    pub(super) async fn execute(&self, _: &ContainerId, _: Execution) -> Result<(Attached, Executed)> {
        Err(EngineError::Incomplete("the commands of a workload in memory"))
    }

    pub(super) async fn apply_openings(&self) -> Result<()> {
        Ok(())
    }

    pub(super) async fn adopt(&self, _: &Container) -> Result<()> {
        Ok(())
    }

    pub(super) async fn update_resolver(&self) -> Result<()> {
        Ok(())
    }

    pub(super) async fn kill(&self, container: &ContainerId) -> Result<()> {
        self.end(workload_id(container), 137);
        Ok(())
    }

    pub(super) async fn written(&self, container: &ContainerId) -> Result<Option<Written>> {
        let name = workload_id(container);
        let runs = self.running().iter().any(|id| id == name);
        Ok(lock(&self.0.written).get(name).copied().filter(|_| runs).map(|all| Written::Bytes { all, unlimited: all }))
    }

    pub(super) async fn free_space(&self) -> Option<FreeSpace> {
        *lock(&self.0.free)
    }

    pub(super) async fn create_archiver(
        &self,
        _: &AppName,
        _: &MountedVolume,
        _: Archiving,
        _: WorkloadBudget,
    ) -> Result<ContainerId, VolumeError> {
        Err(EngineError::Incomplete("volumes, in memory").into())
    }

    pub(super) async fn start_archiver(&self, _: &ContainerId) -> Result<()> {
        Err(EngineError::Incomplete("volumes, in memory"))
    }

    pub(super) async fn maintain(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn the_id_of_a_workload_is_that_of_its_container_without_the_prefix() {
    let held = Held::new("c-1", Purpose::Task, IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_eq!(workload_id(&held.container.id), "c-1");
}
