//! What builds and instances reach, and what they do not: every way out is tried from inside.

use std::{net::Ipv4Addr, path::PathBuf, process::Command};

use futures_util::{StreamExt as _, TryStreamExt as _};
use paas::{
    config::{Config, InstanceNetwork},
    engine::{BuildSpec, LogOptions, Printed},
    model::{Destination, Opening},
};

use crate::support::{
    apps::version,
    command::{CommandOutput, run},
    elsewhere::{Elsewhere, port_of_host},
    engine::TestEngine,
    waiting::{DEADLINE, eventually},
    world::World,
};

/// Where a connection was tried to, and how that ended.
type Attempts = Vec<(String, Outcome)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    /// Refused at once.
    Refused,
    /// Anything else, such as a time-out.
    Other,
}

/// A script that tries to connect to each target, `address port`, and prints the outcomes.
fn script(targets: &[String]) -> String {
    let try_one = |target: &String| {
        format!("if e=$(nc -w 20 {target} </dev/null 2>&1); then echo '{target} open'; else echo \"{target} $e\"; fi; ")
    };
    targets.iter().map(try_one).collect()
}

fn attempts(targets: &[String], printed: &str) -> Attempts {
    let outcome = |target: &String| {
        let line = printed.lines().find(|line| line.starts_with(&format!("{target} ")));
        let outcome = match line.unwrap_or_else(|| panic!("{target} is not in {printed}")) {
            line if line.ends_with(" open") => Outcome::Open,
            line if line.ends_with("Connection refused") => Outcome::Refused,
            _ => Outcome::Other,
        };
        (target.clone(), outcome)
    };
    targets.iter().map(outcome).collect()
}

fn at(address: Ipv4Addr, port: u16) -> String {
    format!("{address} {port}")
}

/// What a build prints.
async fn build(test: &TestEngine, spec: &BuildSpec) -> String {
    let mut container = test.engine.builds.run_build(spec).await.unwrap();
    let mut printed = Vec::new();
    while let Some(Printed::Stdout(bytes) | Printed::Stderr(bytes)) = container.output.try_next().await.unwrap() {
        printed.extend_from_slice(&bytes);
    }
    container.wait().await.unwrap();
    container.kill_and_remove().await.unwrap();
    String::from_utf8(printed).unwrap()
}

async fn from_build(test: &TestEngine, targets: &[String]) -> Attempts {
    let printed = tokio::time::timeout(DEADLINE, build(test, &test.build(&script(targets)))).await;
    attempts(targets, &printed.expect("the build ends"))
}

/// What an instance in this slot reaches.
async fn from_instance(test: &TestEngine, slot: u32, targets: &[String]) -> Attempts {
    let mut exits = test.engine.containers.exits(paas::engine::Kind::Instance);
    let id = test.engine.containers.create_workload(&test.instance(slot, &script(targets))).await.unwrap();
    test.engine.containers.start(&id).await.unwrap();
    let ended = async { while exits.next().await.unwrap().id != id {} };
    tokio::time::timeout(DEADLINE, ended).await.expect("the instance ends");
    let lines = test.engine.containers.logs(&id, LogOptions::default()).map_ok(|line| line.text);
    let lines: Vec<_> = lines.try_collect().await.unwrap();
    attempts(targets, &lines.join("\n"))
}

/// Asserts one outcome for all of these targets.
#[track_caller]
fn all(attempts: &Attempts, targets: &[String], expected: Outcome) {
    for target in targets {
        let (_, outcome) = attempts.iter().find(|(tried, _)| tried == target).unwrap();
        assert_eq!(*outcome, expected, "{target}: {attempts:?}");
    }
}

/// An instance that listens on port 8080, in slot 0; returns the target.
async fn other_instance(test: &TestEngine) -> String {
    let spec = test.instance(0, "httpd -f -p 8080");
    let id = test.engine.containers.create_workload(&spec).await.unwrap();
    test.engine.containers.start(&id).await.unwrap();
    let listens = || async { !test.engine.containers.listening_ports(&id).await.unwrap().is_empty() };
    crate::support::waiting::until("the instance listens", listens).await;
    at(spec.address, 8080)
}

/// The targets of this machine: its addresses on the bridges, and others.
fn host(test: &TestEngine, elsewhere: &Elsewhere, port: u16) -> Vec<String> {
    let plan = test.config.address_plan().unwrap();
    let gateways = [plan.app_bridge(0).1, plan.build_bridge().1, Ipv4Addr::new(172, 17, 0, 1)];
    [&gateways[..], &[elsewhere.host_lan, elsewhere.host_public]].concat().iter().map(|a| at(*a, port)).collect()
}

/// Addresses that are closed wherever they lead to.
fn metadata() -> Vec<String> {
    ["169.254.169.254 80", "169.254.170.2 80", "100.100.100.200 80", "168.63.129.16 80"].map(str::to_owned).into()
}

/// A build reaches the Internet, and neither this machine at any of its addresses, nor a private network, nor an instance, nor
/// a metadata service. Everything that is closed is refused at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_reaches_the_internet_alone() {
    let (test, elsewhere, port) = (TestEngine::new().await, Elsewhere::new(), port_of_host());
    let instance = other_instance(&test).await;
    let public = vec![at(elsewhere.public, elsewhere.ports[0])];
    let private = ["10.99.99.9 80", "172.20.255.9 80", "192.168.250.9 80", "100.64.0.9 80"].map(str::to_owned);
    let closed = [
        host(&test, &elsewhere, port),
        vec![instance, at(elsewhere.lan, elsewhere.ports[0])],
        private.into(),
        metadata(),
    ];
    let closed = closed.concat();
    let tried = from_build(&test, &[public.clone(), closed.clone()].concat()).await;
    all(&tried, &public, Outcome::Open);
    all(&tried, &closed, Outcome::Refused);

    // There is no IPv6 to be filtered.
    let printed = build(&test, &test.build("cat /proc/net/if_inet6 /proc/net/ipv6_route; echo end")).await;
    assert!(!printed.lines().any(|line| !line.ends_with("lo") && line != "end"), "{printed}");
}

/// An instance reaches the Internet and private networks, and neither this machine, nor a metadata service, nor other
/// instances; the operator closes private networks by one key.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_reaches_the_lan_unless_the_operator_closes_it() {
    let (elsewhere, port) = (Elsewhere::new(), port_of_host());
    for instances in [InstanceNetwork::Lan, InstanceNetwork::Internet] {
        let mut config = Config::default();
        config.network.instances = instances;
        let test = TestEngine::with(config).await;
        let lan = vec![at(elsewhere.lan, elsewhere.ports[0])];
        let public = vec![at(elsewhere.public, elsewhere.ports[0])];
        let closed = [host(&test, &elsewhere, port), vec![other_instance(&test).await], metadata()].concat();
        let tried = from_instance(&test, 1, &[public.clone(), lan.clone(), closed.clone()].concat()).await;
        all(&tried, &public, Outcome::Open);
        all(&tried, &lan, if instances == InstanceNetwork::Lan { Outcome::Open } else { Outcome::Refused });
        all(&tried, &closed, Outcome::Refused);
    }
}

/// `network.allow` opens what it says, for builds and instances, and nothing beside it; the proxy of builds is open to builds.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_opens_what_builds_and_instances_need() {
    let (elsewhere, ports) = (Elsewhere::new(), [port_of_host(), port_of_host(), port_of_host()]);
    let mut config = Config::default();
    config.network.instances = InstanceNetwork::Internet;
    let allow = [
        format!("{}:{}", elsewhere.lan, elsewhere.ports[0]),
        format!("host:{}", ports[0]),
        // It covers this machine, containers and metadata services, and opens none of them.
        format!("0.0.0.0/0:{}", ports[1]),
        "0.0.0.0/0:8080".to_owned(),
        "0.0.0.0/0:80".to_owned(),
    ];
    config.network.allow = allow.map(|target| target.parse().unwrap()).into();
    config.outbound.http_proxy = Some(format!("http://user:password@{}:{}", elsewhere.host_lan, ports[2]));
    let test = TestEngine::with(config).await;
    let instance = other_instance(&test).await;
    let open = [vec![at(elsewhere.lan, elsewhere.ports[0])], host(&test, &elsewhere, ports[0])].concat();
    let proxy = vec![at(elsewhere.host_lan, ports[2])];
    let others =
        [vec![instance, at(elsewhere.lan, elsewhere.ports[1]), at(elsewhere.host_public, ports[2])], metadata()];
    let closed = [others.concat(), host(&test, &elsewhere, ports[1])].concat();
    let targets = [open.clone(), proxy.clone(), closed.clone()].concat();
    for (tried, to_proxy) in [
        (from_build(&test, &targets).await, Outcome::Open),
        (from_instance(&test, 1, &targets).await, Outcome::Refused),
    ] {
        all(&tried, &open, Outcome::Open);
        all(&tried, &proxy, to_proxy);
        all(&tried, &closed, Outcome::Refused);
    }
}

/// An opening belongs to one address: other instances do not have it. Openings of the same server are replaced as a whole, and
/// what did not change is not set again.
#[tokio::test(flavor = "multi_thread")]
async fn an_opening_is_for_the_instances_of_one_app() {
    let (test, elsewhere, ports) = (TestEngine::new().await, Elsewhere::new(), [port_of_host(), port_of_host()]);
    let plan = test.config.address_plan().unwrap();
    let opening = |destination, port| Opening { source: plan.instance(0, 1).into(), destination, protocol: None, port };
    let name = |address: Ipv4Addr| Destination::Resolved(address.into());
    let openings = vec![
        opening(Destination::ThisMachine, Some(ports[0])),
        // A name does not open this machine, nor a metadata service.
        opening(name(elsewhere.host_lan), Some(ports[1])),
        opening(name(Ipv4Addr::new(169, 254, 169, 254)), None),
    ];
    let host_set = &test.engine.host;
    host_set.set_openings(openings.clone()).await.unwrap();
    let (open, closed) = (host(&test, &elsewhere, ports[0]), host(&test, &elsewhere, ports[1]));
    let targets = [open.clone(), closed.clone(), metadata()].concat();
    let (with, without) = tokio::join!(from_instance(&test, 1, &targets), from_instance(&test, 2, &targets));
    all(&with, &open, Outcome::Open);
    all(&with, &[closed, metadata()].concat(), Outcome::Refused);
    all(&without, &targets, Outcome::Refused);

    // The counters of the rules start again when rules are set.
    let counters = || {
        let table = run(Command::new("iptables").args(["-w", "10", "-nvxL"])).success().out;
        let chain =
            format!("Chain PAAS-{}-IN", &paas::model::Digest::of(test.engine.server_id().as_bytes()).hex()[..8]);
        let chain = table.split("\n\n").find(|text| text.starts_with(&chain)).unwrap().to_owned();
        chain.lines().skip(2).map(|line| line.split_whitespace().next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    let before = counters();
    assert!(before > 0);
    host_set.set_openings(openings).await.unwrap();
    host_set.ensure_firewall().await.unwrap();
    assert!(counters() >= before, "nothing was to be set");
    host_set.set_openings(Vec::new()).await.unwrap();
    assert!(counters() < before);
    all(&from_instance(&test, 1, &open).await, &open, Outcome::Refused);
}

/// The jump from a chain that all share, and our own chain, of a server.
fn jump(world: &World, chain: &str) -> (String, String) {
    let id = paas::model::Digest::of(world.server_id().as_bytes()).hex()[..8].to_owned();
    (format!("-i pa-{id}-+ -j PAAS-{id}-{chain}"), format!("PAAS-{id}-{chain}"))
}

fn iptables(words: &[&str]) -> CommandOutput {
    run(Command::new("iptables").args(["-w", "10"]).args(words))
}

/// An admin opens this machine to one app, by a command that takes effect at once, and closes it again; and what another program
/// removes from the packet filters is back soon.
#[test]
fn an_admin_opens_a_port_of_this_machine_to_one_app() {
    let world = World::new();
    let (port, other) = (port_of_host(), port_of_host());
    let folder = world.repository("shop", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    let (key, public) = world.keygen("dev2");
    world.paas_with(&["ssh-keys:add", "owner"], &public).success();
    world.paas(&["access:add", "shop", "owner", "owner"]).success();

    let reaches = |app: &str, port: u16| {
        let command = format!("exec 3<>/dev/tcp/host.paas.internal/{port} && echo reached");
        let tried = world.paas(&["run", app, "--", "bash", "-c", &command]);
        assert!(tried.ok || tried.err.contains("Connection refused"), "{}{}", tried.out, tried.err);
        tried.ok
    };
    assert!(!reaches("shop", port), "the host is closed");
    let target = format!("host:{port}");
    let refused = world.ssh_as(&key, &["network:allow", "shop", &target]);
    assert_eq!(refused.code, Some(3), "{}", refused.err);
    for (bad, reason) in [
        ("127.0.0.1:5432", "is the container itself; write host, or host:PORT"),
        ("10.1.2.3/8", "8 bits of it are 10.0.0.0/8"),
        ("172.17.0.9:5432", "is a network of containers on this machine"),
        ("10.1.2", "is no network target"),
    ] {
        world.paas(&["network:allow", "shop", bad]).failure().prints(reason);
    }
    world.paas(&["network:allow", "shop", &target]).success().prints("this machine is host.paas.internal");
    world.paas(&["network:allow", "shop", &target]).success().prints("no change");
    assert!(reaches("shop", port) && !reaches("shop", other));

    // Its running instance, too; an app without it does not.
    let inside = |app: &str| {
        let command = format!("exec 3<>/dev/tcp/host.paas.internal/{port} && echo reached");
        world.paas(&["enter", app, "web", "bash", "-c", &command])
    };
    inside("shop").success().prints("reached");
    let neighbour = world.repository("neighbour", &[("Procfile", &version(2))]);
    world.push(&neighbour).success();
    inside("neighbour").failure().prints("Connection refused");
    world.ssh_as(&key, &["network:report", "shop"]).success().prints(&target);
    world.paas(&["network:allow", "shop", "169.254.169.254"]).success().prints("credentials of this machine");
    world.paas(&["network:allow", "shop", "169.254.0.0/16"]).success().prints("an address alone opens one");

    let mut world = world;
    world.kill_server();
    world.start_server();
    let inside = |app: &str| {
        let command = format!("exec 3<>/dev/tcp/host.paas.internal/{port} && echo reached");
        world.paas(&["enter", app, "web", "bash", "-c", &command])
    };
    inside("shop").success();

    // Another program flushes our chains and removes the jumps to them.
    let input = jump(&world, "IN");
    let delete = |parent: &str, rule: &str| {
        let words: Vec<_> = ["-D", parent].into_iter().chain(rule.split(' ')).collect();
        iptables(&words).success();
    };
    delete("INPUT", &input.0);
    iptables(&["-F", &input.1]).success();
    eventually("the filters are back", || {
        let rules = iptables(&["-S"]).success().out;
        (rules.contains(&format!("-A INPUT {}\n", input.0)) && rules.contains(&format!("-A {} ", input.1)))
            .then_some(())
    });
    inside("neighbour").failure().prints("Connection refused");

    world.paas(&["network:deny", "shop", &target]).success().prints("may no longer reach");
    world.paas(&["network:deny", "shop", &target]).failure().prints("was not allowed");
    inside("shop").failure().prints("Connection refused");
}

/// A chain that is removed at the end, with the jump to it from INPUT.
struct RemovedChain<'a> {
    chain: &'static str,
    jump: &'a str,
}

impl Drop for RemovedChain<'_> {
    fn drop(&mut self) {
        iptables(&["-D", "INPUT"].into_iter().chain(self.jump.split(' ')).collect::<Vec<_>>());
        iptables(&["-F", self.chain]);
        iptables(&["-X", self.chain]);
    }
}

/// What a server whose data folder was removed has left closes nothing of the next one, which has the same range.
#[test]
fn filters_of_a_server_that_is_gone_do_not_close_the_next_one() {
    let mut world = World::new();
    world.stop_server();
    let rule = format!("-d {}/32 ! -i pa-0gone-+ -j PAAS-0gone-ROUTER", world.router_address());
    let words = |change: &'static str| [change, "INPUT"].into_iter().chain(rule.split(' ')).collect::<Vec<_>>();
    iptables(&["-N", "PAAS-0gone-ROUTER"]).success();
    let _removal = RemovedChain { chain: "PAAS-0gone-ROUTER", jump: &rule };
    iptables(&["-A", "PAAS-0gone-ROUTER", "-j", "REJECT"]).success();
    iptables(&words("-I")).success();
    world.start_server();
    iptables(&words("-C")).failure();
    let folder = world.repository("next", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    world.answers(&world.url("next"), "version-1");
}

/// A developer makes the server fetch nothing that is closed to builds; an admin may.
#[test]
fn a_developer_makes_the_server_fetch_nothing_from_private_networks() {
    let world = World::new();
    let (key, public): (PathBuf, String) = world.keygen("dev2");
    world.paas_with(&["ssh-keys:add", "someone"], &public).success();
    world.ssh_as(&key, &["apps:create", "fetches"]).success();
    for source in ["https://10.15.15.250/pack.git", "docker://192.168.250.1/pack:1", "http://169.254.169.254/x.git"] {
        let refused = world.ssh_as(&key, &["buildpacks:add", "fetches", source]);
        refused.failure().prints("private networks");
    }
}
