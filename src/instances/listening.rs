//! Where an instance listens, compared with the port on which it is to listen.

use crate::{
    engine::ListeningSocket,
    model::{HttpProbe, Probe},
};

/// Where an instance listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listening {
    /// On the port, and reachable from outside the container.
    Reachable,
    /// On the port, but only of localhost.
    OnLocalhost,
    /// On the port, but only of IPv6, as with the option `IPV6_V6ONLY`; requests arrive by IPv4.
    OnIpv6Only,
    /// On another port.
    Elsewhere(ListeningSocket),
    /// On no port.
    Nowhere,
}

impl Listening {
    /// `refused` says whether a connection by IPv4 was refused: the kernel does not say which sockets of IPv6 take them.
    pub(super) fn of(listeners: &[ListeningSocket], port: u16, refused: bool) -> Self {
        let on_port = || listeners.iter().filter(|listener| listener.port == port);
        let mut open = on_port().filter(|listener| !listener.loopback).peekable();
        if refused && open.peek().is_some() && open.all(|listener| listener.ipv6) {
            return Self::OnIpv6Only;
        }
        match (on_port().any(|listener| !listener.loopback), on_port().next(), listeners.first()) {
            (true, ..) => Self::Reachable,
            (false, Some(_), _) => Self::OnLocalhost,
            (false, None, Some(other)) => Self::Elsewhere(*other),
            (false, None, None) => Self::Nowhere,
        }
    }

    /// Whether something listens on the port, and every connection to it was accepted.
    pub(super) fn accepts(listeners: &[ListeningSocket], port: u16) -> bool {
        let mut on_port = listeners.iter().filter(|listener| listener.port == port).peekable();
        on_port.peek().is_some() && on_port.all(|listener| listener.waiting == 0)
    }

    /// Text for the caller about an instance that is not healthy yet; `None` if the instance listens as it should.
    pub(super) fn not_healthy_yet(self, name: &str, port: u16, probe: &Probe) -> Option<String> {
        match (self, probe) {
            (_, Probe::Uptime(_) | Probe::Command(_)) | (Self::Reachable, Probe::Tcp) => None,
            (Self::Reachable, Probe::Http(HttpProbe { path, .. })) => Some(format!(
                "{name} listens on $PORT ({port}); GET {path} does not return a status from 200 to 399 yet"
            )),
            (Self::OnLocalhost, _) => {
                Some(format!("{name} listens on $PORT ({port}) of localhost only so far, not on 0.0.0.0"))
            }
            (Self::OnIpv6Only, _) => {
                Some(format!("{name} listens on $PORT ({port}) of IPv6 only so far, not on 0.0.0.0"))
            }
            (Self::Elsewhere(other), _) => {
                Some(format!("{name} listens on port {} so far, not on $PORT ({port})", other.port))
            }
            (Self::Nowhere, _) => Some(format!("{name} listens on no port yet; $PORT is {port}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_listener_that_accepts_counts() {
        let listener = |port, waiting| ListeningSocket { port, loopback: false, waiting, ipv6: false };
        for (listeners, accepts) in [
            (vec![], false),
            (vec![listener(3000, 0)], false),
            (vec![listener(8080, 1)], false),
            (vec![listener(8080, 0), listener(8080, 1)], false),
            (vec![listener(8080, 0), listener(3000, 1)], true),
        ] {
            assert_eq!(Listening::accepts(&listeners, 8080), accepts, "{listeners:?}");
        }
    }

    #[test]
    fn a_socket_of_ipv6_that_refuses_ipv4_is_of_ipv6_only() {
        let listener = |ipv6, loopback| ListeningSocket { port: 8080, loopback, waiting: 0, ipv6 };
        let (v6, v4, local) = (listener(true, false), listener(false, false), listener(false, true));
        for (listeners, refused, expected) in [
            (vec![v6], true, Listening::OnIpv6Only),
            (vec![v6, local], true, Listening::OnIpv6Only),
            (vec![v6], false, Listening::Reachable),
            (vec![v6, v4], true, Listening::Reachable),
            (vec![v4], true, Listening::Reachable),
            (vec![local], true, Listening::OnLocalhost),
        ] {
            assert_eq!(Listening::of(&listeners, 8080, refused), expected, "{listeners:?}");
        }
        let text = Listening::OnIpv6Only.not_healthy_yet("web.1", 8080, &Probe::Tcp).unwrap();
        assert!(text.contains("of IPv6 only so far, not on 0.0.0.0"), "{text}");
    }

    #[test]
    fn the_caller_learns_where_an_instance_listens() {
        let (open, local) = (
            |port| ListeningSocket { port, loopback: false, waiting: 0, ipv6: false },
            |port| ListeningSocket { port, loopback: true, waiting: 0, ipv6: false },
        );
        let http = Probe::Http(HttpProbe::get("/up"));
        let uptime = Probe::Uptime(Duration::from_mins(1));
        for (listeners, probe, expected) in [
            (vec![], &Probe::Tcp, Some("web.1 listens on no port yet")),
            (vec![open(3000)], &Probe::Tcp, Some("web.1 listens on port 3000 so far, not on $PORT (8080)")),
            (vec![local(8080)], &Probe::Tcp, Some("web.1 listens on $PORT (8080) of localhost only so far")),
            (vec![open(3000), local(8080)], &http, Some("of localhost only so far")),
            (vec![local(8080), open(8080)], &http, Some("GET /up does not return a status from 200 to 399 yet")),
            (vec![open(8080)], &Probe::Tcp, None),
            (vec![], &uptime, None),
        ] {
            let text = Listening::of(&listeners, 8080, false).not_healthy_yet("web.1", 8080, probe);
            let as_expected = match (&text, expected) {
                (Some(text), Some(expected)) => text.contains(expected),
                (text, expected) => text.is_none() && expected.is_none(),
            };
            assert!(as_expected, "{text:?} instead of {expected:?}");
        }
    }
}
