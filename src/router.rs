//! The data plane: balances the mapped ports to healthy instances, in a process of its own. It goes on with its last
//! table when the server goes, and hands its listening sockets to its successor.

mod balancer;
mod body;
mod control;
mod headers;
mod link;
mod listeners;
mod pool;
pub mod protocol;
mod proxy;
mod routes;
mod takeover;
mod tunnel;
mod unanswered;
mod worker;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

pub use link::Link;

use crate::config::Config;

/// How long requests in flight have once the router is told to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// How long clients' idle connections stay open after a successor has taken over, so that none is closed just when its
/// next request is under way.
const LINGER: Duration = Duration::from_secs(5);

/// Why the router does not run.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// A file or socket of the data folder.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another router runs and does not hand over.
    #[error("another router has {path} and does not hand over: {source}")]
    Running {
        /// Its lock.
        path: PathBuf,
        /// What was said.
        source: io::Error,
    },
    /// A thread or its runtime does not start.
    #[error("cannot start a worker: {0}")]
    Worker(#[source] io::Error),
}

/// Runs the router until `shutdown`, or until a successor takes over. Blocks; call it on a thread of a runtime's own.
pub fn run(config: &Config, shutdown: CancellationToken) -> Result<(), RouterError> {
    let dir = &config.data_dir;
    let failed = |act, path: PathBuf| move |source| RouterError::File { act, path, source };
    std::fs::create_dir_all(dir).map_err(failed("make", dir.clone()))?;
    let place = takeover::Place::enter(dir)?;
    let count = match config.router.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        some => some,
    };
    let (unheard, unanswered) = unanswered::Unheard::new();
    let shared = Arc::new(routes::Shared::new(config.router.trusted_proxies.clone(), unheard));
    let workers = worker::start(count, &shared).map_err(RouterError::Worker)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RouterError::Worker)?;
    let neighbours = runtime.block_on(control::run(place, shared, &workers, unanswered, shutdown));
    // Where somebody else accepts, clients are led there; otherwise there is nothing to wait for.
    let handed_over = neighbours.as_ref().is_ok_and(|neighbours| neighbours.successor.is_some());
    worker::drain(workers, if handed_over { LINGER } else { Duration::ZERO }, DRAIN);
    if let Ok(takeover::Neighbours { predecessor: Some(mut predecessor), successor: Some(_) }) = neighbours {
        // A successor knows of the routers before it only through this one.
        runtime.block_on(async { tokio::time::timeout(DRAIN, predecessor.ended()).await.ok() });
        return Ok(());
    }
    neighbours.map(drop)
}

#[cfg(test)]
mod tests;
