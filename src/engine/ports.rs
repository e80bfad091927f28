//! Ports on which a container listens: they explain why a running app is not reachable.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
};

use super::{
    attach::is_in_container,
    error::{EngineError, Result},
    handle::Containers,
    id::ContainerId,
    resolver::EMBEDDED_DNS,
};

/// A listening TCP socket of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListeningSocket {
    /// Port.
    pub port: u16,
    /// Whether the socket listens on a loopback address, which only the container itself can reach.
    pub loopback: bool,
    /// Connections that are not accepted yet.
    pub waiting: u32,
    /// Whether it is a socket of IPv6, which may take connections of IPv4 as well.
    pub ipv6: bool,
}

impl Containers {
    /// Listening TCP sockets of a container; empty if it does not run.
    ///
    /// # Errors
    ///
    /// If its processes cannot be found here: the engine runs in another PID namespace, or the container has just ended.
    pub async fn listening_ports(&self, id: &ContainerId) -> Result<Vec<ListeningSocket>> {
        let Some(container) = self.inspect(id.as_str()).await? else { return Ok(Vec::new()) };
        let Some(pid) = container.pid else { return Ok(Vec::new()) };
        let unreadable = |source| EngineError::CannotReadSockets { name: id.0.clone(), source };
        let groups = tokio::fs::read_to_string(format!("/proc/{pid}/cgroup")).await.map_err(unreadable)?;
        // The container may have been asked for by its name.
        if !is_in_container(&groups, container.id.as_str()) {
            return Err(unreadable(io::Error::other("its process id is that of another process here")));
        }
        let mut listeners = Vec::new();
        for table in ["tcp", "tcp6"] {
            match tokio::fs::read_to_string(format!("/proc/{pid}/net/{table}")).await {
                Ok(text) => listeners.extend(text.lines().skip(1).filter_map(read)),
                // A kernel without IPv6 has no such table.
                Err(e) if e.kind() == io::ErrorKind::NotFound && table == "tcp6" => {}
                Err(source) => return Err(unreadable(source)),
            }
        }
        listeners.sort_unstable();
        listeners.dedup();
        Ok(listeners)
    }
}

fn read(line: &str) -> Option<ListeningSocket> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    // For a listening socket, the length of the receive queue is the number of connections that are not accepted yet
    // (proc_net_tcp in the kernel's documentation).
    let waiting = u32::from_str_radix(fields.next()?.split_once(':')?.1, 16).ok()?;
    // The kernel prints each 32-bit word of the address in the byte order of the machine.
    let mut bytes = Vec::with_capacity(16);
    for word in address.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ipv6 = bytes.len() > 4;
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    (address != IpAddr::V4(EMBEDDED_DNS)).then_some(ListeningSocket {
        port,
        loopback: address.is_loopback(),
        waiting,
        ipv6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn listening_sockets_are_read_from_the_kernels_table() {
        let line = |local: &str, state: &str| read(&format!("   0: {local} 00000000:0000 {state} 00000000:00000002"));
        let listener = |port, loopback, ipv6| Some(ListeningSocket { port, loopback, waiting: 2, ipv6 });
        assert_eq!(line("00000000:1F90", "0A"), listener(8080, false, false));
        assert_eq!(line("0100007F:0BB8", "0A"), listener(3000, true, false));
        assert_eq!(line("00000000000000000000000001000000:1F90", "0A"), listener(8080, true, true));
        assert_eq!(line("0B00007F:9C40", "0A"), None);
        assert_eq!(line("00000000:1F90", "01"), None);
        assert_eq!(read("nonsense"), None);
    }
}

#[cfg(test)]
mod properties {
    use crate::properties::{check, text_near};

    #[test]
    fn lines_of_sockets_are_read_or_left_out() {
        let samples = [
            "   0: 00000000:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 1 1",
            "   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000002",
        ];
        check(text_near(&samples), |line| {
            let _ = super::read(&line);
        });
    }
}
