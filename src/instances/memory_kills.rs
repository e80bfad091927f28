//! Reports processes that the kernel killed because their instance was out of memory, also those whose instance goes on.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;

use super::shared::Shared;
use crate::{model::InstanceId, workload::Purpose};

/// A kill within this time after one that was reported is counted, and reported with the next.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Runs until it is dropped.
pub(super) async fn report(shared: &Shared) {
    let mut kills = shared.runtime.memory_kills(Purpose::Instance);
    let mut reported: HashMap<InstanceId, Instant> = HashMap::new();
    while let Some(name) = kills.next().await {
        let Ok(id) = name.parse::<InstanceId>() else { continue };
        let row = match shared.store.count_oom_kill(id).await {
            Ok(Some(row)) => row,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(%error, instance = name, "cannot count an out-of-memory kill");
                continue;
            }
        };
        reported.retain(|_, at| at.elapsed() < REPORT_INTERVAL);
        if reported.contains_key(&row.id) {
            continue;
        }
        reported.insert(row.id.clone(), Instant::now());
        let text = text(shared.config.instances.memory_mib, row.oom_kills);
        shared.logs.event(row.app, &row.name(), text).await;
    }
}

fn text(memory_mib: u64, kills: u32) -> String {
    let so_far = if kills > 1 { format!("; {kills} processes of the instance so far") } else { String::new() };
    format!("A process was killed: out of memory (limit {memory_mib} MiB){so_far}")
}

#[test]
fn the_report_names_the_limit_and_earlier_kills() {
    assert_eq!(text(512, 1), "A process was killed: out of memory (limit 512 MiB)");
    assert!(text(512, 3).ends_with("; 3 processes of the instance so far"));
}
