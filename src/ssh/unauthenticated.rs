//! Places of connections that are not yet authenticated. A new connection always gets one: when all are taken, the oldest
//! connection of the network that has the most is closed for it, so that held connections keep nobody out.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::{config::Ssh, model::ClientNetwork};

/// The places, and who has them.
#[derive(Debug)]
pub(super) struct Unauthenticated {
    max: usize,
    max_per_network: usize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    taken: usize,
    next_number: u64,
    /// Connections of each network, oldest first.
    networks: HashMap<ClientNetwork, VecDeque<Place>>,
}

#[derive(Debug)]
struct Place {
    number: u64,
    evicted: CancellationToken,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(super) struct UnauthenticatedSlot {
    shared: Arc<Unauthenticated>,
    network: ClientNetwork,
    number: u64,
    /// Cancelled when another connection has got this place; then the connection is to be closed.
    pub(super) evicted: CancellationToken,
}

impl Unauthenticated {
    pub(super) fn new(config: &Ssh) -> Arc<Self> {
        Arc::new(Self {
            max: config.max_unauthenticated,
            max_per_network: config.max_unauthenticated_per_address,
            places: Mutex::default(),
        })
    }

    /// Gives a new connection a place. Returns also the network that had to give one up for it.
    pub(super) fn admit(self: &Arc<Self>, network: ClientNetwork) -> (UnauthenticatedSlot, Option<ClientNetwork>) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let of_network = places.networks.get(&network).map_or(0, VecDeque::len);
        let evicted_from = if of_network >= self.max_per_network {
            Some(network)
        } else if places.taken >= self.max {
            places.largest()
        } else {
            None
        };
        if let Some(from) = evicted_from {
            places.evict_oldest(from);
        }
        let number = places.next_number;
        places.next_number += 1;
        places.taken += 1;
        let evicted = CancellationToken::new();
        places.networks.entry(network).or_default().push_back(Place { number, evicted: evicted.clone() });
        (UnauthenticatedSlot { shared: Arc::clone(self), network, number, evicted }, evicted_from)
    }
}

impl Places {
    /// The network with the most connections; of several, the one with the oldest.
    fn largest(&self) -> Option<ClientNetwork> {
        let size =
            |places: &VecDeque<Place>| (places.len(), std::cmp::Reverse(places.front().map(|place| place.number)));
        self.networks.iter().max_by_key(|(_, places)| size(places)).map(|(network, _)| *network)
    }

    fn evict_oldest(&mut self, network: ClientNetwork) {
        let Some(oldest) = self.networks.get(&network).and_then(VecDeque::front) else { return };
        oldest.evicted.cancel();
        let number = oldest.number;
        self.release(network, number);
    }

    fn release(&mut self, network: ClientNetwork, number: u64) {
        let Some(places) = self.networks.get_mut(&network) else { return };
        let before = places.len();
        places.retain(|place| place.number != number);
        self.taken -= before - places.len();
        if places.is_empty() {
            self.networks.remove(&network);
        }
    }
}

impl Drop for UnauthenticatedSlot {
    fn drop(&mut self) {
        self.shared.places.lock().unwrap_or_else(PoisonError::into_inner).release(self.network, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> ClientNetwork {
        ClientNetwork::of(text.parse().unwrap())
    }

    fn places(max: usize, max_per_network: usize) -> Arc<Unauthenticated> {
        Unauthenticated::new(&Ssh {
            max_unauthenticated: max,
            max_unauthenticated_per_address: max_per_network,
            ..Ssh::default()
        })
    }

    fn is_evicted(slot: &UnauthenticatedSlot) -> bool {
        slot.evicted.is_cancelled()
    }

    #[test]
    fn a_network_at_its_limit_gives_up_its_oldest_connection() {
        let places = places(10, 2);
        let (attacker, other) = (network("192.0.2.1"), network("192.0.2.2"));
        let (first, _) = places.admit(attacker);
        let (second, evicted) = places.admit(attacker);
        assert_eq!(evicted, None);
        let (of_other, _) = places.admit(other);
        let (third, evicted) = places.admit(attacker);
        assert_eq!(evicted, Some(attacker));
        assert_eq!([&first, &second, &third, &of_other].map(is_evicted), [true, false, false, false]);
        // The place is given up once, although its connection ends later.
        drop(first);
        assert_eq!(places.places.lock().unwrap().taken, 3);
        drop((second, third, of_other));
        let places = places.places.lock().unwrap();
        assert_eq!((places.taken, places.networks.len()), (0, 0));
    }

    #[test]
    fn a_newcomer_gets_the_place_of_the_network_that_has_the_most() {
        let places = places(6, 4);
        let (a, b) = (network("2001:db8:0:a::1"), network("192.0.2.1"));
        let of_b: Vec<_> = (0..2).map(|_| places.admit(b).0).collect();
        let of_a: Vec<_> = (0..4).map(|_| places.admit(a).0).collect();
        let (newcomer, evicted) = places.admit(network("192.0.2.9"));
        assert_eq!(evicted, Some(a));
        assert!(is_evicted(&of_a[0]) && !of_a[1..].iter().chain(&of_b).any(is_evicted) && !is_evicted(&newcomer));
    }

    #[test]
    fn of_as_many_networks_as_places_the_oldest_connection_goes() {
        let places = places(3, 2);
        let slots: Vec<_> = (1..=3).map(|n| places.admit(network(&format!("192.0.2.{n}"))).0).collect();
        assert_eq!(places.admit(network("192.0.2.9")).1, Some(network("192.0.2.1")));
        assert_eq!(slots.iter().map(is_evicted).collect::<Vec<_>>(), [true, false, false]);
    }
}
