//! Packet filters: builds reach the Internet and nothing else; nothing of ours reaches the machine's metadata service.

use std::{net::IpAddr, sync::atomic::Ordering};

use super::{Engine, EngineError, Result, child};

/// Where clouds keep credentials for whoever asks from inside the machine.
const METADATA: [&str; 3] = ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32"];
/// Bridges of Docker, by the names that Docker gives, and of every server like us.
const BRIDGES: [&str; 3] = ["docker+", "br-+", "pa-+"];

/// What a table of one protocol family must hold.
struct Rules {
    program: &'static str,
    restore: &'static str,
    /// Chains of our own, with their rules as the kernel's tool prints them.
    chains: [(String, Vec<String>); 2],
    /// From which chain, by what match, into which of ours.
    jumps: [(&'static str, String, String); 2],
}

impl Engine {
    /// Sets the rules; costs little when they stand.
    pub async fn close_firewall(&self) -> Result<()> {
        let _one_at_a_time = self.inner.firewall.lock().await;
        let names = nameservers().await;
        let cannot = |source| EngineError::CannotFilter { source };
        self.assert_rules(self.rules(false, &names)).await.map_err(cannot)?;
        match self.assert_rules(self.rules(true, &names)).await {
            // Containers of ours have no IPv6 address: without the tool, nothing is lost.
            Err(e) if e.is_missing() || !std::path::Path::new("/proc/net/if_inet6").exists() => {}
            other => other.map_err(cannot)?,
        }
        self.inner.closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the rules away.
    pub(super) async fn open_firewall(&self) -> Result<()> {
        let _one_at_a_time = self.inner.firewall.lock().await;
        self.inner.closed.store(false, Ordering::Relaxed);
        for six in [false, true] {
            let rules = self.rules(six, &[]);
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

    fn rules(&self, six: bool, nameservers: &[IpAddr]) -> Rules {
        let build = self.build_interface();
        let (input, forward) = (self.chain("IN"), self.chain("FWD"));
        // Docker's name server sends a container's queries from inside the container.
        let names: Vec<String> = nameservers
            .iter()
            .filter(|address| address.is_ipv6() == six)
            .flat_map(|address| {
                let bits = if six { 128 } else { 32 };
                ["udp", "tcp"].map(|p| format!("-d {address}/{bits} -p {p} -m {p} --dport 53 -j RETURN"))
            })
            .collect();
        let mut into_host = names.clone();
        into_host.push("-j DROP".to_owned());
        let mut through_host = names;
        if six {
            through_host.push("-j DROP".to_owned());
        } else {
            through_host.push(format!("-d {} -i {build} -j DROP", self.inner.plan.range()));
            through_host.extend(METADATA.map(|range| format!("-d {range} -j DROP")));
            through_host.extend(BRIDGES.map(|bridge| format!("-i {build} -o {bridge} -j DROP")));
        }
        let all = self.interface("+");
        Rules {
            program: if six { "ip6tables" } else { "iptables" },
            restore: if six { "ip6tables-restore" } else { "iptables-restore" },
            chains: [(input.clone(), into_host), (forward.clone(), through_host)],
            jumps: [("INPUT", format!("-i {build}"), input), ("FORWARD", format!("-i {all}"), forward)],
        }
    }

    fn chain(&self, which: &str) -> String {
        format!("PAAS-{}-{which}", self.inner.short_id)
    }

    async fn assert_rules(&self, rules: Rules) -> Result<(), child::ChildError> {
        const TRIES: u32 = 5;
        let mut tries = 0;
        loop {
            let listed = child::run(rules.program, ["-w", "10", "-S"], None).await?;
            let Some(input) = correction(&rules, &listed) else { return Ok(()) };
            tries += 1;
            // The table may have changed since it was listed: dockerd writes to it, too.
            match child::run(rules.restore, ["-w", "10", "--noflush"], Some(&input)).await {
                Err(e) if tries == TRIES || e.is_missing() => return Err(e),
                Ok(_) if tries == TRIES => return Ok(()),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// One transaction that makes the table as it must be; `None` when it is.
fn correction(rules: &Rules, listed: &str) -> Option<String> {
    let has = |line: &str| listed.lines().any(|l| l == line);
    let rules_of = |chain: &str| {
        let prefix = format!("-A {chain} ");
        listed.lines().filter_map(move |l| l.strip_prefix(prefix.as_str())).collect::<Vec<_>>()
    };
    let mut right = true;
    let mut input = vec!["*filter".to_owned()];
    for (chain, wanted) in &rules.chains {
        right &= has(&format!("-N {chain}")) && rules_of(chain) == *wanted;
        input.push(format!(":{chain} - [0:0]"));
        for rule in wanted {
            input.push(format!("-A {chain} {rule}"));
        }
    }
    for (parent, matching, target) in &rules.jumps {
        // Docker keeps DOCKER-USER before its own rules and never writes to it.
        let parent = if *parent == "FORWARD" && has("-N DOCKER-USER") { "DOCKER-USER" } else { parent };
        let jump = format!("{matching} -j {target}");
        let present = rules_of(parent);
        let first = present.iter().position(|rule| *rule == jump);
        let count = present.iter().filter(|rule| **rule == jump).count();
        // Before ours may stand only another server's: they concern other interfaces.
        let in_place = first.is_some_and(|at| present[..at].iter().all(|rule| rule.contains(" -j PAAS-")));
        right &= in_place && count == 1;
        for _ in 0..count {
            input.push(format!("-D {parent} {jump}"));
        }
        input.push(format!("-I {parent} 1 {jump}"));
    }
    input.push("COMMIT\n".to_owned());
    (!right).then(|| input.join("\n"))
}

/// The name servers that Docker hands to containers' queries: the machine's, but those on loopback.
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

    const RIGHT: &str = "-P INPUT ACCEPT\n-N DOCKER-USER\n-N PAAS-1-IN\n-N PAAS-1-FWD\n-A INPUT -i c -j PAAS-2-IN\n\
        -A INPUT -i b -j PAAS-1-IN\n-A INPUT -j ACCEPT\n-A DOCKER-USER -i x+ -j PAAS-1-FWD\n-A DOCKER-USER -j RETURN\n\
        -A PAAS-1-IN -j DROP\n-A PAAS-1-FWD -d 1.2.3.4/32\n";

    #[test]
    fn rules_that_stand_are_left_alone() {
        assert_eq!(correction(&rules(), RIGHT), None);
    }

    #[test]
    fn a_rule_that_came_before_ours_is_overtaken() {
        let reordered = RIGHT.replace("-A INPUT -i c -j PAAS-2-IN", "-A INPUT -j ACCEPT");
        let input = correction(&rules(), &reordered).unwrap();
        assert!(input.contains("-D INPUT -i b -j PAAS-1-IN\n-I INPUT 1 -i b -j PAAS-1-IN\n"), "{input}");
        assert!(input.contains("-D DOCKER-USER -i x+ -j PAAS-1-FWD\n-I DOCKER-USER 1 "), "{input}");
    }

    #[test]
    fn an_empty_table_is_filled() {
        let input = correction(&rules(), "-P INPUT ACCEPT\n").unwrap();
        assert!(input.contains(":PAAS-1-IN - [0:0]\n-A PAAS-1-IN -j DROP\n"), "{input}");
        assert!(input.contains("-I FORWARD 1 -i x+ -j PAAS-1-FWD\n") && !input.contains("-D"), "{input}");
    }
}
