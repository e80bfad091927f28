//! The file descriptors of the router, and how they are shared out among ports, clients and instances.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Assumed if the kernel sets no limit: what it allows a process by default.
const UNLIMITED: u64 = 1 << 20;

/// Raises the limit of this process as far as it may; returns the number of descriptors that it may have open.
pub(super) fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (before, most) = (current.unwrap_or(UNLIMITED), maximum.unwrap_or(UNLIMITED));
    let now = match setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }) {
        Ok(()) => most,
        Err(error) => {
            tracing::warn!(%error, limit = before, "cannot raise the limit of file descriptors");
            before
        }
    };
    tracing::info!(limit = now, before, "file descriptors");
    usize::try_from(now).unwrap_or(usize::MAX)
}

/// What the router may have open.
#[derive(Debug, Clone, Copy)]
pub(super) struct DescriptorBudget {
    /// For ports, clients and instances.
    shared: usize,
    /// `router.max_connections`; 0 for as many as the descriptors allow.
    max_connections: usize,
}

/// How many connections of each kind there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionBudget {
    /// Connections of clients.
    pub(super) clients: usize,
    /// Requests and TCP connections that are in flight to instances.
    pub(super) in_flight: usize,
    /// Connections to instances that are kept without a request.
    pub(super) idle_upstreams: usize,
}

impl DescriptorBudget {
    pub(super) fn new(descriptors: usize, workers: usize, max_connections: usize) -> Self {
        // For logs, the server, other routers, and each worker's runtime with the connection that it refuses.
        let reserve = 64 + 8 * workers;
        Self { shared: descriptors.saturating_sub(reserve).max(16), max_connections }
    }

    /// Maximum number of open ports: half of the descriptors.
    pub(super) fn listeners(&self) -> usize {
        self.shared / 2
    }

    /// What is left beside so many ports: a third is for instances, since idle clients need none.
    pub(super) fn connections(&self, listeners: usize) -> ConnectionBudget {
        let left = self.shared - listeners.min(self.listeners());
        let most = left - left / 3;
        let clients = if self.max_connections == 0 { most } else { self.max_connections.min(most) };
        let upstreams = left - clients;
        let idle_upstreams = upstreams / 4;
        ConnectionBudget { clients, in_flight: upstreams - idle_upstreams, idle_upstreams }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_are_never_exceeded() {
        for (descriptors, workers, listeners, max_connections) in
            [(1024, 2, 1000, 0), (20_000, 2, 1000, 0), (1_048_576, 64, 10_000, 50_000), (256, 1, 0, 8), (10, 2, 5, 0)]
        {
            let budget = DescriptorBudget::new(descriptors, workers, max_connections);
            let ports = listeners.min(budget.listeners());
            let ConnectionBudget { clients, in_flight, idle_upstreams } = budget.connections(listeners);
            assert!(ports + clients + in_flight + idle_upstreams <= descriptors.max(16), "{descriptors}");
            assert!(clients > 0 && in_flight > 0, "{descriptors}");
            assert!(max_connections == 0 || clients <= max_connections);
        }
        let ten_thousand = DescriptorBudget::new(20_000, 2, 0).connections(10);
        assert!(ten_thousand.clients > 13_000, "{ten_thousand:?}");
    }

    #[test]
    fn the_limit_is_raised_to_the_hard_one() {
        let limit = raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert!(limit > 0);
    }
}
