//! Everything that limits clients.

use std::{sync::Arc, time::Duration};

use super::{shares::Shares, unauthenticated::Unauthenticated};
use crate::{config::Ssh, log_limit::LogLimit, store::KeyId};

/// Maximum number of lines of one kind in the server's log, in each period.
const MAX_LOG_LINES: u64 = 5;
const LOG_PERIOD: Duration = Duration::from_mins(1);

/// What is logged about clients, as often as they cause it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum LogKind {
    /// A connection could not be accepted.
    Accept,
    /// An unauthenticated connection was closed for another.
    Evicted,
    /// A connection or a session was refused to a key.
    Refused(KeyId),
    /// A key logged in.
    Login(KeyId),
    /// A key was removed while it was used, or its client broke the protocol.
    Disconnected,
}

/// The limits on clients, and what they have at the moment.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) unauthenticated: Arc<Unauthenticated>,
    pub(super) shares: Arc<Shares>,
    pub(super) log: LogLimit<LogKind>,
}

impl Limits {
    pub(super) fn new(config: &Ssh) -> Arc<Self> {
        let log = LogLimit::new(MAX_LOG_LINES, LOG_PERIOD);
        Arc::new(Self { unauthenticated: Unauthenticated::new(config), shares: Shares::new(config), log })
    }
}
