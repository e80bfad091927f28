//! What containers write besides what is mounted into them, counted on the real engine.

use std::process::Command;

use futures_util::TryStreamExt as _;
use paas::engine::{ContainerId, ContainerSpec, LogOptions, Written};

use crate::support::{command::run, engine::TestEngine, images::import_busybox_with, waiting::until};

const MIB: u64 = 1 << 20;

/// Starts an instance that runs a script as root; returns what it has written when the script has ended.
async fn written(test: &TestEngine, spec: &ContainerSpec) -> (ContainerId, Written) {
    let containers = &test.engine.containers;
    let id = containers.create_workload(spec).await.unwrap();
    assert_eq!(containers.written(&id).await.unwrap(), None, "it does not run yet");
    containers.start(&id).await.unwrap();
    until("the script has ended", || async {
        let lines: Vec<_> = containers.logs(&id, LogOptions::default()).try_collect().await.unwrap();
        lines.iter().any(|line| line.text == "done")
    })
    .await;
    let written = containers.written(&id).await.unwrap().unwrap();
    (id, written)
}

fn instance(test: &TestEngine, slot: u32, script: &str) -> ContainerSpec {
    ContainerSpec { own_user: true, ..test.instance(slot, &format!("{script}\necho done; sleep 1000")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_an_instance_writes_counts_wherever_it_is() {
    let test = TestEngine::new().await;
    let removed = "exec 3> /tmp/gone; busybox rm /tmp/gone; head -c 20971520 /dev/zero >&3";
    let many = "n=0; while [ $n -lt 3000 ]; do : > /tmp/$n; n=$((n+1)); done";
    for (slot, (script, mib)) in [
        ("head -c 20971520 /dev/zero > /file", 20),
        ("head -c 20971520 /dev/zero > /tmp/file; busybox ln /tmp/file /tmp/again", 20),
        (removed, 20),
        (many, 3000 * 4096 / MIB),
        // Nothing of it is on the disk.
        ("busybox truncate -s 1G /sparse", 0),
        // It is memory, which is limited as such.
        ("head -c 20971520 /dev/zero > /dev/shm/file", 0),
    ]
    .into_iter()
    .enumerate()
    {
        let spec = instance(&test, u32::try_from(slot).unwrap(), script);
        let Written::Bytes { all: bytes, .. } = written(&test, &spec).await.1 else { panic!("{script}") };
        assert!((mib * MIB..(mib + 2) * MIB).contains(&bytes), "{script}: {bytes}");
    }
    let nested = instance(&test, 9, "n=0; while [ $n -lt 300 ]; do mkdir d; cd d; n=$((n+1)); done");
    assert_eq!(written(&test, &nested).await.1, Written::TooDeep);
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_that_the_engine_makes_for_an_image_count_and_go_with_the_container() {
    let test = TestEngine::new().await;
    let tag = test.engine.images.own_tag("with-volume", "1");
    let socket = test.config.engine.socket.clone();
    let name = tag.clone();
    tokio::task::spawn_blocking(move || import_busybox_with(&socket, &name, "&changes=VOLUME%20/data")).await.unwrap();
    let image = test.engine.images.image_id(&tag).await.unwrap().expect("imported");
    let script = "exec 3> /data/gone; busybox rm /data/gone; head -c 10485760 /dev/zero >&3; head -c 10485760 /dev/zero > /data/file";
    let spec = ContainerSpec { image, ..instance(&test, 1, script) };
    let (id, Written::Bytes { all: bytes, .. }) = written(&test, &spec).await else { panic!("nothing is nested") };
    assert!((20 * MIB..22 * MIB).contains(&bytes), "{bytes}");

    let docker = |words: &[&str]| {
        let socket = format!("unix://{}", test.config.engine.socket.display());
        run(Command::new("docker").args(["--host", &socket]).args(words))
    };
    let format = "{{range .Mounts}}{{.Name}}{{end}}";
    let volume = docker(&["inspect", "--format", format, id.as_str()]).success().out;
    docker(&["volume", "inspect", volume.trim()]).success();
    test.engine.containers.remove(&id).await.unwrap();
    docker(&["volume", "inspect", volume.trim()]).failure();
}
