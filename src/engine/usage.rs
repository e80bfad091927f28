//! What a running container uses.

use std::time::{Duration, Instant};

use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::StreamExt as _;

use super::{
    error::{Act, EngineError, Result, status},
    handle::Containers,
    id::ContainerId,
};

/// What a container had used at a time.
#[derive(Debug, Clone, Copy)]
pub struct UsageSample {
    at: Instant,
    /// CPU time since its start.
    cpu: Duration,
    memory_bytes: u64,
}

/// What a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, in thousandths of a CPU.
    pub cpu_millis: u64,
    /// Memory without caches that can be dropped, in MiB.
    pub memory_mib: u64,
}

impl UsageSample {
    /// What was used between an earlier sample and this one.
    pub fn since(&self, earlier: &Self) -> Usage {
        let (time, cpu) = (self.at - earlier.at, self.cpu.saturating_sub(earlier.cpu));
        let cpu_millis = cpu.as_micros() * 1000 / time.as_micros().max(1);
        Usage {
            cpu_millis: u64::try_from(cpu_millis).unwrap_or(u64::MAX),
            memory_mib: self.memory_bytes.div_ceil(1 << 20),
        }
    }
}

impl Containers {
    /// What a container has used until now; `None` if it does not run.
    pub async fn usage(&self, id: &ContainerId) -> Result<Option<UsageSample>> {
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let stats = match self.0.docker().stats(id.as_str(), Some(options)).boxed().next().await {
            Some(Ok(stats)) => stats,
            None => return Ok(None),
            Some(Err(e)) if matches!(status(&e), Some(404 | 409)) => return Ok(None),
            Some(Err(e)) => return Err(EngineError::docker(Act::Inspect, format!("container {id}"))(e)),
        };
        let memory = stats.memory_stats.unwrap_or_default();
        let details = memory.stats.unwrap_or_default();
        // Control groups of version 1 and 2 name it differently.
        let droppable = details.get("total_inactive_file").or(details.get("inactive_file")).copied().unwrap_or(0);
        let cpu = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage);
        Ok(memory.usage.zip(cpu).map(|(used, cpu)| UsageSample {
            at: Instant::now(),
            cpu: Duration::from_nanos(cpu),
            memory_bytes: used.saturating_sub(droppable),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_what_was_used_between_two_samples() {
        let at = Instant::now();
        let earlier = UsageSample { at, cpu: Duration::from_secs(5), memory_bytes: 0 };
        let later = UsageSample {
            at: at + Duration::from_millis(100),
            cpu: Duration::from_millis(5150),
            memory_bytes: (35 << 20) + 1,
        };
        assert_eq!(later.since(&earlier), Usage { cpu_millis: 1500, memory_mib: 36 });
        assert_eq!(earlier.since(&earlier).cpu_millis, 0);
    }
}
