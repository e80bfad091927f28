//! Changes of the packet filters by other programs, as they happen or by asking from time to time.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, bind,
        netlink::{NETFILTER, SocketAddrNetlink},
        socket_with,
    },
};
use tokio::net::UnixDatagram;

use super::child;

/// Multicast group of the changes of nftables (`NFNLGRP_NFTABLES`, the seventh).
const NFTABLES_GROUP: u32 = 1 << 6;
/// Built-in chains, and that of Docker, into which rules are inserted that may precede ours.
const SHARED_CHAINS: [&[u8]; 3] = [b"INPUT\0", b"FORWARD\0", b"DOCKER-USER\0"];
/// Longest time between two looks at the filters, if changes are reported.
const REPORTED_PERIOD: Duration = Duration::from_secs(30);
/// Time between two looks if changes are not reported: `iptables-legacy` has no notifications.
const POLLING_PERIOD: Duration = Duration::from_millis(500);
/// Shortest time between two looks, however often something changes.
const MIN_INTERVAL: Duration = Duration::from_millis(250);
/// How long a change may take that consists of several: a flush, and then new rules.
const SETTLING_TIME: Duration = Duration::from_millis(30);

/// Changes of the filter tables.
pub(super) struct FilterChanges {
    /// What the names of our chains begin with.
    chains: Vec<u8>,
    socket: Option<UnixDatagram>,
    last: Instant,
}

impl FilterChanges {
    /// Changes of chains whose names begin with `chains`, and of those that all share. With the `iptables` of nftables the
    /// kernel reports them.
    pub(super) async fn new(chains: &str) -> Self {
        let version = child::run("iptables", ["-V"], None).await.unwrap_or_default();
        let socket = if version.contains("nf_tables") { subscribe() } else { Err(io::ErrorKind::Unsupported.into()) };
        let socket = socket
            .inspect_err(
                |error| tracing::info!(%error, "changes of the packet filters are not reported: they are read"),
            )
            .ok();
        Self { chains: chains.as_bytes().to_vec(), socket, last: Instant::now() }
    }

    /// Waits until the filters may have changed, or have not been looked at for a while. `is_used` says whether a packet
    /// could come.
    pub(super) async fn next(&mut self, is_used: impl Fn() -> bool) {
        loop {
            let period = if self.socket.is_some() { REPORTED_PERIOD } else { POLLING_PERIOD };
            let reported = tokio::time::timeout(period, self.reported()).await.is_ok();
            if reported || is_used() {
                break;
            }
        }
        let rest = MIN_INTERVAL.saturating_sub(self.last.elapsed()).max(SETTLING_TIME);
        tokio::time::sleep(rest).await;
        self.last = Instant::now();
    }

    /// Waits until the kernel reports a change that concerns us; for ever if it reports none.
    async fn reported(&self) {
        let Some(socket) = &self.socket else { return std::future::pending().await };
        let mut message = vec![0; 1 << 16];
        loop {
            let concerns = match socket.recv(&mut message).await {
                Ok(length) => self.concerns(&message[..length]),
                // Messages were lost.
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => true,
                Err(error) => {
                    tracing::warn!(%error, "cannot read the changes of the packet filters");
                    return std::future::pending().await;
                }
            };
            if concerns {
                return;
            }
        }
    }

    fn concerns(&self, message: &[u8]) -> bool {
        let has = |wanted: &[u8]| message.windows(wanted.len()).any(|bytes| bytes == wanted);
        SHARED_CHAINS.into_iter().chain([self.chains.as_slice()]).any(has)
    }
}

/// A netlink socket; for Tokio it is one of datagrams like any other.
fn subscribe() -> io::Result<UnixDatagram> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
    bind(&socket, &SocketAddrNetlink::new(0, NFTABLES_GROUP))?;
    UnixDatagram::from_std(socket.into())
}

/// Whether a container is connected to a bridge whose interface has a name with this prefix.
pub(super) fn has_containers(interfaces: &str) -> bool {
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else { return true };
    let bridges = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(interfaces));
    let ports = |bridge: &Path| std::fs::read_dir(bridge.join("brif")).is_ok_and(|mut ports| ports.next().is_some());
    bridges.into_iter().any(|bridge| ports(&bridge.path()))
}
