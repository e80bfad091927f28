//! What becomes of the tasks of a server that has died.

use std::{collections::HashMap, sync::Arc};

use tokio_util::task::TaskTracker;

use super::{
    error::TaskError,
    execution::{End, Shared},
    running::{INTERRUPTED, RunningTask},
};
use crate::{
    engine::{Container, ContainerId},
    model::TaskKind,
    store::{Millis, Task, TaskState, now},
    workload::Purpose,
};

/// A run of a job that would be later than this is not run.
const MAX_DELAY: Millis = 60_000;

/// What is to be done with a task of a server that has died.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// Its container runs, or has ended: what became of it is recorded.
    Resume,
    /// It was not started, and is started now.
    Run,
    /// It is stopped, for this reason.
    Stop(&'static str),
}

/// Takes over the tasks of a server that has died, and removes containers that belong to none. Tasks of the release phase are
/// run one after the other.
pub(super) async fn adopt(shared: &Arc<Shared>, tracker: &TaskTracker) -> Result<(), TaskError> {
    // The rows are read after the containers, because a row is added before its container is created.
    let containers = shared.runtime.list(Purpose::Task).await?;
    for container in containers.iter().filter(|container| container.state.is_alive()) {
        if let Err(error) = shared.runtime.adopt(container).await {
            tracing::warn!(%error, "a running task was not taken over completely");
        }
    }
    let unended = shared.store.unended_tasks().await?;
    let mut by_name: HashMap<String, Container> = containers.into_iter().map(|c| (c.name.clone(), c)).collect();
    let mut queues: Vec<Vec<(Task, Fate, RunningTask)>> = Vec::new();
    for task in unended {
        let container = by_name.remove(task.id.as_str());
        // Only this server's own tasks are registered already.
        let Some(running) = shared.running.register(&task.id) else { continue };
        let fate = fate(shared, &task, container.as_ref()).await?;
        match queues.last_mut() {
            Some(queue) if is_next(&queue[queue.len() - 1].0, &task) => queue.push((task, fate, running)),
            _ => queues.push(vec![(task, fate, running)]),
        }
    }
    remove(shared, by_name.into_values()).await?;
    for queue in queues {
        let shared = Arc::clone(shared);
        tracker.spawn(async move {
            for (task, fate, running) in queue {
                shared.meet(task, fate, running).await;
            }
        });
    }
    Ok(())
}

/// Removes containers that belong to no task. The rows are read after the containers, because a row is added before its
/// container is created.
pub(super) async fn remove_strays(shared: &Shared) -> Result<(), TaskError> {
    let containers = shared.runtime.list(Purpose::Task).await?;
    let unended = shared.store.unended_tasks().await?;
    let strays = containers.into_iter().filter(|found| unended.iter().all(|task| task.id.as_str() != found.name));
    remove(shared, strays).await
}

async fn remove(shared: &Shared, containers: impl Iterator<Item = Container>) -> Result<(), TaskError> {
    for stray in containers {
        // The end of a registered task may be recorded, but its container not removed yet.
        if !shared.running.has(&stray.name) {
            tracing::warn!(container = %stray.name, "removing a container that belongs to no task");
            shared.runtime.remove(&stray.id).await?;
        }
    }
    Ok(())
}

/// Whether two tasks belong to the release phase of the same release.
fn is_next(last: &Task, task: &Task) -> bool {
    let in_phase = |task: &Task| !matches!(task.name.kind, TaskKind::Run | TaskKind::Cron);
    in_phase(last) && in_phase(task) && (last.app, last.release) == (task.app, task.release)
}

async fn fate(shared: &Shared, task: &Task, container: Option<&Container>) -> Result<Fate, TaskError> {
    let started = container.is_some_and(|container| container.started_at.is_some());
    if task.attached {
        return Ok(Fate::Stop(INTERRUPTED));
    }
    if started {
        return Ok(Fate::Resume);
    }
    if task.state == TaskState::Running && container.is_none() {
        return Ok(Fate::Stop("what became of it is not known: its container was removed by someone else"));
    }
    match task.name.kind {
        TaskKind::Cron if now() - task.created_at > MAX_DELAY => {
            Ok(Fate::Stop("not run: the server stopped, and it is too late now"))
        }
        TaskKind::Run | TaskKind::Cron => Ok(Fate::Run),
        // The release phase of a release that is not live does not go on, and neither does that of one that was replaced.
        TaskKind::Predeploy | TaskKind::Release => Ok(Fate::Stop("not run: the server stopped during the deployment")),
        TaskKind::FirstDeploy | TaskKind::Postdeploy if shared.store.is_current(task.app, task.release).await? => {
            Ok(Fate::Run)
        }
        TaskKind::FirstDeploy | TaskKind::Postdeploy => Ok(Fate::Stop("not run: its release is not the current one")),
    }
}

impl Shared {
    async fn meet(&self, task: Task, fate: Fate, running: RunningTask) {
        match fate {
            Fate::Resume => self.resume(task, running).await,
            Fate::Run => {
                tracing::info!(task = %task.id, "running a task that the previous server did not start");
                self.run(task, running, None).await;
            }
            Fate::Stop(reason) => {
                self.make_ended(&ContainerId::from(&task.id)).await;
                self.record_of(&task, &running, End::because(reason)).await;
            }
        }
    }
}
