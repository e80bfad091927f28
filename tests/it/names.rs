//! What containers learn by name: the Internet's names, and none of other apps.

use std::{fs, net::Ipv4Addr};

use futures_util::TryStreamExt;
use paas::engine::{ContainerId, EMBEDDED_DNS, Engine, LogOptions, Printed};
use tokio::io::AsyncWriteExt as _;

use crate::support::{command::repository_root, engine::TestEngine, waiting::until};

/// Asks the engine's name server about a container: by name, by short id, and by address.
fn questions(name: &str, id: &ContainerId, address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!(
        "for name in {name} {} {address} {d}.{c}.{b}.{a}.in-addr.arpa; do nslookup -type=a $name {EMBEDDED_DNS}; \
         nslookup -type=ptr $name {EMBEDDED_DNS}; nslookup $name {EMBEDDED_DNS}; done 2>&1; echo asked",
        &id.as_str()[..12]
    )
}

async fn printed(engine: &Engine, id: &ContainerId) -> String {
    let lines: Vec<_> = engine.containers.logs(id, LogOptions::default()).try_collect().await.unwrap();
    lines.into_iter().map(|line| line.text + "\n").collect()
}

#[track_caller]
fn assert_nothing_learned(printed: &str, name: &str) {
    for answer in [format!("name = {name}"), format!("Name:\t{name}"), "NXDOMAIN".to_owned()] {
        assert!(!printed.contains(&answer), "the engine's name server has answered: {printed}");
    }
    assert!(printed.contains("asked") && !printed.contains("nslookup: not found"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_and_builds_learn_nothing_of_their_neighbours() {
    let test = TestEngine::new().await;
    let engine = &test.engine;
    let neighbour = test.instance(0, "sleep 60");
    let id = engine.containers.create_workload(&neighbour).await.unwrap();
    engine.containers.start(&id).await.unwrap();
    let script = questions(&neighbour.name, &id, neighbour.address);

    // The launcher starts nothing before the name server is closed, also that of an image of an older version.
    let mut curious = test.instance(1, "");
    curious.entrypoint = vec!["/cnb/lifecycle/launcher".into()];
    curious.cmd = ["--", "/bin/sh", "-c", &script].map(str::to_owned).into();
    curious.env = vec![format!("PAAS_CLOSED_ADDRESS={EMBEDDED_DNS}")];
    curious.launcher = Some(
        repository_root().join("target/static/x86_64-unknown-linux-gnu/release/lifecycle").canonicalize().unwrap(),
    );
    let curious_id = engine.containers.create_workload(&curious).await.unwrap();
    engine.containers.start(&curious_id).await.unwrap();
    until("it has asked", || async { printed(engine, &curious_id).await.contains("asked") }).await;
    assert_nothing_learned(&printed(engine, &curious_id).await, &neighbour.name);

    // The same of builds: their names would say which apps are built.
    let mut build = engine.builds.run_build(&test.build(&format!("head -n 1; {script}"))).await.unwrap();
    build.stdin.write_all(b"request\n").await.unwrap();
    let mut text = String::new();
    while let Some(Printed::Stdout(bytes) | Printed::Stderr(bytes)) = build.output.try_next().await.unwrap() {
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    build.kill_and_remove().await.unwrap();
    assert_nothing_learned(&text, &neighbour.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_have_the_name_servers_of_the_machine_and_follow_its_changes() {
    let test = TestEngine::new().await;
    let engine = &test.engine;
    let spec = test.instance(0, "while :; do cat /etc/resolv.conf; echo ---; sleep 0.1; done");
    let id = engine.containers.create_workload(&spec).await.unwrap();
    engine.containers.start(&id).await.unwrap();
    let file = test.config.data_dir.join("resolv.conf");
    let of_machine = fs::read_to_string(&file).unwrap();
    assert!(of_machine.contains("nameserver ") && !of_machine.contains("127.0.0."), "{of_machine}");
    let last = || async {
        let text = printed(engine, &id).await;
        text.rsplit("---\n").nth(1).unwrap_or_default().to_owned()
    };
    until("it has them", || async { last().await == of_machine }).await;
    // As if they had been others when the container was started.
    fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
    until("the file is the container's", || async { last().await == "nameserver 192.0.2.1\n" }).await;
    engine.host.update_resolver().await.unwrap();
    until("it has those of now", || async { last().await == of_machine }).await;
}
