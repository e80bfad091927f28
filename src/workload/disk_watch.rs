//! The watch over what workloads write besides their volumes: one that has written more than it may, alone or with the others of
//! its owner, is killed. Nothing on the way of a write knows of it, so that writing and starting cost nothing.

mod overuse;
mod pace;

use std::{
    collections::HashMap,
    sync::{Mutex as StdMutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::{sync::Mutex, time::Instant};

use super::runtime::Runtime;
use crate::{
    engine::ContainerId,
    model::bytes_of_mib,
    periodic::Activated,
    store::{AppId, OwnerLimit},
};
pub use overuse::Overuse;
use pace::Pace;

/// Number of workloads whose files are counted at a time.
const MAX_COUNTS: usize = 8;

/// A workload whose files are counted.
pub struct Watched {
    /// Its container.
    pub container: ContainerId,
    /// Its app.
    pub app: AppId,
    /// Called before the container is killed: from then on, it is known why it ends.
    pub over: Box<dyn FnOnce(Overuse) + Send>,
}

/// What is counted, and how much the workloads of each owner may write, in MiB.
pub struct Subjects {
    /// All workloads.
    pub workloads: Vec<Watched>,
    /// Those owners that are bound by a limit.
    pub limits: Vec<OwnerLimit>,
}

/// Counts what workloads have written when the disk has lost space, and kills those that have written too much.
#[derive(Debug)]
pub struct DiskWatch {
    runtime: Runtime,
    limit_mib: u64,
    pace: Mutex<Pace>,
    /// Bytes that the workloads of each app had written at the last count.
    written: StdMutex<HashMap<AppId, u64>>,
}

/// What became of a workload that was counted.
enum Counted {
    Killed,
    Within(Watched, u64),
    /// It does not run, or its files cannot be counted.
    Unknown,
}

impl DiskWatch {
    /// Longest time between two looks at the free space.
    pub const INTERVAL: Duration = pace::CALM_INTERVAL;

    /// A watch over workloads that may write so much each.
    pub fn new(runtime: Runtime, limit_mib: u64) -> Self {
        Self { runtime, limit_mib, pace: Mutex::default(), written: StdMutex::default() }
    }

    /// Bytes that the workloads of an app had written when they were last counted.
    pub fn written(&self, app: AppId) -> u64 {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).get(&app).copied().unwrap_or(0)
    }

    /// Looks at the free space, and counts the files of all workloads if that is due; else they are not asked for.
    ///
    /// # Errors
    ///
    /// That of `subjects`.
    pub async fn look<E>(&self, subjects: impl Future<Output = Result<Subjects, E>> + Send) -> Result<Activated, E> {
        let mut pace = self.pace.lock().await;
        let (free, began) = (self.runtime.free_space().await, Instant::now());
        if !pace.is_due(free, began) {
            return Ok(Activated { next: Some(pace.next_look()), ..Activated::default() });
        }
        let Subjects { workloads, limits } = subjects.await?;
        let mut counts = stream::iter(workloads).map(|workload| self.count(workload)).buffer_unordered(MAX_COUNTS);
        let (mut killed, mut within) = (0_usize, Vec::new());
        while let Some(counted) = counts.next().await {
            match counted {
                Counted::Killed => killed += 1,
                Counted::Within(workload, bytes) => within.push((workload, bytes)),
                Counted::Unknown => {}
            }
        }
        let counted = within.len();
        let left = self.keep_owners_within(limits, within).await;
        killed += counted - left.len();
        let mut written = HashMap::new();
        for (workload, bytes) in left {
            *written.entry(workload.app).or_default() += bytes;
        }
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = written;
        pace.counted(free, began, Instant::now());
        let summary = if killed > 0 { format!("killed for writing too much: {killed}") } else { String::new() };
        Ok(Activated { summary, next: Some(pace.next_look()) })
    }

    /// Counts what a workload has written, and kills it if that is too much for one.
    async fn count(&self, workload: Watched) -> Counted {
        let written = match self.runtime.written(&workload.container).await {
            Ok(Some(written)) => written,
            Ok(None) => return Counted::Unknown,
            Err(error) => {
                tracing::warn!(%error, container = %workload.container, "cannot count what a container has written");
                return Counted::Unknown;
            }
        };
        match Overuse::of_one(written, self.limit_mib) {
            Ok(all) => Counted::Within(workload, all),
            Err(overuse) => {
                self.kill(workload, overuse).await;
                Counted::Killed
            }
        }
    }

    /// Kills those that have written most, while what all of their owner have written is more than allowed; returns the others.
    async fn keep_owners_within(&self, limits: Vec<OwnerLimit>, counted: Vec<(Watched, u64)>) -> Vec<(Watched, u64)> {
        let mut within = counted;
        for OwnerLimit { name, max, apps, .. } in limits {
            let (mut own, others): (Vec<_>, Vec<_>) =
                within.into_iter().partition(|(workload, _)| apps.contains(&workload.app));
            within = others;
            own.sort_by_key(|(_, bytes)| *bytes);
            let mut all: u64 = own.iter().map(|(_, bytes)| bytes).sum();
            while all > bytes_of_mib(max)
                && let Some((largest, bytes)) = own.pop()
            {
                self.kill(largest, Overuse::of_owner(bytes, all, &name, max)).await;
                all -= bytes;
            }
            within.extend(own);
        }
        within
    }

    /// Kills at once: what a workload writes in its grace period fills the disk, too.
    async fn kill(&self, workload: Watched, overuse: Overuse) {
        let Watched { container, over, .. } = workload;
        over(overuse);
        if let Err(error) = self.runtime.kill(&container).await {
            tracing::warn!(%error, %container, "cannot kill a container that writes too much");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{data_dir::FreeSpace, workload::memory::Memory};

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    /// A watch over workloads of these names; each is of the app with the number in its place.
    struct Fixture {
        memory: Memory,
        watch: DiskWatch,
        /// How often the workloads were asked for.
        asked: AtomicUsize,
        /// Those that have written too much, in order.
        over: Arc<StdMutex<Vec<(String, String)>>>,
    }

    impl Fixture {
        fn new(ids: &[&str]) -> Self {
            let memory = Memory::default();
            for id in ids {
                memory.stray(id);
            }
            let watch = DiskWatch::new(Runtime::Memory(memory.clone()), 1024);
            let fixture = Self { memory, watch, asked: AtomicUsize::new(0), over: Arc::default() };
            fixture.free(100 * GIB);
            fixture
        }

        fn free(&self, bytes: u64) {
            self.memory.set_free(Some(FreeSpace { bytes, files: MIB }));
        }

        fn watched(&self, (app, id): (i64, String)) -> Watched {
            let (memory, over) = (self.memory.clone(), Arc::clone(&self.over));
            Watched {
                container: ContainerId(format!("c-{id}")),
                app: AppId(app),
                over: Box::new(move |overuse| {
                    assert!(memory.running().contains(&id), "it still runs");
                    over.lock().unwrap().push((id, overuse.reason()));
                }),
            }
        }

        async fn look(&self, limits: Vec<OwnerLimit>) -> Activated {
            let subjects = async {
                self.asked.fetch_add(1, Ordering::Relaxed);
                let mut ids = self.memory.running();
                ids.sort();
                let workloads = (1..).zip(ids).map(|workload| self.watched(workload)).collect();
                Ok::<_, String>(Subjects { workloads, limits })
            };
            self.watch.look(subjects).await.unwrap()
        }
    }

    #[tokio::test]
    async fn workloads_are_counted_when_the_disk_has_lost_space_and_the_reason_is_known_before_the_kill() {
        let f = Fixture::new(&["small", "large"]);
        f.memory.write("small", GIB);
        f.look(Vec::new()).await;
        f.memory.write("large", 2 * GIB);
        assert_eq!(f.look(Vec::new()).await.summary, "");
        assert_eq!(f.asked.load(Ordering::Relaxed), 1, "nothing was written since");
        f.free(80 * GIB);
        let looked = f.look(Vec::new()).await;
        assert_eq!(looked.summary, "killed for writing too much: 1");
        assert!(looked.next.unwrap() < DiskWatch::INTERVAL, "the disk loses space fast");
        assert_eq!((f.memory.running(), f.asked.load(Ordering::Relaxed)), (vec!["small".to_owned()], 2));
        let expected = "it wrote 2048 MiB of files, more than its limit of 1024 MiB (instances.disk_mib)";
        assert_eq!(*f.over.lock().unwrap(), [("large".to_owned(), expected.to_owned())]);
        assert_eq!(f.look(Vec::new()).await.next, Some(DiskWatch::INTERVAL));
    }

    #[tokio::test]
    async fn the_largest_writers_of_an_owner_are_killed_until_all_are_within_the_limit() {
        let f = Fixture::new(&["a", "b", "c", "d"]);
        for (id, mib) in [("a", 300), ("b", 500), ("c", 400), ("d", 1000)] {
            f.memory.write(id, mib * MIB);
        }
        // The app of d is somebody else's.
        let ada = OwnerLimit { name: "ada".parse().unwrap(), max: 300, apps: vec![AppId(1), AppId(2), AppId(3)] };
        assert_eq!(f.look(vec![ada]).await.summary, "killed for writing too much: 2");
        let mut left = f.memory.running();
        left.sort();
        assert_eq!(left, ["a", "d"]);
        let over = f.over.lock().unwrap();
        assert_eq!(over.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["b", "c"], "the largest first");
        let expected = "it wrote 500 MiB of the 1200 MiB that the instances and tasks of ada wrote, more than the limit of 300 MiB \
                        (quota: written)";
        assert_eq!(over[0].1, expected);
        assert_eq!([1, 2, 4].map(|app| f.watch.written(AppId(app))), [300 * MIB, 0, 1000 * MIB]);
    }
}
