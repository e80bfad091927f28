//! Which instance gets the next request: the one with the fewest in flight. The set of instances and their counts are
//! under one mutex, and a picked instance is counted at once, so that a drain misses no request.
//!
//! An app may have three times as many requests in flight as are free, so that a slow one never has all.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use super::{
    client_limits::APP_SHARE,
    protocol::{Service, Target},
};
use crate::model::{AppName, InstanceId, ServiceKey};

#[derive(Default)]
pub(super) struct Balancer {
    state: Mutex<BalancerState>,
    /// Notified when an instance that is not in the route table has answered its last request.
    drained: Notify,
}

/// Why no instance is picked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unclaimed {
    /// There is none, or all were tried.
    NoInstance,
    /// The app has its share of the requests in flight.
    Share(InFlightShare),
}

/// The share of an app that has reached it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InFlightShare {
    /// How many the app has.
    has: usize,
    /// How many all apps may have together.
    max: usize,
}

impl InFlightShare {
    /// Why a request of the service is refused.
    pub(super) fn of(self, service: &ServiceKey) -> String {
        let (Self { has, max }, app) = (self, &service.app);
        format!("the app {app} has {has} requests in flight, which is its share of the router's {max}; try again later")
    }
}

struct BalancerState {
    /// Maximum number of claims.
    max: usize,
    claims: usize,
    /// The number of claims of each app.
    apps: HashMap<AppName, Arc<AtomicUsize>>,
    services: HashMap<ServiceKey, Vec<BalancedInstance>>,
    instances: HashMap<InstanceId, Arc<Load>>,
    /// Instances that have drained and are not yet reported.
    drained: Vec<InstanceId>,
    /// Where the next search begins, so that instances with equal counts take turns.
    turn: usize,
}

impl Default for BalancerState {
    fn default() -> Self {
        Self {
            max: usize::MAX,
            claims: 0,
            apps: HashMap::new(),
            services: HashMap::new(),
            instances: HashMap::new(),
            drained: Vec::new(),
            turn: 0,
        }
    }
}

struct BalancedInstance {
    endpoint: Arc<Endpoint>,
    load: Arc<Load>,
}

/// An instance at one of its ports, as a part of a service.
struct Endpoint {
    service: ServiceKey,
    target: Target,
    /// The number of claims of its app, written under the mutex only.
    claims: Arc<AtomicUsize>,
}

/// The load of an instance. It is written under the mutex only; atomics let a request read it without.
#[derive(Default)]
struct Load {
    in_flight: AtomicUsize,
    /// Whether the instance is in the route table.
    listed: AtomicBool,
}

/// Keeps an instance from counting as drained until it is dropped.
pub(super) struct Hold {
    balancer: Arc<Balancer>,
    instance: InstanceId,
    load: Arc<Load>,
}

/// The instance that was picked for a request or a connection; it counts as in flight until this is dropped.
pub(super) struct Claim {
    endpoint: Arc<Endpoint>,
    balancer: Arc<Balancer>,
    load: Arc<Load>,
}

impl Claim {
    pub(super) fn service(&self) -> &ServiceKey {
        &self.endpoint.service
    }

    pub(super) fn instance(&self) -> &InstanceId {
        &self.endpoint.target.instance
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.endpoint.target.address
    }

    /// Whether new requests may still go to the instance.
    pub(super) fn is_listed(&self) -> bool {
        self.load.listed.load(Relaxed)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.balancer.lock();
        state.claims -= 1;
        self.endpoint.claims.fetch_sub(1, Relaxed);
        self.balancer.release(&mut state, self.instance(), &self.load);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.balancer.release(&mut self.balancer.lock(), &self.instance, &self.load);
    }
}

impl Balancer {
    fn lock(&self) -> MutexGuard<'_, BalancerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, state: &mut BalancerState, instance: &InstanceId, load: &Load) {
        let before = load.in_flight.fetch_sub(1, Relaxed);
        if before == 1 && !load.listed.load(Relaxed) {
            state.instances.remove(instance);
            state.drained.push(instance.clone());
            self.drained.notify_one();
        }
    }

    /// Sets the maximum number of requests in flight; those beyond it go on.
    pub(super) fn set_max(&self, max: usize) {
        self.lock().max = max;
    }

    /// Replaces the services; returns the instances that are no longer listed and still have requests in flight.
    pub(super) fn replace(&self, services: Vec<Service>) -> Vec<InstanceId> {
        let mut state = self.lock();
        let state = &mut *state;
        for load in state.instances.values() {
            load.listed.store(false, Relaxed);
        }
        state.services.clear();
        for service in services {
            let claims = Arc::clone(state.apps.entry(service.key.app.clone()).or_default());
            let candidates = service.targets.into_iter().map(|target| {
                let load = Arc::clone(state.instances.entry(target.instance.clone()).or_default());
                load.listed.store(true, Relaxed);
                let endpoint = Endpoint { service: service.key.clone(), target, claims: Arc::clone(&claims) };
                let endpoint = Arc::new(endpoint);
                BalancedInstance { endpoint, load }
            });
            let candidates = candidates.collect();
            state.services.insert(service.key, candidates);
        }
        state.apps.retain(|_, claims| Arc::strong_count(claims) > 1);
        state.instances.retain(|_, load| load.listed.load(Relaxed) || load.in_flight.load(Relaxed) > 0);
        // An instance that is listed again has not drained, even if that was about to be reported.
        let instances = &state.instances;
        state.drained.retain(|instance| !instances.contains_key(instance));
        state.draining()
    }

    /// Instances that are not in the route table and still have requests in flight.
    pub(super) fn draining(&self) -> Vec<InstanceId> {
        self.lock().draining()
    }

    /// Instances that may get requests or have requests in flight.
    pub(super) fn active(&self) -> Vec<InstanceId> {
        self.lock().instances.keys().cloned().collect()
    }

    /// Keeps an instance from counting as drained, though this router has sent it no request.
    pub(super) fn hold(self: &Arc<Self>, instance: InstanceId) -> Hold {
        let mut state = self.lock();
        let load = Arc::clone(state.instances.entry(instance.clone()).or_default());
        load.in_flight.fetch_add(1, Relaxed);
        Hold { balancer: Arc::clone(self), instance, load }
    }

    /// Picks an instance of the service that is not among `tried`, and counts the request.
    pub(super) fn claim(self: &Arc<Self>, service: &ServiceKey, tried: &[InstanceId]) -> Result<Claim, Unclaimed> {
        let mut state = self.lock();
        let state = &mut *state;
        let candidates = state.services.get(service).ok_or(Unclaimed::NoInstance)?;
        state.turn = state.turn.wrapping_add(1);
        let first = state.turn % candidates.len().max(1);
        let candidate = candidates[first..]
            .iter()
            .chain(&candidates[..first])
            .filter(|candidate| tried.is_empty() || !tried.contains(&candidate.endpoint.target.instance))
            .min_by_key(|candidate| candidate.load.in_flight.load(Relaxed))
            .ok_or(Unclaimed::NoInstance)?;
        let (has, free) = (candidate.endpoint.claims.load(Relaxed), state.max.saturating_sub(state.claims));
        if has >= free.saturating_mul(APP_SHARE) {
            return Err(Unclaimed::Share(InFlightShare { has, max: state.max }));
        }
        state.claims += 1;
        candidate.endpoint.claims.fetch_add(1, Relaxed);
        candidate.load.in_flight.fetch_add(1, Relaxed);
        let (endpoint, load) = (Arc::clone(&candidate.endpoint), Arc::clone(&candidate.load));
        Ok(Claim { endpoint, balancer: Arc::clone(self), load })
    }

    /// Whether new requests may still go to the instance.
    pub(super) fn is_listed(&self, instance: &InstanceId) -> bool {
        self.lock().instances.get(instance).is_some_and(|load| load.listed.load(Relaxed))
    }

    /// Waits until instances have drained, and returns them; cancel-safe.
    pub(super) async fn drained(&self) -> Vec<InstanceId> {
        loop {
            let drained = std::mem::take(&mut self.lock().drained);
            if !drained.is_empty() {
                return drained;
            }
            self.drained.notified().await;
        }
    }
}

impl BalancerState {
    fn draining(&self) -> Vec<InstanceId> {
        self.instances.iter().filter(|(_, load)| !load.listed.load(Relaxed)).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ServiceKey {
        "app/web/8080".parse().unwrap()
    }

    fn service(names: &[&str]) -> Vec<Service> {
        let target =
            |name: &&str| Target { instance: name.parse().unwrap(), address: SocketAddr::from(([127, 0, 0, 1], 1)) };
        vec![Service { key: key(), targets: names.iter().map(target).collect() }]
    }

    #[tokio::test]
    async fn the_least_busy_instance_is_picked_and_a_removed_one_drains_once() {
        let balancer = Arc::new(Balancer::default());
        assert_eq!(balancer.claim(&key(), &[]).err(), Some(Unclaimed::NoInstance));
        balancer.replace(service(&["a", "b"]));
        let one = balancer.claim(&key(), &[]).unwrap();
        let two = balancer.claim(&key(), &[]).unwrap();
        assert_ne!(one.instance(), two.instance());
        let (removed, listed) = if one.instance().as_str() == "a" { (one, two) } else { (two, one) };
        assert_eq!(balancer.replace(service(&["b"])), ["a".parse().unwrap()]);
        assert!(!balancer.is_listed(removed.instance()));
        assert_eq!(balancer.claim(&key(), &[]).unwrap().instance().as_str(), "b");
        assert!(
            balancer.claim(&key(), &["b".parse().unwrap()]).is_err(),
            "an instance that was tried is not picked again"
        );
        drop((removed, listed));
        assert_eq!(balancer.drained().await, ["a".parse().unwrap()], "b is still listed");
        assert!(balancer.draining().is_empty());
    }

    #[tokio::test]
    async fn a_hold_delays_a_drain_and_an_instance_listed_again_is_not_drained() {
        let balancer = Arc::new(Balancer::default());
        balancer.replace(service(&["a"]));
        let hold = balancer.hold("a".parse().unwrap());
        assert_eq!(balancer.replace(service(&[])), ["a".parse().unwrap()]);
        drop(hold);
        balancer.replace(service(&["a", "b"]));
        let claim = balancer.claim(&key(), &["a".parse().unwrap()]).unwrap();
        balancer.replace(service(&["a"]));
        drop(claim);
        assert_eq!(
            balancer.drained().await,
            ["b".parse().unwrap()],
            "a was listed again before its drain was reported"
        );
    }

    #[tokio::test]
    async fn an_app_has_at_most_three_quarters_of_the_requests_in_flight_in_all_its_services() {
        let balancer = Arc::new(Balancer::default());
        balancer.set_max(8);
        let keys: Vec<ServiceKey> =
            ["app/web/8080", "app/api/8080", "other/web/8080"].map(|k| k.parse().unwrap()).into();
        let services = || {
            let service = |key: &ServiceKey| Service { key: key.clone(), targets: service(&["a"])[0].targets.clone() };
            keys.iter().map(service).collect()
        };
        balancer.replace(services());
        let claim = |n: usize| balancer.claim(&keys[n], &[]);
        let mut claims: Vec<_> = (0..6).map(|n| claim(n % 2).unwrap()).collect();
        for n in [0, 1] {
            assert_eq!(claim(n).err(), Some(Unclaimed::Share(InFlightShare { has: 6, max: 8 })));
        }
        claims.push(claim(2).unwrap());
        claims.truncate(4);
        balancer.replace(services());
        claims.extend([claim(0).unwrap(), claim(1).unwrap()]);
        assert!(claim(0).is_err(), "the counts outlive the table");
        drop(claims);
        assert_eq!(balancer.lock().claims, 0);
    }
}
