//! A TCP mapping: a client's connection carried to the instance with the fewest of them.

use std::rc::Rc;

use tokio::{io::copy_bidirectional_with_sizes, net::TcpStream};

use super::{pool, worker::Worker};

/// What each direction has for bytes on their way.
pub(super) const BUFFER: usize = 32 * 1024;

pub(super) async fn serve(worker: Rc<Worker>, listener: std::net::SocketAddr, mut client: TcpStream) {
    let Some(listener) = worker.shared.listener(&listener) else { return };
    let Some(route) = listener.routes.first() else { return };
    let mut tried = Vec::new();
    while let Some(claim) = worker.shared.balancer.claim(&route.service, &tried) {
        if let Ok(mut instance) = pool::reach(&claim).await {
            let _ = copy_bidirectional_with_sizes(&mut client, &mut instance, BUFFER, BUFFER).await;
            return;
        }
        tried.push(claim.instance().clone());
    }
}
