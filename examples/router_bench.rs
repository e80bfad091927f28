//! A router with one listener and one instance, for `benches/router.sh`: `router_bench DIR LISTEN INSTANCE`.

use std::{error::Error, net::SocketAddr, path::PathBuf};

use paas::{
    config::Config,
    model::ServiceKey,
    router::{
        self, Link,
        protocol::{Action, Listener, Protocol, Route, Service, Table, Target},
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

// As in `paas` itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: router_bench DIR LISTEN INSTANCE");
    let dir = PathBuf::from(next()?);
    let (listen, instance): (SocketAddr, SocketAddr) = (next()?.parse()?, next()?.parse()?);
    let mut config = Config { data_dir: dir.clone(), ..Config::default() };
    config.router.workers = 1;
    let service: ServiceKey = "bench/web/8080".parse()?;
    let table = Table {
        version: 1,
        listeners: vec![Listener {
            address: listen,
            protocol: Protocol::Http,
            routes: vec![Route { host: "*".into(), path: "/".into(), action: Action::Forward(service.clone()) }],
        }],
        services: vec![Service {
            key: service,
            targets: vec![Target { instance: "bench-1".parse()?, address: instance }],
        }],
    };
    let publishing = std::thread::spawn(move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let link = Link::start(dir.join("router.sock"), &TaskTracker::new(), CancellationToken::new());
            link.publish(table);
            link.applied(1).await;
        });
        Ok(())
    });
    router::run(&config, CancellationToken::new())?;
    publishing.join().map_err(|_| "the publisher panicked")??;
    Ok(())
}
