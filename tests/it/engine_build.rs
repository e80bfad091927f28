//! Build containers on the real engine: their network, their limits, and their end.

use std::path::Path;

use futures_util::TryStreamExt;
use paas::engine::{
    BuildContainer, BuildExit, BuildSpec, ContainerState, Kind, Mount, Printed,
    disk::{Disk, DiskError, FOLDERS, Slot},
};
use tokio::io::AsyncWriteExt;

use crate::support::{
    engine::TestEngine,
    waiting::{DEADLINE, until},
};

/// Runs a build container; returns its exit and its output.
async fn run(test: &TestEngine, spec: &BuildSpec) -> (BuildExit, String) {
    let container = test.engine.builds.run_build(spec).await.unwrap();
    tokio::time::timeout(DEADLINE, finish(container)).await.expect("the build ends")
}

async fn finish(mut container: BuildContainer) -> (BuildExit, String) {
    let mut printed = Vec::new();
    while let Some(output) = container.output.try_next().await.unwrap() {
        match output {
            Printed::Stdout(bytes) | Printed::Stderr(bytes) => printed.extend_from_slice(&bytes),
        }
    }
    let exit = container.wait().await.unwrap();
    container.kill_and_remove().await.unwrap();
    (exit, String::from_utf8_lossy(&printed).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_cannot_connect_to_host_instances_or_metadata_service() {
    let test = TestEngine::new().await;
    let engine = &test.engine;
    let instance = test.instance(0, "httpd -f -p 8080");
    let id = engine.containers.create_workload(&instance).await.unwrap();
    engine.containers.start(&id).await.unwrap();
    until("the instance listens", || async { !engine.containers.listening_ports(&id).await.unwrap().is_empty() }).await;
    engine.builds.ensure_build_bridge().await.unwrap();
    let gateway = test.config.address_plan().unwrap().build_bridge().1;
    let listener = tokio::net::TcpListener::bind((gateway, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = tokio::spawn(async move { listener.accept().await.map(drop) });

    let script = format!(
        "for target in '{gateway} {port}' '{} 8080' '169.254.169.254 80'; do nc -w 5 $target </dev/null && \
         echo reached $target; done; nslookup paas-test.invalid; echo done",
        instance.address
    );
    let (exit, printed) = run(&test, &test.build(&script)).await;
    assert_eq!(exit.code, 0, "{printed}");
    assert!(!printed.contains("reached"), "{printed}");
    assert!(!accepted.is_finished(), "the host's listener was reached");
    accepted.abort();
    assert!(printed.contains("NXDOMAIN"), "no response from DNS: {printed}");

    // Each of the three connections was rejected by a rule of this server, at once.
    assert_eq!(printed.matches("Connection refused").count(), 3, "{printed}");
    let table = std::process::Command::new("iptables").args(["-w", "10", "-nvxL"]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    let interface = format!("pa-{}-b", &paas::model::Digest::of(engine.server_id().as_bytes()).hex()[..8]);
    let chain = format!("PAAS-{}", &interface[3..11]);
    let rules: Vec<_> = table.split("\n\n").filter(|c| c.starts_with(&format!("Chain {chain}"))).collect();
    let rejected = |chain: &str, what: &str| {
        let rules = rules.iter().find(|rules| rules.contains(chain)).unwrap();
        let rule = rules.lines().find(|line| line.contains("-CLOSED ") && line.contains(what)).unwrap();
        rule.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    assert!(rejected("-IN", "0.0.0.0/0") > 0, "{table}");
    assert!(rejected("-FWD", &test.config.network.range) > 0, "{table}");
    assert!(rejected("-FWD", "169.254.0.0/16") > 0, "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn filter_rules_are_restored_before_foreign_rules() {
    let test = TestEngine::new().await;
    test.engine.builds.ensure_build_bridge().await.unwrap();
    let rules = || {
        let listed = std::process::Command::new("iptables").args(["-w", "10", "-S"]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap()
    };
    let interface = format!("-i pa-{}-+ ", &paas::model::Digest::of(test.engine.server_id().as_bytes()).hex()[..8]);
    let jump = rules().lines().find(|l| l.starts_with("-A INPUT") && l.contains(&interface)).unwrap().to_owned();
    let delete = jump.replacen("-A", "-D", 1);
    let deleted = std::process::Command::new("iptables").args(["-w", "10"]).args(delete.split(' ')).status().unwrap();
    assert!(deleted.success());
    test.engine.builds.ensure_build_bridge().await.unwrap();
    test.engine.builds.ensure_build_bridge().await.unwrap();
    assert_eq!(rules().lines().filter(|line| **line == jump).count(), 1);

    // A rule of somebody else is inserted before it, for an interface that does not exist.
    let foreign = ForeignRule::insert();
    let places = || {
        let rules = rules();
        let place = |rule: &str| rules.lines().position(|line| line == rule).unwrap();
        (place(&jump), place(&format!("-A {}", foreign.0)))
    };
    let (own, other) = places();
    assert!(other < own);
    test.engine.builds.ensure_build_bridge().await.unwrap();
    let (own, other) = places();
    assert!(own < other, "{}", rules());
    drop(foreign);
    test.engine.remove_all().await.unwrap();
    assert!(!rules().contains(&interface));
    test.engine.remove_all().await.unwrap();
}

struct ForeignRule(String);

impl ForeignRule {
    fn insert() -> Self {
        let rule = format!("INPUT -i test{:08x} -j ACCEPT", rand::random::<u32>());
        let (chain, matching) = rule.split_once(' ').unwrap();
        let insert = [&["-w", "10", "-I", chain, "1"][..], &matching.split(' ').collect::<Vec<_>>()].concat();
        assert!(std::process::Command::new("iptables").args(insert).status().unwrap().success());
        Self(rule)
    }
}

impl Drop for ForeignRule {
    fn drop(&mut self) {
        let _ = std::process::Command::new("iptables").args(["-w", "10", "-D"]).args(self.0.split(' ')).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_confined() {
    let test = TestEngine::new().await;
    let script = "id -u; touch /x || echo read-only; ls /var/run/docker.sock || echo no socket; \
                  while read line; do case $line in Cap*|NoNewPrivs*) echo $line;; esac; done </proc/self/status";
    let (exit, printed) = run(&test, &test.build(script)).await;
    assert_eq!(exit, BuildExit { code: 0, oom_killed: false });
    for part in ["1000\n", "read-only", "no socket", "CapEff: 0000000000000000", "CapBnd: 0000000000000000"] {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
    assert!(printed.contains("NoNewPrivs: 1"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_processes_and_memory_hold() {
    let test = TestEngine::new().await;
    let bomb = test.build("bomb() { bomb | bomb & }; bomb; sleep 1; echo over");
    let container = test.engine.builds.run_build(&bomb).await.unwrap();
    let id = container.id().clone();
    let ended = tokio::time::timeout(DEADLINE, finish(container)).await;
    let (_, printed) = ended.expect("a fork bomb can be removed");
    assert!(printed.contains("can't fork"), "{}", printed.chars().take(500).collect::<String>());
    assert!(test.engine.containers.inspect(id.as_str()).await.unwrap().is_none());

    let (exit, _) = run(&test, &test.build("tail /dev/zero")).await;
    assert_eq!(exit.code, 137);
    assert!(exit.oom_killed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_sees_the_end_of_its_input_when_the_server_dies() {
    let test = TestEngine::new().await;
    let mut container = test.engine.builds.run_build(&test.build("cat")).await.unwrap();
    container.stdin.write_all(b"hello\n").await.unwrap();
    container.stdin.shutdown().await.unwrap();
    let (exit, printed) = tokio::time::timeout(DEADLINE, finish(container)).await.unwrap();
    assert_eq!((exit.code, printed.as_str()), (0, "hello\n"));

    // A server that dies closes its connection without any other message.
    let container = test.engine.builds.run_build(&test.build("cat >/dev/null; exit 4")).await.unwrap();
    let id = container.id().clone();
    assert_eq!(test.engine.builds.remove_leftover_builds().await.unwrap(), 0, "it is in use");
    drop(container);
    until("the container has exited", || async {
        test.engine.containers.inspect(id.as_str()).await.unwrap().unwrap().state == ContainerState::Exited
    })
    .await;
    assert_eq!(test.engine.builds.remove_leftover_builds().await.unwrap(), 1);
    assert!(test.engine.containers.list(Some(Kind::Build)).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_mounted_in_a_running_container() {
    let test = TestEngine::new().await;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut slot = Slot::open(&at("mounts/slot")).await.unwrap();
    let script = "touch /layers/early /tmp/early; echo ready; read line; cat /layers/mine; touch /layers/late /tmp/late; id -u; \
                  while read device folder kind options; do case $folder in /layers) echo $kind $options;; esac; done </proc/mounts";
    let spec = test.build(script).for_standby(&slot);
    let mut container = test.engine.builds.run_build(&spec).await.unwrap();
    let mut tried = Vec::new();
    while !String::from_utf8_lossy(&tried).contains("ready\n") {
        match container.output.try_next().await.unwrap().expect("the script goes on") {
            Printed::Stdout(bytes) | Printed::Stderr(bytes) => tried.extend_from_slice(&bytes),
        }
    }

    let disk = Disk::open(&at("disks/mine.ext4"), 64, &at("mounts/mine")).await.unwrap();
    std::fs::write(disk.folder("layers").join("mine"), "this one\n").unwrap();
    slot.mount(&disk).await.unwrap();
    container.stdin.write_all(b"go\n").await.unwrap();
    let (exit, printed) = tokio::time::timeout(DEADLINE, finish(container)).await.unwrap();
    assert_eq!(exit.code, 0, "{printed}");
    assert!(printed.contains("this one\n1000\n"), "{printed}");
    let mounted = printed.lines().find(|line| line.starts_with("ext4 ")).unwrap();
    assert!(mounted.contains("nosuid") && mounted.contains("nodev"), "{mounted}");
    for folder in ["layers", "tmp"] {
        let names = std::fs::read_dir(disk.folder(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let names: Vec<_> = names.filter(|name| name != "mine").collect();
        assert_eq!(names, ["late"], "{folder}: nothing can be written before the disk is mounted");
    }
    slot.close().await.unwrap();
    disk.close().await.unwrap();
    assert!(!is_mounted(&at("mounts/slot")) && !is_mounted(&at("mounts/mine")));

    // Leftovers of a dead server: a slot, with a disk mounted on it.
    let mut slot = Slot::open(&at("mounts/slot")).await.unwrap();
    let disk = Disk::open(&at("disks/mine.ext4"), 64, &at("mounts/mine")).await.unwrap();
    slot.mount(&disk).await.unwrap();
    drop((slot, disk));
    assert_eq!(Disk::unmount_leftovers(dir.path()).await.unwrap(), 2 + FOLDERS.len());
    assert!(!at("mounts/slot").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_fills_its_own_disk_only() {
    let test = TestEngine::new().await;
    let dir = tempfile::tempdir().unwrap();
    let (image, mount_point) = (dir.path().join("disks/hello.ext4"), dir.path().join("mounts/he llo"));
    let disk = Disk::open(&image, 64, &mount_point).await.unwrap();
    assert!(matches!(Disk::open(&image, 64, &mount_point).await, Err(DiskError::InUse(_))));
    let mut spec = test.build("touch /layers/kept; dd if=/dev/zero of=/workspace/big bs=1M count=100; touch /tmp/x");
    spec.mounts = FOLDERS.map(|name| Mount::writable(&disk.folder(name), format!("/{name}"))).into();
    let (exit, printed) = run(&test, &spec).await;
    assert!(printed.contains("No space left on device"), "{printed}");
    assert_eq!(exit.code, 0, "{printed}");
    assert!(disk.is_full());
    std::fs::remove_file(disk.folder("workspace").join("big")).unwrap();
    disk.close().await.unwrap();
    assert!(blocks(&image) < 20 << 20, "free blocks are returned to the host: {}", blocks(&image));
    assert!(!is_mounted(&mount_point));

    // A build whose disk is not mounted does not start.
    let refused = test.engine.builds.run_build(&spec).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("bind source path does not exist"), "{refused}");
    assert!(test.engine.containers.list(Some(Kind::Build)).await.unwrap().is_empty());

    // The disk keeps its contents, and is unmounted when a server died and left it mounted.
    let disk = Disk::open(&image, 64, &mount_point).await.unwrap();
    assert!(disk.folder("layers").join("kept").exists());
    drop(disk);
    assert!(is_mounted(&mount_point));
    assert_eq!(Disk::unmount_leftovers(dir.path()).await.unwrap(), 1);
    assert!(!is_mounted(&mount_point));

    // One that was mounted when the machine failed is replaced by an empty one; its file is what the host's disk had then.
    let disk = Disk::open(&image, 64, &mount_point).await.unwrap();
    std::fs::write(disk.folder("layers").join("newer"), "").unwrap();
    let failed = dir.path().join("disks/failed.ext4");
    std::fs::copy(&image, &failed).unwrap();
    disk.close().await.unwrap();
    let disk = Disk::open(&image, 64, &mount_point).await.unwrap();
    assert!(disk.folder("layers").join("newer").exists());
    disk.close().await.unwrap();
    let disk = Disk::open(&failed, 64, &mount_point).await.unwrap();
    assert!(!disk.folder("layers").join("kept").exists());
    disk.discard().await.unwrap();

    // So is a damaged one.
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xff; 1 << 20], 0).unwrap();
    let disk = Disk::open(&image, 64, &mount_point).await.unwrap();
    assert!(!disk.folder("layers").join("kept").exists());
    disk.discard().await.unwrap();
    assert!(!image.exists() && !is_mounted(&mount_point));
}

fn blocks(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(path).unwrap()) * 512
}

fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.contains(&path.to_string_lossy().replace(' ', "\\040"))
}
