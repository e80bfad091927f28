//! The rules of the packet filters, as data: which packets of builds and instances pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    config::InstanceNetwork,
    model::{AddressBlock, Destination, Opening, Protocol, closed_ranges},
};

/// What the names of the interfaces of Docker's bridges, and of the bridges of all `paas` servers, begin with.
const BRIDGES: [&str; 3] = ["docker", "br-", "pa-"];
/// Packets of connections that the other side began: the host and its router connect to instances. The packets of an
/// instance's own connections pass the rules one by one, so that what is closed later is cut.
const REPLIES: &str = "-m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY";

/// A family of protocols, each with its own filter table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Rules of this server in the filter table of one family, in the format of `iptables -S`.
pub(super) struct Rules {
    pub(super) program: &'static str,
    pub(super) restore: &'static str,
    /// Our own chains, and the rules of each.
    pub(super) chains: Vec<(String, Vec<String>)>,
    /// Jumps into our chains: built-in chain, match, own chain.
    pub(super) jumps: Vec<(&'static str, String, String)>,
}

/// What all builds and instances may reach: an entry of `network.allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerOpening {
    pub(super) destination: Destination,
    pub(super) port: Option<u16>,
}

/// Names and addresses of a server that its packet filters contain.
#[derive(Debug)]
pub(in crate::engine) struct FilterNames {
    /// What the names of this server's chains begin with.
    pub(in crate::engine) chains: String,
    /// Interface of the build bridge.
    pub(in crate::engine) build_interface: String,
    /// Pattern of the interfaces of all bridges of this server.
    pub(in crate::engine) interfaces: String,
    /// All addresses of this server's containers, as `address/16`.
    pub(in crate::engine) own_range: String,
    /// Address at which the instances of linked apps reach the router.
    pub(in crate::engine) router: Ipv4Addr,
}

impl FilterNames {
    /// Rule of the raw table by which packets between our containers reach the filters, which reject them: Docker 28 and
    /// newer drop them before, so that connections time out.
    pub(super) fn to_filters(&self) -> String {
        format!("-d {} -i {} -j ACCEPT", self.own_range, self.interfaces)
    }
}

/// What the rules are made from.
pub(super) struct FilterInput<'a> {
    pub(super) names: &'a FilterNames,
    /// Name servers of containers; port 53 of them is open.
    pub(super) nameservers: Vec<Ipv4Addr>,
    /// Interfaces of the machine's default routes.
    pub(super) uplinks: Vec<String>,
    /// Proxies of builds.
    pub(super) proxies: Vec<SocketAddr>,
    /// What instances may reach.
    pub(super) instances: InstanceNetwork,
    /// What all builds and instances may reach in addition.
    pub(super) allowed: Vec<ServerOpening>,
    /// What single instances may reach in addition.
    pub(super) openings: Vec<Opening>,
}

/// Rules that open something, by the place in which they must stand.
#[derive(Default)]
struct Opened {
    /// Packets to this machine.
    host: Vec<String>,
    /// Before metadata services are closed: addresses that are named.
    named: Vec<String>,
    /// Before private ranges are closed, and after metadata services.
    wide: Vec<String>,
}

impl FilterInput<'_> {
    /// The rules for the filter table of a family.
    pub(super) fn rules(&self, family: Family) -> Rules {
        let [input, forward, closed] = ["IN", "FWD", "CLOSED"].map(|suffix| format!("{}-{suffix}", self.names.chains));
        let opened = self.opened(family);
        let always = self.always_open(family);
        let close = |matching: String| format!("{matching} -j {closed}");

        let mut into_host = vec![format!("{REPLIES} -j RETURN")];
        into_host.extend(always.clone());
        into_host.extend(opened.host);
        into_host.push(format!("-j {closed}"));

        let mut through_host = vec![format!("{REPLIES} -j RETURN")];
        through_host.extend(always);
        if family == Family::V4 {
            through_host.push(close(format!("-d {}", self.names.own_range)));
        }
        // A bridge of the operator's own may have such a name and lead to the Internet: then Docker keeps its networks apart.
        let bridges =
            BRIDGES.into_iter().filter(|prefix| !self.uplinks.iter().any(|uplink| uplink.starts_with(prefix)));
        through_host.extend(bridges.map(|prefix| close(format!("-o {prefix}+"))));
        through_host.extend(opened.named);
        let of_family = |blocks: Vec<AddressBlock>| blocks.into_iter().filter(move |block| family.has(block.first()));
        through_host.extend(of_family(closed_ranges::metadata_services()).map(|block| close(format!("-d {block}"))));
        through_host.extend(opened.wide);
        let interface = match self.instances {
            InstanceNetwork::Lan => format!(" -i {}", self.names.build_interface),
            InstanceNetwork::Internet => String::new(),
        };
        let private = of_family(closed_ranges::closed_to_builds());
        through_host.extend(private.map(|block| close(format!("-d {block}{interface}"))));

        let (program, restore, reject) = match family {
            Family::V4 => ("iptables", "iptables-restore", "icmp-admin-prohibited"),
            Family::V6 => ("ip6tables", "ip6tables-restore", "icmp6-adm-prohibited"),
        };
        // A reset ends every connection attempt at once; an ICMP message is lost on a socket that is still connecting.
        let rejections =
            ["-p tcp -j REJECT --reject-with tcp-reset".to_owned(), format!("-j REJECT --reject-with {reject}")];
        let from_containers = format!("-i {}", self.names.interfaces);
        let mut rules = Rules {
            program,
            restore,
            chains: vec![
                (closed.clone(), rejections.into()),
                (input.clone(), into_host),
                (forward.clone(), through_host),
            ],
            jumps: vec![("INPUT", from_containers.clone(), input), ("FORWARD", from_containers, forward)],
        };
        if family == Family::V4 {
            // The router listens there for linked apps, also where it is to be reached from this machine alone.
            let router = format!("{}-ROUTER", self.names.chains);
            let from_outside = format!("-d {}/32 ! -i {}", self.names.router, self.names.interfaces);
            rules.chains.push((router.clone(), vec!["-i lo -j RETURN".to_owned(), format!("-j {closed}")]));
            rules.jumps.push(("INPUT", from_outside, router));
        }
        rules
    }

    /// The name servers that every container asks, and the proxies of builds.
    fn always_open(&self, family: Family) -> Vec<String> {
        let nameservers = self.nameservers.iter().map(|address| IpAddr::from(*address));
        let nameservers = nameservers.filter(|address| family.has(*address)).flat_map(|address| {
            let to = AddressBlock::from(address);
            ["udp", "tcp"].map(|p| format!("-d {to} -p {p} -m {p} --dport 53 -j RETURN"))
        });
        let proxies = self.proxies.iter().filter(|proxy| family.opens(proxy.ip())).map(|proxy| {
            let (to, build) = (AddressBlock::from(proxy.ip()), &self.names.build_interface);
            format!("-d {to} -i {build} -p tcp -m tcp --dport {} -j RETURN", proxy.port())
        });
        nameservers.chain(proxies).collect()
    }

    fn opened(&self, family: Family) -> Opened {
        let mut opened = Opened::default();
        let of_server = self.allowed.iter().map(|allowed| (None, allowed.destination, None, allowed.port));
        let of_instances = self.openings.iter();
        let of_instances = of_instances.map(|o| (Some(o.source), o.destination, o.protocol, o.port));
        for (source, destination, protocol, port) in of_server.chain(of_instances) {
            if source.is_some_and(|source| !family.has(source)) {
                continue;
            }
            let source = source.map(|source| format!("-s {} ", AddressBlock::from(source))).unwrap_or_default();
            let mut add = |list: fn(&mut Opened) -> &mut Vec<String>, to: Option<AddressBlock>, verdict: &str| {
                // Every address: the listed table does not mention it.
                let to = to.filter(|block| block.bits() > 0).map(|block| format!("-d {block} ")).unwrap_or_default();
                let rules = ports(protocol, port).into_iter().map(|port| format!("{source}{to}{port}-j {verdict}"));
                list(&mut opened).extend(rules);
            };
            // What is opened on this machine is accepted, whatever a firewall of the machine says after our rules.
            match destination {
                Destination::ThisMachine => add(|o| &mut o.host, None, "ACCEPT"),
                Destination::Block(block) if !family.opens(block.first()) => {}
                Destination::Block(block) if block.single().is_some() => {
                    add(|o| &mut o.host, Some(block), "ACCEPT");
                    add(|o| &mut o.named, Some(block), "RETURN");
                }
                Destination::Block(block) => add(|o| &mut o.wide, Some(block), "RETURN"),
                Destination::Resolved(address) if !family.opens(address) => {}
                Destination::Resolved(address) => add(|o| &mut o.wide, Some(address.into()), "RETURN"),
            }
        }
        opened
    }
}

impl Family {
    fn has(self, address: IpAddr) -> bool {
        address.is_ipv6() == (self == Self::V6)
    }

    /// Whether the address may be opened in this family. `::1.2.3.4` leads nowhere (RFC 4291, 2.5.5.1), and `ip6tables` lists
    /// it in a form of its own: a rule with it would never count as set.
    fn opens(self, address: IpAddr) -> bool {
        let is_compatible = |v6: Ipv6Addr| v6.segments()[..6] == [0; 6] && v6.segments()[6] != 0;
        self.has(address) && !matches!(address, IpAddr::V6(v6) if is_compatible(v6))
    }
}

/// Matches of a protocol and a port, each followed by a space.
fn ports(protocol: Option<Protocol>, port: Option<u16>) -> Vec<String> {
    let matching = |protocol: Protocol| match port {
        Some(port) => format!("-p {0} -m {0} --dport {port} ", protocol.as_str()),
        None => format!("-p {} ", protocol.as_str()),
    };
    match (protocol, port) {
        (Some(protocol), _) => vec![matching(protocol)],
        (None, Some(_)) => vec![matching(Protocol::Tcp), matching(Protocol::Udp)],
        (None, None) => vec![String::new()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> FilterNames {
        FilterNames {
            chains: "PAAS-1".into(),
            build_interface: "pa-1-b".into(),
            interfaces: "pa-1-+".into(),
            own_range: "10.210.0.0/16".into(),
            router: Ipv4Addr::new(10, 210, 0, 1),
        }
    }

    fn input(names: &FilterNames) -> FilterInput<'_> {
        FilterInput {
            names,
            nameservers: vec!["169.254.169.254".parse().unwrap()],
            uplinks: vec!["eth0".into()],
            proxies: vec!["10.0.0.5:3128".parse().unwrap()],
            instances: InstanceNetwork::Lan,
            allowed: Vec::new(),
            openings: Vec::new(),
        }
    }

    fn chain(input: &FilterInput<'_>, family: Family, suffix: &str) -> Vec<String> {
        let rules = input.rules(family);
        rules.chains.into_iter().find(|(name, _)| name.ends_with(suffix)).unwrap().1
    }

    fn place(rules: &[String], rule: &str) -> usize {
        rules.iter().position(|one| one == rule).unwrap_or_else(|| panic!("{rule} is not in {rules:#?}"))
    }

    #[test]
    fn what_is_needed_is_open_before_anything_is_closed() {
        let names = names();
        for family in [Family::V4, Family::V6] {
            for suffix in ["-IN", "-FWD"] {
                let rules = chain(&input(&names), family, suffix);
                assert!(rules[0].contains("--ctdir REPLY"), "{rules:?}");
                let first_closed = rules.iter().position(|rule| rule.ends_with("PAAS-1-CLOSED")).unwrap();
                if family == Family::V4 {
                    let dns = "-d 169.254.169.254/32 -p udp -m udp --dport 53 -j RETURN";
                    assert!(place(&rules, dns) < first_closed, "{rules:?}");
                }
            }
        }
        let rules = chain(&input(&names), Family::V4, "-IN");
        place(&rules, "-d 10.0.0.5/32 -i pa-1-b -p tcp -m tcp --dport 3128 -j RETURN");
        assert_eq!(rules.last().unwrap(), "-j PAAS-1-CLOSED", "this machine is closed to all");
        let v6 = chain(&input(&names), Family::V6, "-IN");
        assert!(!v6.iter().any(|rule| rule.contains("10.0.0.5")), "{v6:?}");
    }

    #[test]
    fn the_address_for_linked_apps_is_closed_to_other_machines() {
        let names = names();
        let rules = input(&names).rules(Family::V4);
        assert!(rules.jumps.contains(&("INPUT", "-d 10.210.0.1/32 ! -i pa-1-+".into(), "PAAS-1-ROUTER".into())));
        assert_eq!(chain(&input(&names), Family::V4, "-ROUTER"), ["-i lo -j RETURN", "-j PAAS-1-CLOSED"]);
    }

    #[test]
    fn private_ranges_are_closed_to_builds_and_if_configured_to_instances() {
        let names = names();
        let mut input = input(&names);
        let rules = chain(&input, Family::V4, "-FWD");
        for rule in ["-d 192.168.0.0/16 -i pa-1-b", "-d 10.210.0.0/16", "-o pa-+", "-d 169.254.0.0/16"] {
            place(&rules, &format!("{rule} -j PAAS-1-CLOSED"));
        }
        let v6 = chain(&input, Family::V6, "-FWD");
        for rule in ["-d fc00::/7 -i pa-1-b", "-d 64:ff9b::a00:0/104 -i pa-1-b", "-d fd00:ec2::/32"] {
            place(&v6, &format!("{rule} -j PAAS-1-CLOSED"));
        }
        input.uplinks = vec!["br-lan".into()];
        let rules = chain(&input, Family::V4, "-FWD");
        assert!(!rules.iter().any(|rule| rule.contains("-o br-")), "the way to the Internet stays open: {rules:?}");
        place(&rules, "-o docker+ -j PAAS-1-CLOSED");
        input.instances = InstanceNetwork::Internet;
        place(&chain(&input, Family::V4, "-FWD"), "-d 192.168.0.0/16 -j PAAS-1-CLOSED");
    }

    #[test]
    fn an_opening_opens_what_it_names_and_nothing_that_a_block_merely_covers() {
        let names = names();
        let mut input = input(&names);
        let opening = |destination, protocol, port| Opening {
            source: "10.210.0.7".parse().unwrap(),
            destination,
            protocol,
            port,
        };
        let block = |text: &str| Destination::Block(text.parse().unwrap());
        input.openings = vec![
            opening(Destination::ThisMachine, None, Some(5432)),
            opening(block("10.1.2.3"), None, Some(5432)),
            opening(block("10.210.0.1"), Some(Protocol::Tcp), Some(80)),
            opening(block("0.0.0.0/0"), Some(Protocol::Tcp), None),
            opening(Destination::Resolved("169.254.169.254".parse().unwrap()), None, None),
            opening(block("fd00::/8"), None, None),
        ];
        let host: Vec<_> =
            chain(&input, Family::V4, "-IN").into_iter().filter(|rule| rule.ends_with("ACCEPT")).collect();
        assert_eq!(
            host,
            [
                "-s 10.210.0.7/32 -p tcp -m tcp --dport 5432 -j ACCEPT",
                "-s 10.210.0.7/32 -p udp -m udp --dport 5432 -j ACCEPT",
                "-s 10.210.0.7/32 -d 10.1.2.3/32 -p tcp -m tcp --dport 5432 -j ACCEPT",
                "-s 10.210.0.7/32 -d 10.1.2.3/32 -p udp -m udp --dport 5432 -j ACCEPT",
                "-s 10.210.0.7/32 -d 10.210.0.1/32 -p tcp -m tcp --dport 80 -j ACCEPT",
            ]
        );
        let through = chain(&input, Family::V4, "-FWD");
        let metadata = place(&through, "-d 169.254.0.0/16 -j PAAS-1-CLOSED");
        assert!(place(&through, "-s 10.210.0.7/32 -d 10.1.2.3/32 -p tcp -m tcp --dport 5432 -j RETURN") < metadata);
        assert!(place(&through, "-s 10.210.0.7/32 -p tcp -j RETURN") > metadata);
        assert!(place(&through, "-s 10.210.0.7/32 -d 169.254.169.254/32 -j RETURN") > metadata);
        let v6 = input.rules(Family::V6).chains;
        assert!(!v6.iter().any(|(_, rules)| rules.iter().any(|rule| rule.starts_with("-s "))), "{v6:?}");

        input.openings.clear();
        let allowed = |address: &str| ServerOpening { destination: block(address), port: Some(443) };
        input.allowed = vec![allowed("fd00::7"), allowed("::1.2.3.4")];
        let v6 = chain(&input, Family::V6, "-FWD");
        place(&v6, "-d fd00::7/128 -p tcp -m tcp --dport 443 -j RETURN");
        assert!(!v6.iter().any(|rule| rule.contains("::102:304")), "{v6:?}");
    }
}
