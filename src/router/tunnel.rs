//! Bytes that are carried both ways: of a TCP mapping, and after an HTTP upgrade.

use std::rc::Rc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};

use super::{
    activity::Busy,
    balancer::{Claim, Unclaimed},
    client_limits::ClientSlot,
    pool::Upstream,
    protocol::Action,
    refusals::RefusalKind,
    socket,
    thread_state::ThreadState,
    transport::Transport,
};

/// The buffer of each direction, bytes.
const BUFFER_BYTES: usize = 32 * 1024;

/// Carries a client's TCP connection to the instance with the fewest connections, for as long as both machines are there
/// (TCP keepalives): a connection that is silent is not idle.
pub(super) async fn serve_tcp<S>(worker: Rc<ThreadState>, mut client: S, transport: Transport, slot: ClientSlot)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(listener) = worker.shared.listener(&transport.listener) else { return };
    let Some(Action::Forward(service)) = listener.routes.first().map(|route| &route.action) else { return };
    slot.set_busy();
    let mut tried = Vec::new();
    loop {
        let claim = match worker.shared.balancer.claim(service, &tried) {
            Ok(claim) => claim,
            Err(Unclaimed::NoInstance) => return,
            Err(Unclaimed::Share(share)) => {
                return worker.shared.refusals.log(RefusalKind::InFlight, &share.of(service));
            }
        };
        if let Ok(mut instance) = socket::connect(&claim).await {
            let _ = copy_bidirectional_with_sizes(&mut client, &mut instance, BUFFER_BYTES, BUFFER_BYTES).await;
            return;
        }
        tried.push(claim.instance().clone());
    }
}

/// Carries an upgraded connection; it counts as in flight until both sides have ended.
pub(super) async fn serve_upgraded(
    client_side: OnUpgrade,
    instance_side: OnUpgrade,
    claim: Claim,
    upstream: Upstream,
    busy: Busy,
) {
    if let (Ok(client_side), Ok(instance_side)) = tokio::join!(client_side, instance_side) {
        let (mut client_side, mut instance_side) = (TokioIo::new(client_side), TokioIo::new(instance_side));
        let _ = copy_bidirectional_with_sizes(&mut client_side, &mut instance_side, BUFFER_BYTES, BUFFER_BYTES).await;
    }
    drop((claim, upstream, busy));
}
