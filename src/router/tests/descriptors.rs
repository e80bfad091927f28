//! The descriptors of ports.

use std::{collections::HashSet, fs, net::SocketAddr};

use super::kit::*;
use crate::router::{
    listeners::Listeners,
    protocol::{Protocol, Service, Table},
};

/// How many descriptors of this process stand for the socket that listens on this IPv4 address.
fn descriptors_of(address: SocketAddr) -> usize {
    let port = format!(":{:04X}", address.port());
    let sockets = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let listening = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let inodes: HashSet<String> = listening
        .filter(|fields| fields[1].ends_with(&port) && fields[3] == "0A")
        .map(|fields| format!("socket:[{}]", fields[9]))
        .collect();
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    open.filter(|target| inodes.contains(&*target.to_string_lossy())).count()
}

#[tokio::test]
async fn a_port_has_one_descriptor_also_after_a_change_of_protocol_and_a_takeover() {
    let echo = Instance::echo("one").await;
    let (mut router, address) = Router::serving(&[&echo]).await;
    assert_eq!(descriptors_of(address), 1);
    router.put(table(2, address, Protocol::Tcp, &[&echo])).await;
    assert!(Peer::connect(address).await.request(GET).await.text().starts_with("one"));
    assert_eq!(descriptors_of(address), 1);
    router.put(table(3, address, Protocol::Http, &[&echo])).await;
    let (shutdown, thread) = run(&router.dir);
    let before = router.thread.replace(thread).unwrap();
    let before = tokio::task::spawn_blocking(move || before.join().unwrap());
    tokio::time::timeout(std::time::Duration::from_mins(1), before).await.unwrap().unwrap().unwrap();
    router.shutdown = shutdown;
    assert!(Peer::connect(address).await.request(GET).await.text().starts_with("one"));
    assert_eq!(descriptors_of(address), 1);
}

#[tokio::test]
async fn a_thousand_ports_are_served() {
    let echo = Instance::echo("one").await;
    let router = Router::start();
    // An address of its own, where no other test has a port.
    let addresses: Vec<_> = (20_000..21_000).map(|port| SocketAddr::from(([127, 0, 7, 1], port))).collect();
    let listeners = addresses.iter().map(|at| listener(*at, Protocol::Http, &[("*", "/", SERVICE)]));
    let services = vec![Service { key: SERVICE.parse().unwrap(), targets: vec![echo.target()] }];
    router.put(Table { version: 1, listeners: listeners.collect(), services }).await;
    for address in addresses.iter().step_by(99) {
        assert_eq!(descriptors_of(*address), 1);
        assert_eq!(Peer::connect(*address).await.request(GET).await.status(), 200);
    }
}

#[tokio::test]
async fn a_port_without_a_descriptor_is_reported_and_the_others_are_opened() {
    let mut listeners = Listeners::new(3);
    let wanted: Vec<_> = (0..5).map(|_| listener(free(), Protocol::Http, &[])).collect();
    let failed = listeners.apply(&wanted, &[]).await;
    assert_eq!(failed.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [wanted[3].address, wanted[4].address]);
    let reason = "the router has no file descriptor left for it: 3 ports are open, of 3 that its limit";
    assert!(failed.iter().all(|(_, why)| why.starts_with(reason)), "{failed:?}");
    assert_eq!(listeners.sockets().count(), 3);
    assert_eq!(listeners.apply(&wanted[1..4], &[]).await, [], "one was closed");
}
