//! Reports processes that the kernel killed because their instance was out of memory, also those whose instance goes on.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::shared::Shared;
use crate::{
    engine::MemoryKill,
    model::{InstanceId, SizeTarget},
    store::{Instance, SizeKind},
    workload::Purpose,
};

/// Kills within this time after one that was reported are counted, and reported together when it is over.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The last report of an instance's kills.
struct Reported {
    at: Instant,
    /// The instance, if there were kills after the report.
    unreported: Option<Instance>,
}

/// Runs until it is dropped.
pub(super) async fn report(shared: &Shared) {
    // Those that the engine remembers come first: a process may have been killed while no server ran.
    let mut kills = shared.runtime.memory_kills(Purpose::Instance);
    let mut reported: HashMap<InstanceId, Reported> = HashMap::new();
    loop {
        let next = reported.values().map(|last| last.at + REPORT_INTERVAL).min();
        tokio::select! {
            kill = kills.next() => {
                let Some(kill) = kill else { return };
                let Some(row) = count(shared, kill).await else { continue };
                match reported.get_mut(&row.id) {
                    Some(last) => last.unreported = Some(row),
                    None => log(shared, row, &mut reported).await,
                }
            }
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let over: Vec<_> = reported.extract_if(|_, last| last.at.elapsed() >= REPORT_INTERVAL).collect();
                for row in over.into_iter().filter_map(|(_, last)| last.unreported) {
                    log(shared, row, &mut reported).await;
                }
            }
        }
    }
}

/// Counts a kill. Returns the instance, if it still exists and the kill was not counted before.
async fn count(shared: &Shared, kill: MemoryKill) -> Option<Instance> {
    let id = kill.container.parse().ok()?;
    match shared.store.count_oom_kill(id, kill.at).await {
        Ok(row) => row,
        Err(error) => {
            tracing::warn!(%error, instance = kill.container, "cannot count an out-of-memory kill");
            None
        }
    }
}

async fn log(shared: &Shared, row: Instance, reported: &mut HashMap<InstanceId, Reported>) {
    let target = SizeTarget::Type(row.process_type.clone());
    let sizes = shared.store.sizes(row.app, SizeKind::Limit).await.unwrap_or_default();
    let limit = sizes.size(&target, shared.store.default_size()).memory;
    let text = text(limit.mebibytes(), row.oom_kills);
    shared.logs.event(row.app, &row.name(), text).await;
    reported.insert(row.id, Reported { at: Instant::now(), unreported: None });
}

fn text(memory_mib: u64, kills: u32) -> String {
    let so_far = if kills > 1 { format!("; {kills} processes of the instance so far") } else { String::new() };
    format!("A process was killed: out of memory (limit {memory_mib} MiB){so_far}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_names_the_limit_and_earlier_kills() {
        assert_eq!(text(512, 1), "A process was killed: out of memory (limit 512 MiB)");
        assert!(text(512, 3).ends_with("; 3 processes of the instance so far"));
    }
}
