//! Build containers on the real engine: what they reach, what they may use, and that they end.

use std::{path::Path, time::Duration};

use futures_util::TryStreamExt;
use paas::engine::{
    BuildContainer, BuildExit, BuildOutput, BuildSpec, ContainerState, Kind, Mount,
    disk::{Disk, DiskError, FOLDERS, Slot},
};
use tokio::io::AsyncWriteExt;

use crate::support::{engine::TestEngine, waiting::until};

/// Runs a build container to its end, and gives back how it ended and what it printed.
async fn run(test: &TestEngine, spec: &BuildSpec) -> (BuildExit, String) {
    let container = test.engine.run_build(spec).await.unwrap();
    tokio::time::timeout(Duration::from_mins(1), finish(container)).await.expect("the build ends")
}

async fn finish(mut container: BuildContainer) -> (BuildExit, String) {
    let mut printed = Vec::new();
    while let Some(output) = container.output.try_next().await.unwrap() {
        match output {
            BuildOutput::Stdout(bytes) | BuildOutput::Stderr(bytes) => printed.extend_from_slice(&bytes),
        }
    }
    let exit = container.wait().await.unwrap();
    container.kill_and_remove().await.unwrap();
    (exit, String::from_utf8_lossy(&printed).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_reaches_neither_host_nor_instances_nor_metadata() {
    let test = TestEngine::new().await;
    let engine = &test.engine;
    let instance = test.instance(0, "httpd -f -p 8080");
    let id = engine.create_instance(&instance).await.unwrap();
    engine.start(&id).await.unwrap();
    until("it listens", || async { !engine.listening_ports(&id).await.unwrap().is_empty() }).await;
    engine.ensure_build_bridge().await.unwrap();
    let gateway = test.config.address_plan().unwrap().build_bridge().1;
    let listener = tokio::net::TcpListener::bind((gateway, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = tokio::spawn(async move { listener.accept().await.map(drop) });

    let script = format!(
        "for target in '{gateway} {port}' '{} 8080' '169.254.169.254 80'; do nc -w 1 $target </dev/null && \
         echo reached $target; done; nslookup paas-test.invalid; echo done",
        instance.address
    );
    let (exit, printed) = run(&test, &test.build(&script)).await;
    assert_eq!(exit.code, 0, "{printed}");
    assert!(!printed.contains("reached"), "{printed}");
    assert!(!accepted.is_finished(), "the host's listener was reached");
    accepted.abort();
    assert!(printed.contains("127.0.0.11") && printed.contains("NXDOMAIN"), "no answer from DNS: {printed}");

    // Each of the three was dropped by a rule of ours, not by chance.
    let table = std::process::Command::new("iptables").args(["-w", "10", "-nvxL"]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    let interface = format!("pa-{}-b", &paas::model::Digest::of(engine.server_id().as_bytes()).hex()[..8]);
    let chain = format!("PAAS-{}", &interface[3..11]);
    let rules: Vec<_> = table.split("\n\n").filter(|c| c.starts_with(&format!("Chain {chain}"))).collect();
    let dropped = |chain: &str, what: &str| {
        let rules = rules.iter().find(|rules| rules.contains(chain)).unwrap();
        let rule = rules.lines().find(|line| line.contains(" DROP ") && line.contains(what)).unwrap();
        rule.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    assert!(dropped("-IN", "0.0.0.0/0") > 0, "{table}");
    assert!(dropped("-FWD", &test.config.network.range) > 0, "{table}");
    assert!(dropped("-FWD", "169.254.0.0/16") > 0, "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_that_were_pushed_back_are_first_again() {
    let test = TestEngine::new().await;
    test.engine.ensure_build_bridge().await.unwrap();
    let rules = || {
        let listed = std::process::Command::new("iptables").args(["-w", "10", "-S"]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap()
    };
    let interface = format!("-i pa-{}-b ", &paas::model::Digest::of(test.engine.server_id().as_bytes()).hex()[..8]);
    let jump = rules().lines().find(|l| l.starts_with("-A INPUT") && l.contains(&interface)).unwrap().to_owned();
    let delete = jump.replacen("-A", "-D", 1);
    let deleted = std::process::Command::new("iptables").args(["-w", "10"]).args(delete.split(' ')).status().unwrap();
    assert!(deleted.success());
    test.engine.ensure_build_bridge().await.unwrap();
    test.engine.ensure_build_bridge().await.unwrap();
    assert_eq!(rules().lines().filter(|line| **line == jump).count(), 1);
    test.engine.remove_all().await.unwrap();
    assert!(!rules().contains(&interface));
    test.engine.remove_all().await.unwrap();
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
async fn a_fork_bomb_and_a_memory_hog_are_contained() {
    let test = TestEngine::new().await;
    let bomb = test.build("bomb() { bomb | bomb & }; bomb; sleep 1; echo over");
    let container = test.engine.run_build(&bomb).await.unwrap();
    let id = container.id().clone();
    let ended = tokio::time::timeout(Duration::from_mins(1), finish(container)).await;
    let (_, printed) = ended.expect("a fork bomb can be removed");
    assert!(printed.contains("can't fork"), "{}", printed.chars().take(500).collect::<String>());
    assert!(test.engine.inspect(id.as_str()).await.unwrap().is_none());

    let (exit, _) = run(&test, &test.build("tail /dev/zero")).await;
    assert_eq!(exit.code, 137);
    assert!(exit.oom_killed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_ends_with_its_input() {
    let test = TestEngine::new().await;
    let mut container = test.engine.run_build(&test.build("cat")).await.unwrap();
    container.stdin.write_all(b"hello\n").await.unwrap();
    container.stdin.shutdown().await.unwrap();
    let (exit, printed) = tokio::time::timeout(Duration::from_secs(30), finish(container)).await.unwrap();
    assert_eq!((exit.code, printed.as_str()), (0, "hello\n"));

    // A server that dies closes its connection, and says nothing more.
    let container = test.engine.run_build(&test.build("cat >/dev/null; exit 4")).await.unwrap();
    let id = container.id().clone();
    drop(container);
    until("it has ended", || async {
        test.engine.inspect(id.as_str()).await.unwrap().unwrap().state == ContainerState::Exited
    })
    .await;
    assert_eq!(test.engine.remove_leftover_builds().await.unwrap(), 1);
    assert!(test.engine.list(Some(Kind::Build)).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_gets_into_a_container_that_runs() {
    let test = TestEngine::new().await;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut slot = Slot::open(&at("mounts/slot")).await.unwrap();
    let script = "touch /layers/early /tmp/early; read line; cat /layers/mine; touch /layers/late /tmp/late; id -u; \
                  while read device folder kind options; do case $folder in /layers) echo $kind $options;; esac; done </proc/mounts";
    let spec = test.build(script).for_standby(&slot);
    let mut container = test.engine.run_build(&spec).await.unwrap();

    let disk = Disk::open(&at("disks/mine.ext4"), 64, &at("mounts/mine")).await.unwrap();
    std::fs::write(disk.folder("layers").join("mine"), "this one\n").unwrap();
    slot.mount(&disk).await.unwrap();
    container.stdin.write_all(b"go\n").await.unwrap();
    let (exit, printed) = tokio::time::timeout(Duration::from_mins(1), finish(container)).await.unwrap();
    assert_eq!(exit.code, 0, "{printed}");
    assert!(printed.contains("this one\n1000\n"), "{printed}");
    let mounted = printed.lines().find(|line| line.starts_with("ext4 ")).unwrap();
    assert!(mounted.contains("nosuid") && mounted.contains("nodev"), "{mounted}");
    for folder in ["layers", "tmp"] {
        let names = std::fs::read_dir(disk.folder(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let names: Vec<_> = names.filter(|name| name != "mine").collect();
        assert_eq!(names, ["late"], "{folder}: nothing can be written before the disk is there");
    }
    slot.close().await.unwrap();
    disk.close().await.unwrap();
    assert!(!is_mounted(&at("mounts/slot")) && !is_mounted(&at("mounts/mine")));

    // One that a dead server left, with a disk on it.
    let mut slot = Slot::open(&at("mounts/slot")).await.unwrap();
    let disk = Disk::open(&at("disks/mine.ext4"), 64, &at("mounts/mine")).await.unwrap();
    slot.mount(&disk).await.unwrap();
    drop((slot, disk));
    assert_eq!(Disk::unmount_leftovers(dir.path()).await.unwrap(), 2 + FOLDERS.len());
    assert!(!at("mounts/slot").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_fills_its_disk_and_not_the_hosts() {
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
    assert!(blocks(&image) < 20 << 20, "free blocks went back to the host: {}", blocks(&image));
    assert!(!is_mounted(&mount_point));

    // A build whose disk is not mounted does not start.
    let refused = test.engine.run_build(&spec).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("bind source path does not exist"), "{refused}");
    assert!(test.engine.list(Some(Kind::Build)).await.unwrap().is_empty());

    // What was on it is there again, also when a server died and left it mounted.
    let disk = Disk::open(&image, 64, &mount_point).await.unwrap();
    assert!(disk.folder("layers").join("kept").exists());
    drop(disk);
    assert!(is_mounted(&mount_point));
    assert_eq!(Disk::unmount_leftovers(dir.path()).await.unwrap(), 1);
    assert!(!is_mounted(&mount_point));

    // A damaged one is made anew.
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
