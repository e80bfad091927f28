//! Shares of authenticated clients: how many connections and sessions a key and a network have at a time, with some
//! connections reserved for admins.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    config::Ssh,
    model::{ClientNetwork, UserName},
    store::{Key, UserId},
};

/// Why a client gets no connection, or no session, at the moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LimitReached {
    /// Of connections of a key.
    #[error("your key {key:?} has {max} connections already (ssh.max_connections_per_key); close some, then try again")]
    ConnectionsOfKey {
        /// Name of the key.
        key: String,
        /// Limit.
        max: usize,
    },
    /// Of connections from a network.
    #[error(
        "{network} has {max} connections already (ssh.max_connections_per_network); close some, or try again later"
    )]
    ConnectionsOfNetwork {
        /// The network.
        network: ClientNetwork,
        /// Limit.
        max: usize,
    },
    /// Of all connections.
    #[error(
        "the server has {max} connections already (ssh.max_connections, of which ssh.reserved_for_admins are for admins); \
         try again later"
    )]
    Connections {
        /// Limit that applies to the client.
        max: usize,
    },
    /// Of sessions of a user.
    #[error(
        "{user} may have {max} commands and pushes at a time, and they run already; end some, then try again: quota shows the limit"
    )]
    SessionsOfUser {
        /// The user.
        user: UserName,
        /// Limit.
        max: u64,
    },
    /// Of sessions from a network.
    #[error(
        "{network} has {max} running commands and pushes already (ssh.max_sessions_per_network); end some, or try again later"
    )]
    SessionsOfNetwork {
        /// The network.
        network: ClientNetwork,
        /// Limit.
        max: usize,
    },
}

/// The limits, and what present clients have.
#[derive(Debug)]
pub(super) struct Shares {
    max_connections: usize,
    reserved_for_admins: usize,
    max_connections_per_key: usize,
    max_connections_per_network: usize,
    max_sessions_per_network: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    connections: Counts,
    sessions: Counts,
}

/// Counts of one kind.
#[derive(Debug, Default)]
struct Counts {
    all: usize,
    holders: HashMap<Holder, usize>,
    networks: HashMap<ClientNetwork, usize>,
}

/// Who has a share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    /// The key with this fingerprint has connections.
    Key(String),
    /// A user has sessions.
    User(UserId),
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Connection,
    Session,
}

/// A connection or a session of a client; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    kind: Kind,
    holder: Holder,
    network: ClientNetwork,
}

impl Shares {
    pub(super) fn new(config: &Ssh) -> Arc<Self> {
        Arc::new(Self {
            max_connections: config.max_connections,
            reserved_for_admins: config.reserved_for_admins,
            max_connections_per_key: config.max_connections_per_key,
            max_connections_per_network: config.max_connections_per_network,
            max_sessions_per_network: config.max_sessions_per_network,
            taken: Mutex::default(),
        })
    }

    /// Counts a connection whose client has proved to own the key. Admins are exempt from the limit of their network, and
    /// alone take the last connections.
    pub(super) fn connection(self: &Arc<Self>, key: &Key, network: ClientNetwork) -> Result<Share, LimitReached> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut taken.connections;
        let max = self.max_connections_per_key;
        let holder = Holder::Key(key.fingerprint.clone());
        if counts.of(&holder) >= max {
            return Err(LimitReached::ConnectionsOfKey { key: key.name.to_string(), max });
        }
        let max = self.max_connections_per_network;
        if !key.admin && counts.of_network(network) >= max {
            return Err(LimitReached::ConnectionsOfNetwork { network, max });
        }
        let reserved = if key.admin { 0 } else { self.reserved_for_admins };
        let max = self.max_connections.saturating_sub(reserved);
        if counts.all >= max {
            return Err(LimitReached::Connections { max });
        }
        Ok(self.share(counts, Kind::Connection, holder, network))
    }

    /// Counts a session, which is a command, a push or a fetch, of a user who may have at most `max`; `None` for any number.
    pub(super) fn session(
        self: &Arc<Self>,
        key: &Key,
        network: ClientNetwork,
        max: Option<u64>,
    ) -> Result<Share, LimitReached> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut taken.sessions;
        let holder = Holder::User(key.user);
        if let Some(max) = max
            && counts.of(&holder) as u64 >= max
        {
            return Err(LimitReached::SessionsOfUser { user: key.user_name.clone(), max });
        }
        let max = self.max_sessions_per_network;
        if !key.admin && counts.of_network(network) >= max {
            return Err(LimitReached::SessionsOfNetwork { network, max });
        }
        Ok(self.share(counts, Kind::Session, holder, network))
    }

    fn share(self: &Arc<Self>, counts: &mut Counts, kind: Kind, holder: Holder, network: ClientNetwork) -> Share {
        counts.all += 1;
        *counts.holders.entry(holder.clone()).or_default() += 1;
        *counts.networks.entry(network).or_default() += 1;
        Share { shares: Arc::clone(self), kind, holder, network }
    }
}

impl Counts {
    fn of(&self, holder: &Holder) -> usize {
        self.holders.get(holder).copied().unwrap_or(0)
    }

    fn of_network(&self, network: ClientNetwork) -> usize {
        self.networks.get(&network).copied().unwrap_or(0)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = match self.kind {
            Kind::Connection => &mut taken.connections,
            Kind::Session => &mut taken.sessions,
        };
        counts.all -= 1;
        count_down(&mut counts.holders, &self.holder);
        count_down(&mut counts.networks, &self.network);
    }
}

fn count_down<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{KeyId, UserId};

    fn key(name: &str, admin: bool) -> Key {
        Key {
            id: KeyId(1),
            user: UserId(name.bytes().map(i64::from).sum()),
            user_name: name.parse().unwrap(),
            admin,
            machine: false,
            name: name.parse().unwrap(),
            fingerprint: format!("SHA256:{name}"),
            public_key: String::new(),
            created_at: 0,
        }
    }

    fn network(text: &str) -> ClientNetwork {
        ClientNetwork::of(text.parse().unwrap())
    }

    fn shares() -> Arc<Shares> {
        Shares::new(&Ssh {
            max_connections: 6,
            reserved_for_admins: 2,
            max_connections_per_key: 3,
            max_connections_per_network: 4,
            max_sessions_per_network: 3,
            ..Ssh::default()
        })
    }

    #[test]
    fn a_key_and_a_network_have_shares_and_give_them_back() {
        let shares = shares();
        let (ann, bob, home) = (key("ann", false), key("bob", false), network("192.0.2.1"));
        let mut of_ann: Vec<_> = (0..3).map(|_| shares.connection(&ann, home).unwrap()).collect();
        let refused = shares.connection(&ann, network("192.0.2.2")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "your key \"ann\" has 3 connections already (ssh.max_connections_per_key); close some, then try again"
        );
        let of_bob = shares.connection(&bob, home).unwrap();
        let refused = shares.connection(&bob, home).unwrap_err();
        assert!(refused.to_string().starts_with("192.0.2.1 has 4 connections already"), "{refused}");
        of_ann.pop();
        let again = shares.connection(&bob, home).unwrap();

        let sessions: Vec<_> = (0..2).map(|_| shares.session(&ann, home, Some(2)).unwrap()).collect();
        assert_eq!(
            shares.session(&ann, home, Some(2)).unwrap_err(),
            LimitReached::SessionsOfUser { user: ann.user_name.clone(), max: 2 }
        );
        let session = shares.session(&bob, home, None).unwrap();
        assert_eq!(
            shares.session(&bob, home, None).unwrap_err(),
            LimitReached::SessionsOfNetwork { network: home, max: 3 }
        );
        drop((of_ann, of_bob, again, sessions, session));
        let taken = shares.taken.lock().unwrap();
        for counts in [&taken.connections, &taken.sessions] {
            assert_eq!((counts.all, counts.holders.len(), counts.networks.len()), (0, 0, 0));
        }
    }

    #[test]
    fn the_last_connections_are_for_admins_wherever_they_are() {
        let shares = shares();
        let (admin, home) = (key("admin", true), network("2001:db8::1"));
        let mut all: Vec<_> =
            ["ann", "bob", "eve", "kim"].map(|name| shares.connection(&key(name, false), home).unwrap()).into();
        let elsewhere = network("192.0.2.9");
        let refused = shares.connection(&key("tom", false), elsewhere).unwrap_err();
        assert_eq!(refused, LimitReached::Connections { max: 4 });
        all.extend((0..2).map(|_| shares.connection(&admin, home).unwrap()));
        assert_eq!(shares.connection(&admin, home).unwrap_err(), LimitReached::Connections { max: 6 });
    }
}
