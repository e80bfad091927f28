//! The route table: built from port mappings and healthy instances, published in order, acknowledged by the router.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Mutex, watch};

use super::error::InstancesError;
use crate::{
    model::{Exposure, InstanceId, ProcessType, ServiceKey},
    router::{
        Link,
        protocol::{Action, Listener, Protocol, Route, Service, Table, Target},
    },
    store::{App, AppId, Instance, InstanceState, PortMapping, PortScheme, RoutingState, Store},
};

/// Longest wait for the router. A router that connects later gets the newest table then.
const ROUTER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a router that is not connected.
const NO_ROUTER_TIMEOUT: Duration = Duration::from_secs(1);

/// Publishes route tables, one after the other; cheap to clone.
#[derive(Clone)]
pub(super) struct Routes(Arc<Publisher>);

struct Publisher {
    store: Store,
    link: Link,
    listen: Vec<IpAddr>,
    /// Address at which the instances of linked apps reach the router.
    internal: Option<Ipv4Addr>,
    /// Last table that was published. Locked while the next one is built, so that tables are published in order.
    last: Mutex<Table>,
    /// Whether the containers that run were compared with the rows. Nothing is published before: an address might
    /// belong to another container than its row says.
    open: watch::Sender<bool>,
}

impl Routes {
    pub(super) fn new(store: Store, link: Link, listen: Vec<IpAddr>, internal: Option<Ipv4Addr>) -> Self {
        let (open, last) = (watch::Sender::new(false), Mutex::default());
        // A listener on all addresses includes it.
        let internal = internal.filter(|_| !listen.iter().any(IpAddr::is_unspecified));
        Self(Arc::new(Publisher { store, link, listen, internal, last, open }))
    }

    /// Allows tables to be published.
    pub(super) fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Waits until [`Self::open`] was called.
    pub(super) async fn opened(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.open.subscribe().wait_for(|open| *open).await;
    }

    /// Publishes a table of the current rows, unless it equals the last one. Returns the version of the table.
    pub(super) async fn publish(&self) -> Result<u64, InstancesError> {
        self.opened().await;
        let publisher = &self.0;
        let mut last = publisher.last.lock().await;
        let mut next = table(&publisher.store.routing_state().await?, &publisher.listen, publisher.internal);
        next.version = last.version;
        if last.version == 0 || next != *last {
            next.version = publisher.store.next_route_version().await?;
            publisher.link.publish(next.clone());
            *last = next;
        }
        Ok(last.version)
    }

    /// Waits until the router has applied this version. Returns the listeners that it could not open, with the reason.
    pub(super) async fn applied(&self, version: u64) -> Vec<(SocketAddr, String)> {
        self.0.link.applied(version).await
    }

    /// As [`Self::applied`], but returns `None` if the router does not apply the version soon.
    pub(super) async fn applied_soon(&self, version: u64) -> Option<Vec<(SocketAddr, String)>> {
        let limit = if self.connected() { ROUTER_TIMEOUT } else { NO_ROUTER_TIMEOUT };
        tokio::time::timeout(limit, self.applied(version)).await.ok()
    }

    /// Waits until an instance that is not in the applied table has answered its last request.
    pub(super) async fn drained(&self, id: &InstanceId) {
        self.0.link.drained(id).await;
    }

    /// Whether a router is connected.
    pub(super) fn connected(&self) -> bool {
        *self.0.link.connected().borrow()
    }
}

/// A table in which the healthy, exposed instances of each app's current release get the requests: those that are ready, or
/// all if none is.
fn table(state: &RoutingState, listen: &[IpAddr], internal: Option<Ipv4Addr>) -> Table {
    let apps: HashMap<_, _> = state.apps.iter().filter(|app| !app.destroying).map(|app| (app.id, app)).collect();
    let mut serving: HashMap<AppId, Vec<&Instance>> = HashMap::new();
    for row in &state.instances {
        let current = apps.get(&row.app).filter(|app| !app.stopped).and_then(|app| app.current);
        let routed = row.state == InstanceState::Healthy && state.is_exposed(row);
        if routed && current.is_some_and(|current| current.generation == row.generation) {
            serving.entry(row.app).or_default().push(row);
        }
    }
    // Those that fail their readiness checks get none, unless all do: a response of an instance that is not well is better
    // than none, and what fails for all at once is as a rule something on which all depend.
    for rows in serving.values_mut() {
        if rows.iter().any(|row| row.ready) {
            rows.retain(|row| row.ready);
        }
    }
    let mut services = BTreeMap::new();
    let mut listeners = Vec::new();
    for (id, mapping) in &state.mappings {
        let Some(app) = apps.get(id) else { continue };
        let key =
            ServiceKey { app: app.name.clone(), process_type: exposed_type(state, app), port: mapping.container_port };
        let internal = internal.filter(|_| state.linked.contains(id)).map(IpAddr::from);
        for address in listen.iter().copied().chain(internal) {
            listeners.push(Listener {
                address: SocketAddr::new(address, mapping.host_port),
                protocol: match mapping.scheme {
                    PortScheme::Http => Protocol::Http,
                    PortScheme::Tcp => Protocol::Tcp,
                },
                routes: vec![Route { host: "*".into(), path: "/".into(), action: Action::Forward(key.clone()) }],
            });
        }
        services.entry(key).or_insert_with_key(|key| Service {
            key: key.clone(),
            targets: serving.get(id).into_iter().flatten().filter_map(|row| target(row, mapping)).collect(),
        });
    }
    listeners.sort_by_key(|listener| listener.address);
    Table { version: 0, listeners, services: services.into_values().collect() }
}

/// The process type that the mappings of an app lead to.
fn exposed_type(state: &RoutingState, app: &App) -> ProcessType {
    let of_release = app.current.and_then(|current| state.exposed.get(&(app.id, current.release)));
    of_release.cloned().unwrap_or_else(Exposure::conventional_type)
}

fn target(row: &Instance, mapping: &PortMapping) -> Option<Target> {
    // Without a container, nothing of the instance can have the address.
    row.container.as_ref()?;
    Some(Target { instance: row.id.clone(), address: SocketAddr::new(row.endpoint?, row.port_of(Some(mapping))) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{model::CheckSettings, store::Deployment};

    fn app(id: i64, name: &str, current: Option<u64>) -> App {
        App {
            stack: None,
            source_folder: None,
            dockerfile: None,
            build_target: None,
            id: AppId(id),
            name: name.parse().unwrap(),
            candidate_process_type: None,
            deploy_branch: None,
            created_at: 0,
            stopped: false,
            destroying: false,
            current: current.map(|generation| Deployment { release: 1, generation }),
            candidate: None,
            formation: BTreeMap::new(),
            checks: CheckSettings::default(),
            stop_timeouts: BTreeMap::new(),
            mounts: Vec::new(),
        }
    }

    fn row(id: &str, app: i64, generation: u64, process_type: &str, slot: u8, state: InstanceState) -> Instance {
        Instance {
            id: id.parse().unwrap(),
            app: AppId(app),
            generation,
            release: 1,
            process_type: process_type.parse().unwrap(),
            ordinal: 1,
            node: "local".into(),
            endpoint: Some([10, 210, 0, slot + 2].into()),
            container: Some(format!("c-{id}")),
            state,
            restarts: 0,
            not_before: 0,
            port: 8080,
            ready: true,
            created_at: 0,
            oom_kills: 0,
            last_failure: None,
        }
    }

    fn mapping(scheme: PortScheme, host_port: u16, container_port: u16) -> PortMapping {
        PortMapping { scheme, host_port, container_port }
    }

    #[test]
    fn instances_that_are_not_ready_get_requests_only_if_none_is() {
        let mut instances: Vec<_> =
            [0, 1, 2].map(|slot| row(&format!("web-{slot}"), 1, 1, "web", slot, InstanceState::Healthy)).into();
        let targets = |instances: &[Instance]| {
            let state = RoutingState {
                mappings: vec![(AppId(1), mapping(PortScheme::Http, 10_001, 8080))],
                apps: vec![app(1, "one", Some(1))],
                instances: instances.to_vec(),
                exposed: [((AppId(1), 1), "web".parse().unwrap())].into(),
                linked: BTreeSet::new(),
            };
            let service = table(&state, &[IpAddr::from([127, 0, 0, 1])], None).services.remove(0);
            service.targets.iter().map(|target| target.instance.to_string()).collect::<Vec<_>>()
        };
        instances[1].ready = false;
        assert_eq!(targets(&instances), ["web-0", "web-2"]);
        instances[0].ready = false;
        assert_eq!(targets(&instances), ["web-2"]);
        instances[2].ready = false;
        assert_eq!(targets(&instances), ["web-0", "web-1", "web-2"], "all, since none is ready");
    }

    #[test]
    fn linked_apps_reach_the_same_ports_at_the_internal_address() {
        let state = RoutingState {
            mappings: vec![
                (AppId(1), mapping(PortScheme::Http, 10_001, 8080)),
                (AppId(2), mapping(PortScheme::Tcp, 10_002, 8080)),
            ],
            apps: vec![app(1, "one", None), app(2, "two", None)],
            instances: Vec::new(),
            exposed: HashMap::new(),
            linked: [AppId(2)].into(),
        };
        let listen = [IpAddr::from([127, 0, 0, 1])];
        let listeners = |internal| {
            let table = table(&state, &listen, internal);
            table.listeners.iter().map(|listener| listener.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(listeners(None), ["127.0.0.1:10001", "127.0.0.1:10002"]);
        let internal = listeners(Some(Ipv4Addr::new(10, 210, 0, 1)));
        assert_eq!(internal, ["10.210.0.1:10002", "127.0.0.1:10001", "127.0.0.1:10002"]);
    }

    #[test]
    fn only_healthy_exposed_instances_of_the_current_release_are_in_the_table() {
        use InstanceState::{Healthy, Retiring, Starting};
        let mut stopped = app(3, "stopped", Some(1));
        stopped.stopped = true;
        let mut leaving = app(4, "leaving", Some(1));
        leaving.destroying = true;
        let apps = vec![app(1, "one", Some(2)), app(2, "new", None), stopped, leaving, app(5, "api", Some(1))];
        let instances = vec![
            row("good", 1, 2, "web", 0, Healthy),
            row("starting", 1, 2, "web", 1, Starting),
            row("retiring", 1, 2, "web", 2, Retiring),
            row("old", 1, 1, "web", 3, Healthy),
            row("candidate", 1, 3, "web", 4, Healthy),
            row("worker", 1, 2, "worker", 5, Healthy),
            row("trial", 2, 1, "web", 6, Healthy),
            row("stopped", 3, 1, "web", 7, Healthy),
            row("leaving", 4, 1, "web", 8, Healthy),
            row("api", 5, 1, "api", 9, Healthy),
            row("not-exposed", 5, 1, "web", 10, Healthy),
        ];
        let mappings = vec![
            (AppId(1), mapping(PortScheme::Http, 10_001, 8080)),
            (AppId(1), mapping(PortScheme::Tcp, 7000, 5000)),
            (AppId(1), mapping(PortScheme::Http, 7001, 8080)),
            (AppId(2), mapping(PortScheme::Http, 10_002, 8080)),
            (AppId(3), mapping(PortScheme::Http, 10_003, 8080)),
            (AppId(4), mapping(PortScheme::Http, 10_004, 8080)),
            (AppId(5), mapping(PortScheme::Http, 10_005, 8080)),
        ];
        let listen = [IpAddr::from([127, 0, 0, 1])];
        // By the convention, but for the last.
        let exposed =
            (1..=5).map(|id| ((AppId(id), 1), if id == 5 { "api" } else { "web" }.parse().unwrap())).collect();
        let linked = BTreeSet::new();
        let table = table(&RoutingState { mappings, apps, instances, exposed, linked }, &listen, None);
        let services: Vec<_> = table
            .services
            .iter()
            .map(|s| (s.key.to_string(), s.targets.iter().map(|t| t.instance.as_str()).collect::<Vec<_>>()))
            .collect();
        assert_eq!(
            services,
            [
                ("api/api/8080".to_owned(), vec!["api"]),
                ("new/web/8080".to_owned(), vec![]),
                ("one/web/5000".to_owned(), vec!["good"]),
                ("one/web/8080".to_owned(), vec!["good"]),
                ("stopped/web/8080".to_owned(), vec![])
            ]
        );
        let target = &table.services[2].targets[0];
        assert_eq!((target.address, target.instance.as_str()), ("10.210.0.2:5000".parse().unwrap(), "good"));
        let service = |action: &Action| match action {
            Action::Forward(service) => service.to_string(),
            Action::Unknown => panic!("the server knows its actions"),
        };
        let listeners: Vec<_> =
            table.listeners.iter().map(|l| (l.address.port(), l.protocol, service(&l.routes[0].action))).collect();
        assert_eq!(
            listeners,
            [
                (7000, Protocol::Tcp, "one/web/5000".to_owned()),
                (7001, Protocol::Http, "one/web/8080".to_owned()),
                (10_001, Protocol::Http, "one/web/8080".to_owned()),
                (10_002, Protocol::Http, "new/web/8080".to_owned()),
                (10_003, Protocol::Http, "stopped/web/8080".to_owned()),
                (10_005, Protocol::Http, "api/api/8080".to_owned())
            ]
        );
    }
}
