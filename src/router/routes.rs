//! The route table in force, as all workers see it.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use super::{
    balancer::Balancer,
    client_limits::ClientLimits,
    descriptors::{ConnectionBudget, DescriptorBudget},
    protocol::{Action, Listener, Protocol, Route, Table},
    refusals::Refusals,
    timeouts::Timeouts,
    unanswered::FailureReporter,
};
use crate::{
    config::Router,
    model::{AppName, InstanceId},
};

/// What all workers and the control thread share.
pub(super) struct RouterState {
    pub(super) balancer: Arc<Balancer>,
    /// Proxies whose `X-Forwarded-*` headers are believed.
    pub(super) trusted: Vec<IpAddr>,
    pub(super) failures: FailureReporter,
    pub(super) refusals: Refusals,
    pub(super) limits: Arc<ClientLimits>,
    pub(super) timeouts: Timeouts,
    pub(super) descriptors: DescriptorBudget,
    /// Maximum number of idle upstreams of all workers together.
    idle_upstreams: AtomicUsize,
    listeners: RwLock<HashMap<SocketAddr, Arc<RoutedListener>>>,
}

/// A listener with its routes, sorted from the most specific to the least.
pub(super) struct RoutedListener {
    pub(super) protocol: Protocol,
    pub(super) routes: Vec<Route>,
    /// The app that all routes lead to, if it is one.
    pub(super) app: Option<AppName>,
}

impl From<Listener> for RoutedListener {
    fn from(Listener { mut routes, protocol, .. }: Listener) -> Self {
        routes.sort_by_key(specificity);
        let app = |route: &Route| match &route.action {
            Action::Forward(service) => Some(service.app.clone()),
            Action::Unknown => None,
        };
        let first = routes.first().and_then(app);
        let app = first.filter(|first| routes.iter().all(|route| app(route).as_ref() == Some(first)));
        Self { protocol, routes, app }
    }
}

impl RouterState {
    pub(super) fn new(config: &Router, descriptors: DescriptorBudget, failures: FailureReporter) -> Self {
        let trusted = config.trusted_proxies.clone();
        Self {
            balancer: Arc::default(),
            limits: ClientLimits::new(trusted.clone()),
            trusted,
            failures,
            refusals: Refusals::default(),
            timeouts: Timeouts::new(config),
            descriptors,
            idle_upstreams: AtomicUsize::new(0),
            listeners: RwLock::default(),
        }
    }

    /// Maximum number of idle upstreams of all workers together.
    pub(super) fn idle_upstreams(&self) -> usize {
        self.idle_upstreams.load(Relaxed)
    }

    /// Replaces the route table; returns the instances that are not in it but still have requests in flight.
    pub(super) fn apply(&self, table: Table) -> Vec<InstanceId> {
        let ConnectionBudget { clients, in_flight, idle_upstreams } =
            self.descriptors.connections(table.listeners.len());
        self.limits.set_max(clients);
        self.balancer.set_max(in_flight);
        self.idle_upstreams.store(idle_upstreams, Relaxed);
        let sorted = table.listeners.into_iter().map(|listener| (listener.address, Arc::new(listener.into())));
        *self.listeners.write().unwrap_or_else(PoisonError::into_inner) = sorted.collect();
        self.balancer.replace(table.services)
    }

    pub(super) fn listener(&self, address: &SocketAddr) -> Option<Arc<RoutedListener>> {
        self.listeners.read().unwrap_or_else(PoisonError::into_inner).get(address).cloned()
    }
}

/// Sorts exact hosts before wildcards, `*` last, longer hosts before shorter ones, then longer paths before shorter ones.
fn specificity(route: &Route) -> (u8, std::cmp::Reverse<usize>, std::cmp::Reverse<usize>) {
    let kind = if route.host == "*" { 2 } else { u8::from(route.host.starts_with("*.")) };
    (kind, std::cmp::Reverse(route.host.len()), std::cmp::Reverse(route.path.len()))
}

/// The first route that matches; routes are sorted from the most specific to the least.
pub(super) fn find<'a>(routes: &'a [Route], host: &str, path: &str) -> Option<&'a Route> {
    routes.iter().find(|route| host_matches(&route.host, host) && path_matches(&route.path, path))
}

fn host_matches(pattern: &str, host: &str) -> bool {
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    match pattern.strip_prefix('*') {
        None => pattern.eq_ignore_ascii_case(host),
        Some("") => true,
        Some(suffix) => {
            host.len() > suffix.len()
                && host.as_bytes()[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
        }
    }
}

fn path_matches(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::protocol::Action;

    #[test]
    fn the_most_specific_route_wins() {
        let route = |host: &str, path: &str, service: &str| Route {
            host: host.into(),
            path: path.into(),
            action: Action::Forward(service.parse().unwrap()),
        };
        let mut routes = vec![
            route("*", "/", "any/web/1"),
            route("*.example.org", "/", "wildcard/web/1"),
            route("www.example.org", "/", "www/web/1"),
            route("www.example.org", "/api", "api/web/1"),
        ];
        routes.sort_by_key(specificity);
        let found = |host, path| match &find(&routes, host, path).unwrap().action {
            Action::Forward(service) => service.app.as_str(),
            Action::Unknown => panic!("{host}{path}"),
        };
        assert_eq!(found("www.example.org:80", "/api/x"), "api");
        assert_eq!(found("WWW.example.org", "/apis"), "www");
        assert_eq!(found("a.b.example.org", "/"), "wildcard");
        assert_eq!(found("example.org", "/"), "any");
        assert_eq!(found("", "*"), "any");
    }
}
