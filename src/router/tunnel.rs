//! A TCP mapping: a client's connection carried to the instance with the fewest of them.

use std::{rc::Rc, time::Duration};

use tokio::net::TcpStream;

use super::worker::Worker;

const CONNECT: Duration = Duration::from_secs(3);

pub(super) async fn serve(worker: Rc<Worker>, listener: std::net::SocketAddr, mut client: TcpStream) {
    let Some(listener) = worker.shared.listener(&listener) else { return };
    let Some(route) = listener.routes.first() else { return };
    let mut tried = Vec::new();
    while let Some(claim) = worker.shared.balancer.claim(&route.service, &tried) {
        let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(claim.address())).await;
        if let Ok(Ok(mut instance)) = connecting {
            let _ = client.set_nodelay(true);
            let _ = instance.set_nodelay(true);
            let _ = tokio::io::copy_bidirectional(&mut client, &mut instance).await;
            return;
        }
        tried.push(claim.instance().clone());
    }
}
