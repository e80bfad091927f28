//! A router with one worker, and a listener and an instance for each of some apps, for `benches/router.sh` and
//! `benches/crowd.sh`: `router_bench DIR LISTEN INSTANCE [LISTEN INSTANCE …]`.

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
    const USAGE: &str = "usage: router_bench DIR LISTEN INSTANCE [LISTEN INSTANCE …]";
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or(USAGE)?);
    let addresses = arguments.map(|address| address.parse()).collect::<Result<Vec<SocketAddr>, _>>()?;
    let (pairs, []) = addresses.as_chunks::<2>() else { return Err(USAGE.into()) };
    let mut config = Config { data_dir: dir.clone(), ..Config::default() };
    config.router.workers = 1;
    let mut table = Table { version: 1, ..Table::default() };
    for (n, [listen, instance]) in (1..).zip(pairs) {
        let key: ServiceKey = format!("bench-{n}/web/8080").parse()?;
        let target = Target { instance: format!("bench-{n}").parse()?, address: *instance };
        let action = Action::Forward(key.clone());
        let routes = vec![Route { host: "*".into(), path: "/".into(), action }];
        table.listeners.push(Listener { address: *listen, protocol: Protocol::Http, routes });
        table.services.push(Service { key, targets: vec![target] });
    }
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
