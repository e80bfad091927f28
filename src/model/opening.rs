//! Openings in the packet filters of instances.

use std::net::IpAddr;

use super::address_block::AddressBlock;

/// What instances and tasks may reach although it is closed to others. It is known by their addresses, each of which belongs
/// to one of them as long as the store says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opening {
    /// Address of the instance or task that may connect.
    pub source: IpAddr,
    /// Where it may connect to.
    pub destination: Destination,
    /// Protocol; `None` for every one, or TCP and UDP if there is a port.
    pub protocol: Option<Protocol>,
    /// Port; `None` for every one.
    pub port: Option<u16>,
}

/// Where an [`Opening`] leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// This machine, at all of its addresses.
    ThisMachine,
    /// Addresses. A single one is open even if it is one of this machine or of a metadata service; a block of several opens
    /// neither of these.
    Block(AddressBlock),
    /// An address that a name resolves to. It does not open this machine nor a metadata service, because whoever has the name
    /// chooses the address.
    Resolved(IpAddr),
}

/// Protocol of an [`Opening`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Name in packet filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}
