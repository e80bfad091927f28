//! Tasks that launch or tear down the instances of an app: at most one for each instance.

use std::{collections::HashMap, time::Duration};

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    instances::{error::InstancesError, launch::Launched},
    model::InstanceId,
};

/// Longest wait for the tasks at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// The tasks of an app's instances.
#[derive(Default)]
pub(super) struct InstanceTasks {
    running: HashMap<InstanceId, RunningTask>,
    tasks: JoinSet<TaskResult>,
}

struct RunningTask {
    id: Id,
    cancel: CancellationToken,
}

/// Result of a task.
pub(super) enum TaskResult {
    Launched(Launched),
    TornDown(Result<(), InstancesError>),
    Panicked(JoinError),
}

impl InstanceTasks {
    pub(super) fn is_running(&self, instance: &InstanceId) -> bool {
        self.running.contains_key(instance)
    }

    /// Starts the task of an instance that has none. `cancel` is what [`Self::cancel`] cancels.
    pub(super) fn spawn(
        &mut self,
        instance: InstanceId,
        cancel: CancellationToken,
        task: impl Future<Output = TaskResult> + Send + 'static,
    ) {
        let id = self.tasks.spawn(task).id();
        self.running.insert(instance, RunningTask { id, cancel });
    }

    /// Cancels the task of an instance. Returns whether it had one.
    pub(super) fn cancel(&self, instance: &InstanceId) -> bool {
        self.running.get(instance).inspect(|task| task.cancel.cancel()).is_some()
    }

    /// Waits until a task ends; `None` when none is running. Safe to be dropped.
    pub(super) async fn join_next(&mut self) -> Option<(InstanceId, TaskResult)> {
        let joined = self.tasks.join_next_with_id().await?;
        self.ended(joined)
    }

    /// A task that has ended already.
    pub(super) fn try_join_next(&mut self) -> Option<(InstanceId, TaskResult)> {
        let joined = self.tasks.try_join_next_with_id()?;
        self.ended(joined)
    }

    fn ended(&mut self, joined: Result<(Id, TaskResult), JoinError>) -> Option<(InstanceId, TaskResult)> {
        let (task, result) = joined.unwrap_or_else(|error| (error.id(), TaskResult::Panicked(error)));
        let instance = self.running.iter().find(|(_, running)| running.id == task)?.0.clone();
        self.running.remove(&instance);
        Some((instance, result))
    }

    /// Cancels all tasks and waits for them. Calls to the engine are completed: the row of a container that is being
    /// created names it.
    pub(super) async fn shut_down(mut self) {
        for task in self.running.values() {
            task.cancel.cancel();
        }
        let ends = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, ends).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}
