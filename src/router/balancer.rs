//! Who gets the next request: the instance with the fewest in flight. The set of instances and their counts are under
//! one mutex, and a pick counts at once, so that a drain misses none.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::protocol::{Service, Target};
use crate::model::InstanceId;

#[derive(Default)]
pub(super) struct Balancer {
    state: Mutex<State>,
    /// An instance that is not in the table has answered its last request.
    drained: Notify,
}

#[derive(Default)]
struct State {
    services: HashMap<String, Vec<Arc<Target>>>,
    instances: HashMap<InstanceId, Load>,
    drained: Vec<InstanceId>,
    /// Where the search begins, so that equals take turns.
    turn: usize,
}

#[derive(Default)]
struct Load {
    in_flight: usize,
    listed: bool,
}

/// A request, or a connection, that an instance was picked for; counts until it is dropped.
pub(super) struct Claim {
    balancer: Arc<Balancer>,
    target: Arc<Target>,
}

impl Claim {
    pub(super) fn instance(&self) -> &InstanceId {
        &self.target.instance
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.target.address
    }

    /// Whether new requests may still go to the instance.
    pub(super) fn is_listed(&self) -> bool {
        self.balancer.is_listed(&self.target.instance)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.balancer.lock();
        let Some(load) = state.instances.get_mut(&self.target.instance) else { return };
        load.in_flight -= 1;
        if load.in_flight == 0 && !load.listed {
            state.instances.remove(&self.target.instance);
            state.drained.push(self.target.instance.clone());
            self.balancer.drained.notify_one();
        }
    }
}

impl Balancer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another set of services in force; returns the instances that left it and still answer.
    pub(super) fn replace(&self, services: Vec<Service>) -> Vec<InstanceId> {
        let mut state = self.lock();
        let state = &mut *state;
        for load in state.instances.values_mut() {
            load.listed = false;
        }
        state.services.clear();
        for service in services {
            let targets: Vec<_> = service.targets.into_iter().map(Arc::new).collect();
            for target in &targets {
                state.instances.entry(target.instance.clone()).or_default().listed = true;
            }
            state.services.insert(service.name, targets);
        }
        state.instances.retain(|_, load| load.listed || load.in_flight > 0);
        state.draining()
    }

    /// Instances that are not in the table and still answer.
    pub(super) fn draining(&self) -> Vec<InstanceId> {
        self.lock().draining()
    }

    /// Picks an instance of the service that is not among `tried`, and counts the request.
    pub(super) fn claim(self: &Arc<Self>, service: &str, tried: &[InstanceId]) -> Option<Claim> {
        let mut state = self.lock();
        let state = &mut *state;
        let targets = state.services.get(service)?;
        state.turn = state.turn.wrapping_add(1);
        let first = state.turn % targets.len().max(1);
        let (later, sooner) = (targets.iter().skip(first), targets.iter().take(first));
        let load = |target: &Arc<Target>| state.instances.get(&target.instance).map_or(0, |load| load.in_flight);
        let target = later.chain(sooner).filter(|target| !tried.contains(&target.instance)).min_by_key(|t| load(t))?;
        let target = Arc::clone(target);
        state.instances.entry(target.instance.clone()).or_default().in_flight += 1;
        Some(Claim { balancer: Arc::clone(self), target })
    }

    /// Whether new requests may still go to the instance.
    pub(super) fn is_listed(&self, instance: &InstanceId) -> bool {
        self.lock().instances.get(instance).is_some_and(|load| load.listed)
    }

    /// Waits for instances to drain; cancel-safe.
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

impl State {
    fn draining(&self) -> Vec<InstanceId> {
        self.instances.iter().filter(|(_, load)| !load.listed).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(names: &[&str]) -> Vec<Service> {
        let target = |name: &&str| Target {
            instance: name.parse().unwrap(),
            container: String::new(),
            release: 1,
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
        };
        vec![Service { name: "s".into(), targets: names.iter().map(target).collect() }]
    }

    #[tokio::test]
    async fn the_least_busy_is_picked_and_who_leaves_is_drained_once() {
        let balancer = Arc::new(Balancer::default());
        assert!(balancer.claim("s", &[]).is_none());
        balancer.replace(service(&["a", "b"]));
        let one = balancer.claim("s", &[]).unwrap();
        let two = balancer.claim("s", &[]).unwrap();
        assert_ne!(one.instance(), two.instance());
        let (gone, stays) = if one.instance().as_str() == "a" { (one, two) } else { (two, one) };
        assert_eq!(balancer.replace(service(&["b"])), ["a".parse().unwrap()]);
        assert!(!balancer.is_listed(gone.instance()));
        assert_eq!(balancer.claim("s", &[]).unwrap().instance().as_str(), "b");
        assert!(balancer.claim("s", &["b".parse().unwrap()]).is_none(), "what was tried is not picked again");
        drop((gone, stays));
        assert_eq!(balancer.drained().await, ["a".parse().unwrap()], "b is still listed");
        assert!(balancer.draining().is_empty());
    }
}
