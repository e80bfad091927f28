//! Hostile pushes and builds, which must not affect the server, its host or other apps.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{apps::version, command::run, images::Base, waiting::eventually, world::World};

/// A repository for the Node.js buildpack whose build runs this shell script.
fn builds(world: &World, app: &str, script: &str) -> std::path::PathBuf {
    let folder =
        world.repository(app, &[("server.js", "require('http').createServer((q, s) => s.end('fine')).listen(8080)")]);
    build_with(world, &folder, script);
    folder
}

fn build_with(world: &World, folder: &Path, script: &str) {
    let package = serde_json::json!({ "name": "hostile", "version": "1.0.0", "scripts": { "build": script } });
    let lock = serde_json::json!({
        "name": "hostile", "version": "1.0.0", "lockfileVersion": 3,
        "packages": { "": { "name": "hostile", "version": "1.0.0" } },
    });
    let files = [("package.json", package.to_string()), ("package-lock.json", lock.to_string())];
    world.commit(folder, &files.each_ref().map(|(name, text)| (*name, text.as_str())));
}

/// A build that exceeds its limit of disk, memory, processes or output fails with the reason, and the next push works.
#[test]
fn a_build_that_exceeds_its_disk_or_memory_fails_with_the_reason() {
    let world = World::with("[build]\ndisk_mib = 300\nmemory_mib = 256\n");
    let buildpack = |script: &str| {
        format!(
            "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"my/greedy\"\n\
             [io.buildpacks.group.script]\napi = \"0.10\"\ninline = \"{script}\"\n"
        )
    };
    let disk = buildpack("dd if=/dev/zero of=big bs=1M count=4096");
    let folder = world.repository("greedy", &[("Procfile", &version(1)), ("project.toml", &disk)]);
    world.push(&folder).failure().prints("ran out of disk space (300 MiB");
    world.commit(&folder, &[("project.toml", &buildpack("head -c 1G /dev/zero | tail -c 1G | wc -c; exit 1"))]);
    world
        .push(&folder)
        .failure()
        .prints("ran out of memory (256 MiB")
        .prints("resource:limit greedy --builds --memory 512m");
    world.commit(&folder, &[("project.toml", "")]);
    world.push(&folder).success();
    world.answers(&world.url("greedy"), "version-1");
}

/// The same for a build of a language, and for processes and output.
#[test]
#[ignore = "slow"]
fn a_build_that_exceeds_a_limit_fails_with_the_reason() {
    let world = World::with("[build]\ndisk_mib = 700\nmemory_mib = 512\npids = 128\n");
    let folder = builds(&world, "greedy", "dd if=/dev/zero of=/workspace/big bs=1M count=4096");
    world.push(&folder).failure().prints("ran out of disk space (700 MiB");
    build_with(&world, &folder, "node -e 'const a = []; while (true) a.push(Buffer.alloc(1 << 24, 1))'");
    world.push(&folder).failure().prints("ran out of memory (512 MiB");
    build_with(&world, &folder, "bash -c 'for n in $(seq 300); do sleep 30 & done; wait' 2>&1 | head -n 1; exit 1");
    world.push(&folder).failure().prints("Resource temporarily unavailable");
    build_with(&world, &folder, "yes $(head -c 4000 /dev/zero | tr '\\0' y) | head -c 200000000");
    world.push(&folder).failure().prints("it printed more than 64 MiB");
    build_with(&world, &folder, "true");
    world.push(&folder).success();
    world.answers(&world.url("greedy"), "fine");
    assert!(world.containers("build").is_empty());
}

/// A build is stopped at its time limit, and the next push works.
#[test]
fn an_endless_build_is_stopped() {
    let mut world = World::with("[build]\ntimeout_seconds = 3\n");
    let endless = "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"my/endless\"\n\
                   [io.buildpacks.group.script]\napi = \"0.10\"\ninline = \"sleep 1000\"\n";
    let folder = world.repository("endless", &[("Procfile", &version(1)), ("project.toml", endless)]);
    world.push(&folder).failure().prints("stopped after 3 seconds");
    assert!(world.containers("build").is_empty());
    world.reconfigure("timeout_seconds = 3", "timeout_seconds = 600");
    world.commit(&folder, &[("project.toml", "")]);
    world.push(&folder).success();
    world.answers(&world.url("endless"), "version-1");
}

/// A process that a build leaves in the background does not delay it, even if it has a session of its own and holds the
/// output open.
#[test]
#[ignore = "slow"]
fn a_background_process_of_a_build_does_not_delay_it() {
    let world = World::with("[build]\ntimeout_seconds = 150\n");
    let folder = builds(&world, "daemon", "(setsid sleep 1000 &) ; echo left one");
    world.push(&folder).success().prints("left one");
    world.answers(&world.url("daemon"), "fine");
    assert!(world.containers("build").is_empty());
}

/// A commit message of 50 MB is stored and shown in part.
#[test]
fn a_huge_commit_message_is_truncated() {
    let world = World::new();
    let folder = world.repository("wordy", &[("Procfile", &version(1))]);
    let message = folder.join("../message");
    fs::write(&message, "a".repeat(50 << 20)).unwrap();
    world.git(&folder, &["commit", "-q", "--allow-empty", "--amend", "-F", message.to_str().unwrap()]).success();
    world.push(&folder).success();
    let releases = world.ssh(&["releases:list", "wordy"]).success().out;
    assert!(releases.contains("aaaa") && releases.len() < 1000, "{} bytes", releases.len());
}

/// A build cannot connect to the host's ports, to other apps or to the metadata service, and has no engine socket.
#[test]
fn a_build_cannot_connect_to_host_apps_or_metadata_service() {
    let world = World::new();
    let neighbour = world.repository("neighbour", &[("Procfile", &version(1))]);
    world.push(&neighbour).success();
    let report = world.ssh(&["ps:report", "neighbour", "--format", "json"]).success().json();
    let address = report.pointer("/0/address").unwrap().as_str().unwrap().to_owned();
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    let script = format!(
        "ls /var/run/docker.sock 2>&1; gateway=$(awk '$2==\"00000000\"{{print $3}}' /proc/net/route | \
         sed 's/\\(..\\)\\(..\\)\\(..\\)\\(..\\)/0x\\4 0x\\3 0x\\2 0x\\1/'); gateway=$(printf '%d.%d.%d.%d' $gateway); \
         reach() {{ timeout 3 bash -c \"exec 3<>/dev/tcp/$1/$2\" 2>/dev/null && echo OPEN $1 $2; }}; \
         node -e 'require(\"net\").createServer().listen(7777)' & until reach 127.0.0.1 7777; do sleep 0.1; done; \
         for target in \"$gateway {open}\" \"$gateway {ssh}\" \"{address} 8080\" \"169.254.169.254 80\"; do \
         reach $target & tried=\"$tried $!\"; done; wait $tried; echo tried $gateway; exit 7",
        ssh = world.ssh_port,
    );
    let folder = builds(&world, "client", &script);
    let output = world.push(&folder).failure().prints("tried 10.").prints("No such file");
    let lines = output.err.lines().map(|line| line.trim_start_matches("remote:").trim());
    let open: Vec<_> = lines.filter_map(|line| line.strip_prefix("OPEN ")).collect();
    assert_eq!(open, ["127.0.0.1 7777"], "only the build's own port is open: {}", output.err);
    world.answers(&world.url("neighbour"), "version-1");
}

/// CPU weight of the control group that a container is in, among the groups of the machine.
fn cpu_weight_of(container: &str) -> String {
    let pid = run(Command::new("docker").args(["inspect", "--format", "{{.State.Pid}}", container])).success().out;
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap();
    let of = |controller: &str| {
        let mut lines = groups.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
        lines.find(|line| line[1].split(',').any(|one| one == controller)).map(|line| line[2].to_owned())
    };
    let read = |hierarchy: &str, group: &str, file: &str| {
        // An engine that leaves groups to systemd puts the container beside the services of a slice.
        let parts: Vec<_> = group.trim_start_matches('/').split('/').collect();
        let depth = 1 + parts.iter().take_while(|part| part.ends_with(".slice")).count();
        let beside = parts[..depth.min(parts.len())].join("/");
        fs::read_to_string(format!("/sys/fs/cgroup{hierarchy}/{beside}/{file}")).unwrap().trim().to_owned()
    };
    match of("cpu") {
        Some(group) => read("/cpu", &group, "cpu.shares"),
        None => read("", &of("").unwrap(), "cpu.weight"),
    }
}

/// Control groups with this name, in any hierarchy.
fn groups_named(group: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let groups = entries.flat_map(|entry| [entry.join(group), entry]);
    groups.filter(|path| path.ends_with(group) && path.exists()).collect()
}

/// Builds, with buildpacks or of a Dockerfile, have a lower CPU weight than the router and the apps, in a control group that
/// purge removes.
#[test]
fn builds_have_a_low_cpu_weight() {
    // 64 shares in version 1, 6 as a weight of version 2, 3 or 0 if idle; runc converts 64 shares to 3 or 12.
    let light = |weight: &str| assert!(["64", "6", "3", "0", "12"].contains(&weight), "{weight}");
    let base = Base::new();
    let group = {
        let world = World::new();
        let folder = builds(&world, "light", "sleep 1000");
        let mut pushing = world.git_command(&folder).args(["push", "-q", "paas", "main"]).spawn().unwrap();
        let container = eventually("the build runs", || world.running_containers("build").pop());
        light(&cpu_weight_of(&container));
        run(Command::new("docker").args(["kill", &container])).success();
        assert!(!pushing.wait().unwrap().success());

        world.offer(&base);
        let files = [("Dockerfile", format!("FROM {}\nRUN sleep 1000\n", base.0))];
        let folder = world.repository("boxed", &files.each_ref().map(|(name, text)| (*name, text.as_str())));
        let mut pushing = world.git_command(&folder).args(["push", "-q", "paas", "main"]).spawn().unwrap();
        let container = eventually("the Dockerfile is built", || world.running_containers("build").pop());
        light(&cpu_weight_of(&container));
        let group = format!("paas-{}-builds", world.server_id());
        let driver = run(Command::new("docker").args(["info", "--format", "{{.CgroupDriver}}"])).success().out;
        assert_eq!(
            groups_named(&group).is_empty(),
            driver.trim() != "cgroupfs",
            "systemd leaves no choice of the group"
        );
        run(Command::new("docker").args(["kill", &container])).success();
        assert!(!pushing.wait().unwrap().success());
        group
    };
    assert_eq!(groups_named(&group), Vec::<PathBuf>::new(), "the control group is removed");
}

/// Odd file names, symlinks out of the tree and submodules are deployed without effect outside of the app.
#[test]
fn odd_names_and_symlinks_stay_inside_the_app() {
    let world = World::new();
    let folder = world.repository("tree", &[("index.html", "hello"), ("app.json", "{}")]);
    for name in ["-rf", "a b", "new\nline", "quote'\"", "ünï", "$(reboot)", "*"] {
        fs::write(folder.join(name), "odd").unwrap();
    }
    symlink("/etc/shadow", folder.join("shadow.txt")).unwrap();
    symlink("../../../../etc", folder.join("etc")).unwrap();
    symlink("loop", folder.join("loop")).unwrap();
    world.commit(&folder, &[]);
    let id = "1".repeat(40);
    world.git(&folder, &["update-index", "--add", "--cacheinfo", &format!("160000,{id},module")]).success();
    world.git(&folder, &["commit", "-q", "-m", "a submodule"]).success();
    world.push(&folder).success().prints("Submodules are not deployed: module");
    let url = world.url("tree");
    world.answers(&url, "hello");
    for path in ["/shadow.txt", "/etc/passwd", "/etc/hostname", "/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"] {
        let (status, body) = world.get(&format!("{}{path}", url.trim_end_matches('/'))).unwrap();
        assert!((400..500).contains(&status), "{path} gives {status}: {body}");
    }
    for name in ["-rf", "a%20b", "quote'%22", "%c3%bcn%c3%af", "$(reboot)", "*"] {
        assert_eq!(
            world.get(&format!("{}/{name}", url.trim_end_matches('/'))).unwrap(),
            (200, "odd".to_owned()),
            "{name}"
        );
    }
}

/// An invalid manifest is refused in one line, before the build.
#[test]
fn invalid_manifests_are_refused_before_the_build() {
    let world = World::new();
    let folder = world.repository("words", &[]);
    let huge = "x".repeat(300_000);
    let cases: &[(&str, &str, &str)] = &[
        ("Procfile", "web: a\nweb: b", "Procfile line 2"),
        ("Procfile", "../web: a", "Procfile line 1"),
        ("Procfile", &huge, "Procfile"),
        ("app.json", "[1, 2", "app.json"),
        ("app.json", r#"{"formation":{"web":{"quantity":-1}}}"#, "formation.web.quantity must be a whole number"),
        ("app.json", r#"{"formation":{"web":{"quantity":4000000000}}}"#, "app.json"),
        ("app.json", r#"{"healthchecks":{"web":[{"path":"no-slash\r\nHost: x"}]}}"#, "app.json"),
        ("app.json", &"[".repeat(100_000), "app.json"),
    ];
    for (name, text, says) in cases {
        for name in ["Procfile", "app.json"] {
            let _ = fs::remove_file(folder.join(name));
        }
        world.commit(&folder, &[(name, text)]);
        let output = world.git(&folder, &["push", "-f", "paas", "main"]).failure().prints(says);
        assert!(!output.err.contains("Detecting"), "{name} {:.40} was built: {}", text, output.err);
        let trouble = output.err.lines().find(|line| line.contains(" !     ")).unwrap();
        assert!(trouble.len() < 600, "{trouble}");
    }
    assert_eq!(world.ssh(&["builds:list", "words", "--format", "json"]).success().out.trim(), "[]");
}

/// The value of a config var is in no image and no log, and not readable in the database.
#[test]
fn values_of_config_vars_are_not_readable_elsewhere() {
    let world = World::new();
    let secret = "s3cr3t-4f1d9c77";
    let folder = world.repository("vault", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    world.ssh(&["config:set", "vault", &format!("TOKEN={secret}")]).success();
    world.commit(&folder, &[("Procfile", &version(2))]);
    let output = world.push(&folder).success();
    assert!(!output.all().contains(secret));
    assert_eq!(world.ssh(&["config:get", "vault", "TOKEN"]).success().out.trim(), secret, "the owner can read it");
    let found = run(Command::new("grep").args(["-rlaF", "--exclude=*.ext4", secret]).arg(world.data()));
    assert_eq!((found.code, found.out.as_str()), (Some(1), ""), "in a file");
    for log in ["server.log", "router.log"] {
        assert!(!fs::read_to_string(world.dir().join(log)).unwrap().contains(secret), "in {log}");
    }
    let image = run(Command::new("docker").args(["image", "inspect"]).arg(world.image_of("vault"))).success();
    assert!(!image.out.contains(secret));
}

/// Two servers on one engine, with apps of the same name, do not touch each other's objects.
#[test]
fn two_servers_share_an_engine() {
    let (one, two) = (World::new(), World::new());
    let folder = one.repository("twin", &[("Procfile", &version(1))]);
    one.push(&folder).success();
    let other = two.repository("twin", &[("Procfile", &version(2))]);
    two.push(&other).success();
    one.answers(&one.url("twin"), "version-1");
    let url = two.url("twin");
    one.ssh(&["apps:destroy", "twin", "--force"]).success();
    drop(one);
    two.answers(&url, "version-2");
    two.ssh(&["ps:scale", "twin", "web=2"]).success();
    eventually("both instances of the second server run", || {
        (two.running_containers("instance").len() == 2).then_some(())
    });
}

/// A build that fails half-way changes neither the live release nor the build cache.
#[test]
fn a_failed_build_keeps_the_cache_and_the_live_release() {
    let world = World::new();
    let folder = world.sample("node", "half");
    world.push(&folder).success();
    let package = fs::read_to_string(folder.join("package.json")).unwrap();
    let broken = package.replace("\"dependencies\": {", "\"dependencies\": { \"no-such-package-4f1d9c77\": \"1.0.0\",");
    assert_ne!(package, broken);
    let lock = fs::read_to_string(folder.join("package-lock.json")).unwrap();
    fs::remove_file(folder.join("package-lock.json")).unwrap();
    world.commit(&folder, &[("package.json", &broken)]);
    world.push(&folder).failure().prints("there is no package no-such-package-4f1d9c77");
    world.answers(&world.url("half"), "Hello from Node.js");
    world.commit(&folder, &[("package.json", &package), ("package-lock.json", &lock), ("later.txt", "x")]);
    world.push(&folder).success().prints("Using the packages of the last build");
    world.answers(&world.url("half"), "Hello from Node.js");
}
