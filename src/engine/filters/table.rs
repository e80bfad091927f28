//! The filter tables of the kernel: read, corrected and cleaned up by `iptables`.

use std::net::Ipv4Addr;

use super::rules::Rules;
use crate::engine::child::{self, ChildError};

/// How often the filter table is corrected until it is as it should be.
const ATTEMPTS: u32 = 5;

/// Changes the filter table until it contains the rules; whether it did not. Success means that the table was listed, and
/// found correct.
pub(super) async fn ensure(rules: &Rules) -> Result<bool, ChildError> {
    let mut corrected = Ok(String::new());
    for attempt in 0..=ATTEMPTS {
        let listed = child::run(rules.program, ["-w", "10", "-S"], None).await?;
        let Some(input) = correction(rules, &listed) else { return Ok(attempt > 0) };
        if attempt < ATTEMPTS {
            // The table may have changed since it was listed: dockerd changes it, too.
            corrected = child::run(rules.restore, ["-w", "10", "--noflush"], Some(&input)).await;
            if corrected.as_ref().is_err_and(ChildError::is_missing) {
                break;
            }
        }
    }
    corrected?;
    Err(ChildError::NoEffect { program: rules.restore, times: ATTEMPTS })
}

/// Removes our chains and the jumps into them; no effect if the program is not installed.
pub(super) async fn remove(rules: &Rules) -> Result<(), ChildError> {
    let Ok(listed) = child::run(rules.program, ["-w", "10", "-S"], None).await else { return Ok(()) };
    let mut input = vec!["*filter".to_owned()];
    input.extend(foreign_jumps(rules, &listed).map(|(parent, rule)| format!("-D {parent} {rule}")));
    let present = rules.chains.iter().filter(|(chain, _)| listed.contains(&format!("-N {chain}\n")));
    let present: Vec<_> = present.map(|(chain, _)| chain).collect();
    input.extend(present.iter().map(|chain| format!("-F {chain}")));
    input.extend(present.iter().map(|chain| format!("-X {chain}")));
    input.push("COMMIT\n".to_owned());
    child::run(rules.restore, ["-w", "10", "--noflush"], Some(&input.join("\n"))).await.map(drop)
}

/// Adds a rule to the chain `PREROUTING` of the raw table, before all others, unless it is there; no effect without that table.
pub(super) async fn ensure_raw(rule: &str) -> Result<(), ChildError> {
    let Ok(listed) = child::run("iptables", ["-w", "10", "-t", "raw", "-S", "PREROUTING"], None).await else {
        return Ok(());
    };
    if listed.lines().any(|line| line.strip_prefix("-A PREROUTING ") == Some(rule)) {
        return Ok(());
    }
    change_raw("-I", rule).await
}

/// Removes what [`ensure_raw`] has added for these interfaces, whatever range they had.
pub(super) async fn remove_raw(interfaces: &str) {
    let listed = child::run("iptables", ["-w", "10", "-t", "raw", "-S", "PREROUTING"], None).await.unwrap_or_default();
    let ours = format!(" -i {interfaces} -j ACCEPT");
    for rule in
        listed.lines().filter_map(|line| line.strip_prefix("-A PREROUTING ")).filter(|rule| rule.ends_with(&ours))
    {
        let _ = change_raw("-D", rule).await;
    }
}

/// Removes rules with which servers that have other interfaces close this address. The range belongs to one server at a time, so
/// that these are left of one that does not exist any more.
pub(super) async fn remove_closing(router: Ipv4Addr, interfaces: &str) -> Result<(), ChildError> {
    let listed = child::run("iptables", ["-w", "10", "-S", "INPUT"], None).await?;
    for rule in closing(&listed, router, interfaces) {
        let words = ["-w", "10", "-D", "INPUT"].into_iter().chain(rule.split(' '));
        child::run("iptables", words, None).await?;
    }
    Ok(())
}

fn closing<'a>(listed: &'a str, router: Ipv4Addr, interfaces: &str) -> impl Iterator<Item = &'a str> {
    let (address, own) = (format!("-d {router}/32 ! -i pa-"), format!(" ! -i {interfaces} "));
    let rules = listed.lines().filter_map(|line| line.strip_prefix("-A INPUT "));
    rules.filter(move |rule| rule.starts_with(&address) && rule.contains(" -j PAAS-") && !rule.contains(&own))
}

async fn change_raw(change: &str, rule: &str) -> Result<(), ChildError> {
    let words = ["-w", "10", "-t", "raw", change, "PREROUTING"].into_iter().chain(rule.split(' '));
    child::run("iptables", words, None).await.map(drop)
}

/// Rules of other chains that jump into ours: chain and rule.
fn foreign_jumps<'a>(rules: &'a Rules, listed: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let added = listed.lines().filter_map(|line| line.strip_prefix("-A ")?.split_once(' '));
    added.filter(|(parent, rule)| {
        rules.chains.iter().all(|(chain, _)| chain != parent)
            && rules.chains.iter().any(|(chain, _)| rule.ends_with(&format!("-j {chain}")))
    })
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
    // Docker jumps to DOCKER-USER before its own rules, and never changes it. A flush may have removed that jump.
    let docker_user = has("-N DOCKER-USER") && rules_of("FORWARD").contains(&"-j DOCKER-USER");
    let mut jumps = Vec::new();
    for (parent, matching, target) in &rules.jumps {
        let parent = if *parent == "FORWARD" && docker_user { "DOCKER-USER" } else { parent };
        let jump = format!("{matching} -j {target}");
        let present = rules_of(parent);
        let first = present.iter().position(|rule| *rule == jump);
        let count = present.iter().filter(|rule| **rule == jump).count();
        // Only jumps of other servers, which match other interfaces, may precede ours.
        let in_place = first.is_some_and(|at| present[..at].iter().all(|rule| rule.contains(" -j PAAS-")));
        correct &= in_place && count == 1;
        jumps.push((parent, jump));
    }
    for (parent, rule) in foreign_jumps(rules, listed) {
        // One in another chain, or that an earlier version made.
        correct &= jumps.iter().any(|(wanted, jump)| *wanted == parent && *jump == *rule);
        input.push(format!("-D {parent} {rule}"));
    }
    input.extend(jumps.iter().map(|(parent, jump)| format!("-I {parent} 1 {jump}")));
    input.push("COMMIT\n".to_owned());
    (!correct).then(|| input.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            program: "iptables",
            restore: "iptables-restore",
            chains: vec![
                ("PAAS-1-CLOSED".into(), vec!["-j REJECT".into()]),
                ("PAAS-1-IN".into(), vec!["-j PAAS-1-CLOSED".into()]),
                ("PAAS-1-FWD".into(), vec!["-d 1.2.3.4/32".into()]),
            ],
            jumps: vec![("INPUT", "-i b".into(), "PAAS-1-IN".into()), ("FORWARD", "-i x+".into(), "PAAS-1-FWD".into())],
        }
    }

    const CORRECT: &str = "-P INPUT ACCEPT\n-N DOCKER-USER\n-N PAAS-1-CLOSED\n-N PAAS-1-IN\n-N PAAS-1-FWD\n\
        -A INPUT -i c -j PAAS-2-IN\n-A INPUT -i b -j PAAS-1-IN\n-A INPUT -j ACCEPT\n-A FORWARD -j DOCKER-USER\n\
        -A DOCKER-USER -i x+ -j PAAS-1-FWD\n-A DOCKER-USER -j RETURN\n-A PAAS-1-CLOSED -j REJECT\n\
        -A PAAS-1-IN -j PAAS-1-CLOSED\n-A PAAS-1-FWD -d 1.2.3.4/32\n";

    #[tokio::test]
    async fn rules_that_are_not_there_after_the_last_correction_are_an_error() {
        let failed =
            |program, restore| async move { ensure(&Rules { program, restore, ..rules() }).await.unwrap_err() };
        // `echo` succeeds, and changes nothing; what it lists has none of our rules.
        let error = failed("echo", "echo").await.to_string();
        assert!(error.starts_with("echo set the rules 5 times, and they were changed again each time"), "{error}");
        assert_eq!(failed("echo", "false").await.status(), Some(1));
        assert!(failed("echo", "paas-no-such-program").await.is_missing());
    }

    #[test]
    fn correct_rules_are_left_unchanged() {
        assert_eq!(correction(&rules(), CORRECT), None);
    }

    #[test]
    fn our_jump_is_moved_before_other_rules() {
        let reordered = CORRECT.replace("-A INPUT -i c -j PAAS-2-IN", "-A INPUT -j ACCEPT");
        let input = correction(&rules(), &reordered).unwrap();
        let moved = "-D INPUT -i b -j PAAS-1-IN\n-D DOCKER-USER -i x+ -j PAAS-1-FWD\n\
                     -I INPUT 1 -i b -j PAAS-1-IN\n-I DOCKER-USER 1 -i x+ -j PAAS-1-FWD\n";
        assert!(input.contains(moved), "{input}");
    }

    #[test]
    fn missing_rules_are_added() {
        let input = correction(&rules(), "-P INPUT ACCEPT\n").unwrap();
        assert!(input.contains(":PAAS-1-IN - [0:0]\n-A PAAS-1-IN -j PAAS-1-CLOSED\n"), "{input}");
        assert!(input.contains("-I FORWARD 1 -i x+ -j PAAS-1-FWD\n") && !input.contains("-D"), "{input}");
    }

    #[test]
    fn a_chain_of_docker_that_nothing_jumps_to_is_not_used() {
        let flushed = "-P FORWARD ACCEPT\n-N DOCKER-USER\n-N PAAS-1-IN\n";
        let input = correction(&rules(), flushed).unwrap();
        assert!(input.contains("-I FORWARD 1 -i x+ -j PAAS-1-FWD\n") && !input.contains("-I DOCKER-USER"), "{input}");
        // Once Docker jumps there again, ours moves.
        let both = CORRECT.replace("-A DOCKER-USER -i x+ -j PAAS-1-FWD\n", "-A FORWARD -i x+ -j PAAS-1-FWD\n");
        let input = correction(&rules(), &both).unwrap();
        assert!(input.contains("-D FORWARD -i x+ -j PAAS-1-FWD\n") && input.contains("-I DOCKER-USER 1 "), "{input}");
    }

    #[test]
    fn what_a_server_with_the_same_range_has_left_is_found() {
        let [own, left, other] = [("10.210.0.1", 1), ("10.210.0.1", 2), ("10.211.0.1", 3)]
            .map(|(address, id)| format!("-d {address}/32 ! -i pa-{id}-+ -j PAAS-{id}-ROUTER"));
        let listed = format!(
            "-P INPUT ACCEPT\n-A INPUT {own}\n-A INPUT -i pa-2-+ -j PAAS-2-IN\n-A INPUT {left}\n-A INPUT {other}\n\
             -A INPUT -d 10.210.0.1/32 ! -i pa-+ -j DROP\n"
        );
        let found: Vec<_> = closing(&listed, Ipv4Addr::new(10, 210, 0, 1), "pa-1-+").collect();
        assert_eq!(found, [left]);
    }

    #[test]
    fn jumps_of_an_earlier_version_are_removed() {
        let old = CORRECT.replace("-A INPUT -j ACCEPT\n", "-A INPUT -j ACCEPT\n-A INPUT -i b-0 -j PAAS-1-IN\n");
        let input = correction(&rules(), &old).unwrap();
        assert!(input.contains("-D INPUT -i b-0 -j PAAS-1-IN\n"), "{input}");
        assert!(!input.contains("PAAS-2"), "{input}");
    }
}
