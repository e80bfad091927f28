//! The watch over what workloads write besides their volumes: one that has written more than it may is killed. Nothing on the way
//! of a write knows of it, so that writing and starting cost nothing.

mod pace;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::{sync::Mutex, time::Instant};

use super::runtime::Runtime;
use crate::{
    engine::{ContainerId, Written},
    periodic::Activated,
};
use pace::Pace;

/// Number of workloads whose files are counted at a time.
const MAX_COUNTS: usize = 8;

/// A workload has written more than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overuse {
    written: Written,
    limit_mib: u64,
}

impl Overuse {
    fn find(written: Written, limit_mib: u64) -> Option<Self> {
        let is_over = match written {
            Written::Bytes(bytes) => bytes > limit_mib << 20,
            // Anything may be in there.
            Written::TooDeep => true,
        };
        is_over.then_some(Self { written, limit_mib })
    }

    /// Why the workload is killed: `it wrote …`.
    pub fn reason(&self) -> String {
        let limit = self.limit_mib;
        match self.written {
            Written::Bytes(bytes) => {
                let mib = bytes.div_ceil(1 << 20);
                format!("it wrote {mib} MiB of files, more than its limit of {limit} MiB (instances.disk_mib)")
            }
            Written::TooDeep => {
                format!(
                    "its folders are nested too deeply to count its files, which may have {limit} MiB (instances.disk_mib)"
                )
            }
        }
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self.written {
            Written::Bytes(_) => {
                "keep files in a volume (storage:create), or have an admin raise instances.disk_mib in paas.toml"
            }
            Written::TooDeep => "keep such folders in a volume (storage:create)",
        }
    }
}

/// Counts what workloads have written when the disk has lost space, and kills those that have written too much.
#[derive(Debug)]
pub struct DiskWatch {
    runtime: Runtime,
    limit_mib: u64,
    pace: Mutex<Pace>,
}

impl DiskWatch {
    /// Longest time between two looks at the free space.
    pub const INTERVAL: Duration = pace::CALM_INTERVAL;

    /// A watch over workloads that may write so much.
    pub fn new(runtime: Runtime, limit_mib: u64) -> Self {
        Self { runtime, limit_mib, pace: Mutex::default() }
    }

    /// Looks at the free space, and counts the files of these workloads if that is due; else they are not asked for. `over` is
    /// called before a container is killed: from then on, it is known why it ends.
    ///
    /// # Errors
    ///
    /// That of `workloads`.
    pub async fn look<T: Send>(
        &self,
        workloads: impl Future<Output = Result<Vec<(ContainerId, T)>, String>> + Send,
        over: impl Fn(T, Overuse) + Send + Sync,
    ) -> Result<Activated, String> {
        let mut pace = self.pace.lock().await;
        let (free, began) = (self.runtime.free_space().await, Instant::now());
        if !pace.is_due(free, began) {
            return Ok(Activated { next: Some(pace.next_look()), ..Activated::default() });
        }
        let over = &over;
        let count = |(container, workload): (ContainerId, T)| async move {
            let overuse = self.overuse(&container).await?;
            over(workload, overuse);
            // At once: what it writes in its grace period fills the disk, too.
            if let Err(error) = self.runtime.kill(&container).await {
                tracing::warn!(%error, %container, "cannot kill a container that writes too much");
            }
            Some(())
        };
        let counts = stream::iter(workloads.await?).map(count).buffer_unordered(MAX_COUNTS);
        let killed = counts.filter(|over| std::future::ready(over.is_some())).count().await;
        pace.counted(free, began, Instant::now());
        let summary = if killed > 0 {
            format!("killed for writing more than instances.disk_mib: {killed}")
        } else {
            String::new()
        };
        Ok(Activated { summary, next: Some(pace.next_look()) })
    }

    async fn overuse(&self, container: &ContainerId) -> Option<Overuse> {
        match self.runtime.written(container).await {
            Ok(written) => Overuse::find(written?, self.limit_mib),
            Err(error) => {
                tracing::warn!(%error, %container, "cannot count what a container has written");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex as StdMutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{data_dir::FreeSpace, workload::memory::Memory};

    #[test]
    fn the_reason_names_both_numbers() {
        let reason = |written| Overuse::find(written, 1024).map(|overuse| overuse.reason());
        let expected = "it wrote 1500 MiB of files, more than its limit of 1024 MiB (instances.disk_mib)";
        assert_eq!(reason(Written::Bytes(1500 << 20)).as_deref(), Some(expected));
        assert!(reason(Written::Bytes((1024 << 20) + 1)).unwrap().contains("wrote 1025 MiB"), "not 1024 of 1024");
        assert_eq!(reason(Written::Bytes(1024 << 20)), None);
        assert!(reason(Written::TooDeep).unwrap().contains("nested too deeply"));
    }

    #[tokio::test]
    async fn workloads_are_counted_when_the_disk_has_lost_space_and_the_reason_is_known_before_the_kill() {
        const GIB: u64 = 1 << 30;
        let memory = Memory::default();
        let watch = DiskWatch::new(Runtime::Memory(memory.clone()), 1024);
        for id in ["small", "large"] {
            memory.stray(id);
        }
        memory.write("small", GIB);
        let (asked, over) = (AtomicUsize::new(0), StdMutex::new(Vec::new()));
        let look = async || {
            let workloads = async {
                asked.fetch_add(1, Ordering::Relaxed);
                Ok(memory.running().into_iter().map(|id| (ContainerId(format!("c-{id}")), id)).collect())
            };
            let found = |id: String, overuse: Overuse| {
                assert!(memory.running().contains(&id), "it still runs");
                over.lock().unwrap().push((id, overuse.reason()));
            };
            watch.look(workloads, found).await.unwrap()
        };
        let free = |bytes| memory.set_free(Some(FreeSpace { bytes, files: 1 << 20 }));
        free(10 * GIB);
        look().await;
        memory.write("large", 2 * GIB);
        assert_eq!(look().await.summary, "");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "nothing was written since");
        free(8 * GIB);
        let looked = look().await;
        assert_eq!(looked.summary, "killed for writing more than instances.disk_mib: 1");
        assert!(looked.next.unwrap() < DiskWatch::INTERVAL, "the disk loses space fast");
        assert_eq!((memory.running(), asked.load(Ordering::Relaxed)), (vec!["small".to_owned()], 2));
        let expected = "it wrote 2048 MiB of files, more than its limit of 1024 MiB (instances.disk_mib)";
        assert_eq!(*over.lock().unwrap(), [("large".to_owned(), expected.to_owned())]);
        assert_eq!(look().await.next, Some(DiskWatch::INTERVAL));
    }
}
