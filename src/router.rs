//! The data plane: balances the mapped ports to healthy instances, in a process of its own. It keeps its last route table
//! when the server stops, and hands its listening sockets over to a new router.

mod activity;
mod balancer;
mod body;
mod client_limits;
mod client_stream;
mod control;
mod descriptors;
mod dispatch;
mod error;
mod error_page;
mod headers;
mod http_connection;
mod lifetime;
mod link;
mod listeners;
mod pool;
mod priority;
pub mod protocol;
mod proxy;
mod refusals;
mod routes;
mod server_connection;
mod socket;
mod stall;
mod takeover;
mod thread_state;
mod timeouts;
mod transport;
mod tunnel;
mod unanswered;
mod upload;
mod upstream_stream;
mod worker;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

pub use error::RouterError;
pub use link::{Link, LinkStatus};
pub use priority::raise_priority;

use crate::{config::Config, data_dir};

/// How long requests in flight have to end after shutdown is requested.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long clients' idle connections stay open after a new router has taken over, so that none is closed just when its
/// next request is on the way.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the router until `shutdown`, or until a new router takes over. Blocks: call it on a thread of its own, not on
/// a runtime's worker.
pub fn run(config: &Config, shutdown: CancellationToken) -> Result<(), RouterError> {
    let path = &config.data_dir;
    let failed = |act, path: PathBuf| move |source| RouterError::File { act, path, source };
    data_dir::create(path, config.user_id).map_err(failed("make", path.clone()))?;
    // Before anything is taken over, which brings descriptors.
    let descriptors = descriptors::raise_limit();
    let count = match config.router.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        some => some,
    };
    let budget = descriptors::DescriptorBudget::new(descriptors, count, config.router.max_connections);
    let folder = takeover::RouterDir::open(path, budget.listeners())?;
    let (reporter, unanswered) = unanswered::FailureReporter::new();
    let shared = Arc::new(routes::RouterState::new(&config.router, budget, reporter));
    let workers = worker::start(count, &shared).map_err(RouterError::Worker)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RouterError::Worker)?;
    let neighbours = runtime.block_on(control::run(folder, shared, &workers, unanswered, shutdown));
    // Where a new router accepts, clients move to it; otherwise there is nothing to linger for.
    let handed_over = neighbours.as_ref().is_ok_and(|neighbours| neighbours.successor.is_some());
    worker::drain(workers, if handed_over { LINGER_TIMEOUT } else { Duration::ZERO }, DRAIN_TIMEOUT);
    if let Ok(takeover::Neighbours { predecessor: Some(mut predecessor), successor: Some(_) }) = neighbours {
        // The successor learns only through this router that the predecessor has ended.
        runtime.block_on(async { tokio::time::timeout(DRAIN_TIMEOUT, predecessor.ended()).await.ok() });
        return Ok(());
    }
    neighbours.map(drop)
}

#[cfg(test)]
mod tests;
