//! Packet filters: builds can reach nothing but the Internet, and no container of this server can reach the machine's
//! metadata service.

use std::{net::IpAddr, sync::atomic::Ordering};

use super::{
    child::{self, ChildError},
    error::{EngineError, Result},
    handle::Host,
};

/// Addresses at which clouds serve credentials to every process on the machine.
const METADATA: [&str; 3] = ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32"];
/// Interface patterns of Docker's bridges, and of the bridges of all `paas` servers.
const BRIDGES: [&str; 3] = ["docker+", "br-+", "pa-+"];

/// Rules of this server in the filter table of one protocol family, in the format of `iptables -S`.
struct Rules {
    program: &'static str,
    restore: &'static str,
    /// Our own chains, and the rules of each.
    chains: [(String, Vec<String>); 2],
    /// Jumps into our chains: built-in chain, match, own chain.
    jumps: [(&'static str, String, String); 2],
}

impl Host {
    /// Sets the packet filters; cheap if they are set already.
    pub async fn ensure_firewall(&self) -> Result<()> {
        let _lock = self.0.shared.firewall_lock.lock().await;
        let nameservers = nameservers().await;
        let failed = |source| EngineError::CannotFilter { source };
        ensure_rules(self.rules(false, &nameservers)).await.map_err(failed)?;
        match ensure_rules(self.rules(true, &nameservers)).await {
            // Our containers have no IPv6 address, so the filters are not needed where ip6tables is missing.
            Err(e) if e.is_missing() || !std::path::Path::new("/proc/net/if_inet6").exists() => {}
            other => other.map_err(failed)?,
        }
        self.0.shared.firewall_set.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the packet filters.
    pub(super) async fn remove_firewall(&self) -> Result<()> {
        let _lock = self.0.shared.firewall_lock.lock().await;
        self.0.shared.firewall_set.store(false, Ordering::Relaxed);
        for ipv6 in [false, true] {
            let rules = self.rules(ipv6, &[]);
            let Ok(listed) = child::run(rules.program, ["-w", "10", "-S"], None).await else { continue };
            let mut input = vec!["*filter".to_owned()];
            for line in listed.lines() {
                if let Some(rule) = line.strip_prefix("-A ")
                    && rules.chains.iter().any(|(chain, _)| rule.ends_with(&format!(" -j {chain}")))
                {
                    input.push(format!("-D {rule}"));
                }
            }
            for (chain, _) in rules.chains.iter().filter(|(chain, _)| listed.contains(&format!("-N {chain}\n"))) {
                input.extend([format!("-F {chain}"), format!("-X {chain}")]);
            }
            input.push("COMMIT\n".to_owned());
            child::run(rules.restore, ["-w", "10", "--noflush"], Some(&input.join("\n")))
                .await
                .map_err(|source| EngineError::CannotFilter { source })?;
        }
        Ok(())
    }

    fn rules(&self, ipv6: bool, nameservers: &[IpAddr]) -> Rules {
        let build = self.0.build_interface();
        let (input, forward) = (self.chain("IN"), self.chain("FWD"));
        // Docker's name server forwards the queries of a container from inside the container.
        let dns: Vec<String> = nameservers
            .iter()
            .filter(|address| address.is_ipv6() == ipv6)
            .flat_map(|address| {
                let bits = if ipv6 { 128 } else { 32 };
                ["udp", "tcp"].map(|p| format!("-d {address}/{bits} -p {p} -m {p} --dport 53 -j RETURN"))
            })
            .collect();
        let mut into_host = dns.clone();
        into_host.push("-j DROP".to_owned());
        let mut through_host = dns;
        if ipv6 {
            through_host.push("-j DROP".to_owned());
        } else {
            through_host.push(format!("-d {} -i {build} -j DROP", self.0.shared.addresses.range()));
            through_host.extend(METADATA.map(|range| format!("-d {range} -j DROP")));
            through_host.extend(BRIDGES.map(|bridge| format!("-i {build} -o {bridge} -j DROP")));
        }
        let all = self.0.interface("+");
        Rules {
            program: if ipv6 { "ip6tables" } else { "iptables" },
            restore: if ipv6 { "ip6tables-restore" } else { "iptables-restore" },
            chains: [(input.clone(), into_host), (forward.clone(), through_host)],
            jumps: [("INPUT", format!("-i {build}"), input), ("FORWARD", format!("-i {all}"), forward)],
        }
    }

    fn chain(&self, suffix: &str) -> String {
        format!("PAAS-{}-{suffix}", self.0.shared.short_id)
    }
}

/// Changes the filter table until it contains the rules.
async fn ensure_rules(rules: Rules) -> Result<(), ChildError> {
    const ATTEMPTS: u32 = 5;
    let mut attempts = 0;
    loop {
        let listed = child::run(rules.program, ["-w", "10", "-S"], None).await?;
        let Some(input) = correction(&rules, &listed) else { return Ok(()) };
        attempts += 1;
        // The table may have changed since it was listed: dockerd changes it, too.
        match child::run(rules.restore, ["-w", "10", "--noflush"], Some(&input)).await {
            Err(e) if attempts == ATTEMPTS || e.is_missing() => return Err(e),
            Ok(_) if attempts == ATTEMPTS => return Ok(()),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Input of `iptables-restore` that corrects the listed filter table; `None` if it is correct.
fn correction(rules: &Rules, listed: &str) -> Option<String> {
    let has = |line: &str| listed.lines().any(|l| l == line);
    let rules_of = |chain: &str| {
        let prefix = format!("-A {chain} ");
        listed.lines().filter_map(move |l| l.strip_prefix(prefix.as_str())).collect::<Vec<_>>()
    };
    let mut correct = true;
    let mut input = vec!["*filter".to_owned()];
    for (chain, wanted) in &rules.chains {
        correct &= has(&format!("-N {chain}")) && rules_of(chain) == *wanted;
        input.push(format!(":{chain} - [0:0]"));
        for rule in wanted {
            input.push(format!("-A {chain} {rule}"));
        }
    }
    for (parent, matching, target) in &rules.jumps {
        // Docker jumps to DOCKER-USER before its own rules, and never changes it.
        let parent = if *parent == "FORWARD" && has("-N DOCKER-USER") { "DOCKER-USER" } else { parent };
        let jump = format!("{matching} -j {target}");
        let present = rules_of(parent);
        let first = present.iter().position(|rule| *rule == jump);
        let count = present.iter().filter(|rule| **rule == jump).count();
        // Only jumps of other servers, which match other interfaces, may precede ours.
        let in_place = first.is_some_and(|at| present[..at].iter().all(|rule| rule.contains(" -j PAAS-")));
        correct &= in_place && count == 1;
        for _ in 0..count {
            input.push(format!("-D {parent} {jump}"));
        }
        input.push(format!("-I {parent} 1 {jump}"));
    }
    input.push("COMMIT\n".to_owned());
    (!correct).then(|| input.join("\n"))
}

/// Name servers to which Docker forwards the queries of containers: those of the machine, except loopback addresses.
pub(crate) async fn nameservers() -> Vec<IpAddr> {
    let mut found = Vec::new();
    for path in ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] {
        let text = tokio::fs::read_to_string(path).await.unwrap_or_default();
        let addresses = text.lines().filter_map(|line| {
            let address = line.trim().strip_prefix("nameserver")?.trim();
            address.parse::<IpAddr>().ok().filter(|a| !a.is_loopback() && !a.is_unspecified())
        });
        for address in addresses {
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            program: "iptables",
            restore: "iptables-restore",
            chains: [("PAAS-1-IN".into(), vec!["-j DROP".into()]), ("PAAS-1-FWD".into(), vec!["-d 1.2.3.4/32".into()])],
            jumps: [("INPUT", "-i b".into(), "PAAS-1-IN".into()), ("FORWARD", "-i x+".into(), "PAAS-1-FWD".into())],
        }
    }

    const CORRECT: &str = "-P INPUT ACCEPT\n-N DOCKER-USER\n-N PAAS-1-IN\n-N PAAS-1-FWD\n-A INPUT -i c -j PAAS-2-IN\n\
        -A INPUT -i b -j PAAS-1-IN\n-A INPUT -j ACCEPT\n-A DOCKER-USER -i x+ -j PAAS-1-FWD\n-A DOCKER-USER -j RETURN\n\
        -A PAAS-1-IN -j DROP\n-A PAAS-1-FWD -d 1.2.3.4/32\n";

    #[test]
    fn correct_rules_are_left_unchanged() {
        assert_eq!(correction(&rules(), CORRECT), None);
    }

    #[test]
    fn our_jump_is_moved_before_other_rules() {
        let reordered = CORRECT.replace("-A INPUT -i c -j PAAS-2-IN", "-A INPUT -j ACCEPT");
        let input = correction(&rules(), &reordered).unwrap();
        assert!(input.contains("-D INPUT -i b -j PAAS-1-IN\n-I INPUT 1 -i b -j PAAS-1-IN\n"), "{input}");
        assert!(input.contains("-D DOCKER-USER -i x+ -j PAAS-1-FWD\n-I DOCKER-USER 1 "), "{input}");
    }

    #[test]
    fn missing_rules_are_added() {
        let input = correction(&rules(), "-P INPUT ACCEPT\n").unwrap();
        assert!(input.contains(":PAAS-1-IN - [0:0]\n-A PAAS-1-IN -j DROP\n"), "{input}");
        assert!(input.contains("-I FORWARD 1 -i x+ -j PAAS-1-FWD\n") && !input.contains("-D"), "{input}");
    }
}
