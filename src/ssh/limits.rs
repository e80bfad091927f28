//! Limits on connections, and on those that are not yet authenticated.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{config::Ssh, model::ClientNetwork};

/// The limits, and the counts of present connections.
pub(super) struct Limits {
    connections: usize,
    unauthenticated: usize,
    per_address: usize,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: usize,
    unauthenticated: usize,
    addresses: HashMap<ClientNetwork, usize>,
}

/// A slot for a connection; released when dropped.
pub(super) struct ConnectionSlot(Arc<Limits>);

/// A slot for a connection that is not yet authenticated; released when dropped.
pub(super) struct UnauthenticatedSlot(Arc<Limits>, ClientNetwork);

impl Limits {
    pub(super) fn new(config: &Ssh) -> Arc<Self> {
        Arc::new(Self {
            connections: config.max_connections,
            unauthenticated: config.max_unauthenticated,
            per_address: config.max_unauthenticated_per_address,
            counts: Mutex::default(),
        })
    }

    /// Admits a new connection; the error names the limit that it would exceed.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<(ConnectionSlot, UnauthenticatedSlot), &'static str> {
        let peer = ClientNetwork::of(peer);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.connections >= self.connections {
            return Err("too many connections");
        }
        if counts.unauthenticated >= self.unauthenticated {
            return Err("too many unauthenticated connections");
        }
        let of_address = counts.addresses.get(&peer).copied().unwrap_or(0);
        if of_address >= self.per_address {
            return Err("too many unauthenticated connections from one address");
        }
        counts.connections += 1;
        counts.unauthenticated += 1;
        counts.addresses.insert(peer, of_address + 1);
        Ok((ConnectionSlot(Arc::clone(self)), UnauthenticatedSlot(Arc::clone(self), peer)))
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).connections -= 1;
    }
}

impl Drop for UnauthenticatedSlot {
    fn drop(&mut self) {
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.unauthenticated -= 1;
        if let Some(count) = counts.addresses.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.addresses.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_limited_and_released() {
        let config =
            Ssh { max_connections: 4, max_unauthenticated: 3, max_unauthenticated_per_address: 2, ..Ssh::default() };
        let limits = Limits::new(&config);
        let a: IpAddr = "2001:db8::1".parse().unwrap();
        let b: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let first = limits.admit(a).unwrap();
        let (slot, unauthenticated) = limits.admit("2001:db8::2".parse().unwrap()).unwrap();
        assert!(limits.admit(a).is_err(), "the /64 counts as one");
        drop(unauthenticated);
        let second = limits.admit(a).unwrap();
        let third = limits.admit(b).unwrap();
        drop(first.1);
        assert_eq!(limits.admit(b).err(), Some("too many connections"));
        drop(slot);
        assert!(limits.admit(b).is_ok());
        drop((first.0, second, third));
        let counts = limits.counts.lock().unwrap();
        assert_eq!((counts.connections, counts.unauthenticated, counts.addresses.len()), (0, 0, 0));
    }
}
