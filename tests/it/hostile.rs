//! What is pushed is hostile; the server, its host and the other apps do not notice.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use crate::support::{apps::version, command::run, images::Base, waiting::eventually, world::World};

/// An app of the Node.js buildpack whose build runs this shell text.
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

/// A build that fills its disk, forks without end, eats memory or prints for ever is ended with a reason, and the next
/// push works.
#[test]
fn a_build_that_takes_everything_is_ended() {
    let world = World::with("[build]\ndisk_mib = 700\nmemory_mib = 512\npids = 128\n");
    let folder = builds(&world, "greedy", "dd if=/dev/zero of=/workspace/big bs=1M count=4096");
    world.push(&folder).bad().says("ran out of disk space (700 MiB");
    build_with(&world, &folder, "node -e 'const a = []; while (true) a.push(Buffer.alloc(1 << 24, 1))'");
    world.push(&folder).bad().says("ran out of memory (512 MiB");
    build_with(&world, &folder, "bash -c 'for n in $(seq 300); do sleep 30 & done; wait' 2>&1 | head -n 1; exit 1");
    world.push(&folder).bad().says("Resource temporarily unavailable");
    build_with(&world, &folder, "yes $(head -c 4000 /dev/zero | tr '\\0' y) | head -c 200000000");
    world.push(&folder).bad().says("it printed more than 64 MiB");
    build_with(&world, &folder, "true");
    world.push(&folder).good();
    world.answers(&world.url("greedy"), "fine");
    assert!(world.containers("build").is_empty());
}

/// A build that never ends is ended.
#[test]
fn a_build_without_end_is_ended() {
    let world = World::with("[build]\ntimeout_seconds = 20\n");
    let endless = "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"my/endless\"\n\
                   [io.buildpacks.group.script]\napi = \"0.10\"\ninline = \"sleep 1000\"\n";
    let folder = world.repository("endless", &[("Procfile", &version(1)), ("project.toml", endless)]);
    world.push(&folder).bad().says("stopped after 20 seconds");
    assert!(world.containers("build").is_empty());
    world.commit(&folder, &[("project.toml", "")]);
    world.push(&folder).good();
    world.answers(&world.url("endless"), "version-1");
}

/// What a build leaves running ends with its step, even if it has left its group and holds the output open.
#[test]
fn a_daemon_left_by_a_build_holds_nothing_up() {
    let world = World::with("[build]\ntimeout_seconds = 60\n");
    let folder = builds(&world, "daemon", "(setsid sleep 1000 &) ; echo left one");
    world.push(&folder).good().says("left one");
    world.answers(&world.url("daemon"), "fine");
}

/// A message without end costs no memory, and is shown in part.
#[test]
fn an_endless_commit_message_is_cut() {
    let world = World::new();
    let folder = world.repository("wordy", &[("Procfile", &version(1))]);
    let message = folder.join("../message");
    fs::write(&message, "a".repeat(50 << 20)).unwrap();
    world.git(&folder, &["commit", "-q", "--allow-empty", "--amend", "-F", message.to_str().unwrap()]).good();
    world.push(&folder).good();
    let releases = world.ssh(&["releases:list", "wordy"]).good().out;
    assert!(releases.contains("aaaa") && releases.len() < 1000, "{} bytes", releases.len());
}

/// A build reaches none of the host's ports, other apps, or the engine.
#[test]
fn a_build_that_knocks_finds_no_door() {
    let world = World::new();
    let neighbour = world.repository("neighbour", &[("Procfile", &version(1))]);
    world.push(&neighbour).good();
    let report = world.ssh(&["ps:report", "neighbour", "--format", "json"]).good().out;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let address = report.pointer("/0/address").unwrap().as_str().unwrap().to_owned();
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    let script = format!(
        "id -u; ls /var/run/docker.sock 2>&1; gateway=$(awk '$2==\"00000000\"{{print $3}}' /proc/net/route | \
         sed 's/\\(..\\)\\(..\\)\\(..\\)\\(..\\)/0x\\4 0x\\3 0x\\2 0x\\1/'); gateway=$(printf '%d.%d.%d.%d' $gateway); \
         knock() {{ timeout 3 bash -c \"exec 3<>/dev/tcp/$1/$2\" 2>/dev/null && echo OPEN $1 $2; }}; \
         knock $gateway {open}; knock $gateway {ssh}; knock {address} 8080; knock 169.254.169.254 80; \
         echo knocked at $gateway; env; exit 7",
        ssh = world.ssh_port,
    );
    let folder = builds(&world, "knocker", &script);
    let said = world.push(&folder).bad().says("knocked at 10.").says("No such file");
    let came_through = said.err.lines().any(|line| line.trim_start_matches("remote:").trim_start().starts_with("OPEN"));
    assert!(!came_through, "a build came through: {}", said.err);
    world.answers(&world.url("neighbour"), "version-1");
}

/// The weight of a container's build beside the other processes of the machine, from the control group that it is in.
fn weight_beside_all_else(container: &str) -> String {
    let pid = run(Command::new("docker").args(["inspect", "--format", "{{.State.Pid}}", container])).good().out;
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

/// A build weighs little beside the router and the apps, in a control group that goes with the server: one of a buildpack
/// and one of a Dockerfile.
#[test]
fn a_build_weighs_little_beside_all_else() {
    // Idle is 3 or 0; what runc makes of 64 shares is 3 or 12.
    let light = |weight: &str| assert!(["64", "6", "3", "0", "12"].contains(&weight), "{weight}");
    let base = Base::new();
    let group = {
        let world = World::new();
        let folder = builds(&world, "light", "sleep 1000");
        let mut pushing = world.git_command(&folder).args(["push", "-q", "paas", "main"]).spawn().unwrap();
        let container = eventually("it builds", || world.running_containers("build").pop());
        light(&weight_beside_all_else(&container));
        run(Command::new("docker").args(["kill", &container])).good();
        assert!(!pushing.wait().unwrap().success());

        let step = format!("sleep 1000 # {}", world.server_id());
        let files = [("Dockerfile", format!("FROM {}\nRUN {step}\n", base.0))];
        let folder = world.repository("boxed", &files.each_ref().map(|(name, text)| (*name, text.as_str())));
        let mut pushing = world.git_command(&folder).args(["push", "-q", "paas", "main"]).spawn().unwrap();
        let container = eventually("the step runs", || {
            let list = ["ps", "--no-trunc", "--format", "{{.ID}} {{.Command}}"];
            let running = run(Command::new("docker").args(list)).good().out;
            let line = running.lines().find(|line| line.contains(&step))?;
            line.split(' ').next().map(str::to_owned)
        });
        light(&weight_beside_all_else(&container));
        run(Command::new("docker").args(["kill", &container])).good();
        assert!(!pushing.wait().unwrap().success());
        format!("paas-{}-builds", world.server_id())
    };
    let roots = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let left: Vec<_> = roots.filter(|root| root.ends_with(&group) || root.join(&group).exists()).collect();
    assert!(left.is_empty(), "the group goes with the server: {left:?}");
}

/// Symlinks, odd names and submodules in the tree stay what they are, inside.
#[test]
fn an_odd_tree_stays_inside() {
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
    world.git(&folder, &["update-index", "--add", "--cacheinfo", &format!("160000,{id},module")]).good();
    world.git(&folder, &["commit", "-q", "-m", "a submodule"]).good();
    world.push(&folder).good().says("Submodules are not deployed: module");
    let url = world.url("tree");
    world.answers(&url, "hello");
    for path in ["/shadow.txt", "/etc/passwd", "/etc/hostname", "/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"] {
        let (status, body) = world.get(&format!("{}{path}", url.trim_end_matches('/'))).unwrap();
        assert!(!body.contains("root:"), "{path} gives {status}: {body}");
    }
}

/// A manifest that is no manifest costs no build and gets one line.
#[test]
fn manifests_that_are_wrong_are_refused_before_the_build() {
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
        let said = world.git(&folder, &["push", "-f", "paas", "main"]).bad().says(says);
        assert!(!said.err.contains("Detecting"), "{name} {:.40} was built: {}", text, said.err);
        let trouble = said.err.lines().find(|line| line.contains(" !     ")).unwrap();
        assert!(trouble.len() < 600, "{trouble}");
    }
    assert!(world.ssh(&["builds:list", "words", "--format", "json"]).good().out.trim() == "[]");
}

/// What is secret stays with the app: not in images, logs or the database's plain text.
#[test]
fn config_vars_leave_no_trace() {
    let world = World::new();
    let secret = "s3cr3t-4f1d9c77";
    let folder = world.repository("vault", &[("Procfile", &version(1))]);
    world.push(&folder).good();
    world.ssh(&["config:set", "vault", &format!("TOKEN={secret}")]).good();
    world.commit(&folder, &[("Procfile", &version(2))]);
    let said = world.push(&folder).good();
    assert!(!said.all().contains(secret));
    assert_eq!(world.ssh(&["config:get", "vault", "TOKEN"]).good().out.trim(), secret, "and its owner gets it back");
    let found = run(Command::new("grep").args(["-rlaF", "--exclude=*.ext4", secret]).arg(world.data()));
    assert_eq!((found.code, found.out.as_str()), (Some(1), ""), "in a file");
    for log in ["server.log", "router.log"] {
        assert!(!fs::read_to_string(world.dir().join(log)).unwrap().contains(secret), "in {log}");
    }
    let image = run(Command::new("docker").args(["image", "inspect"]).arg(world.image_of("vault"))).good();
    assert!(!image.out.contains(secret));
}

/// Two servers on one engine, with apps of one name: neither touches what is the other's.
#[test]
fn two_servers_live_side_by_side() {
    let (one, two) = (World::new(), World::new());
    let folder = one.repository("twin", &[("Procfile", &version(1))]);
    one.push(&folder).good();
    let other = two.repository("twin", &[("Procfile", &version(2))]);
    two.push(&other).good();
    one.answers(&one.url("twin"), "version-1");
    let url = two.url("twin");
    one.ssh(&["apps:destroy", "twin", "--force"]).good();
    drop(one);
    two.answers(&url, "version-2");
    two.ssh(&["ps:scale", "twin", "web=2"]).good();
    eventually("both of the other's instances run", || (two.containers("instance").len() == 2).then_some(()));
}

/// A failed build leaves the last good cache, and the next push is built as if it had not been.
#[test]
fn a_build_that_fails_half_way_spoils_nothing() {
    let world = World::new();
    let folder = world.sample("node", "half");
    world.push(&folder).good();
    let package = fs::read_to_string(folder.join("package.json")).unwrap();
    let broken = package.replace("\"dependencies\": {", "\"dependencies\": { \"no-such-package-4f1d9c77\": \"1.0.0\",");
    assert_ne!(package, broken);
    let lock = fs::read_to_string(folder.join("package-lock.json")).unwrap();
    fs::remove_file(folder.join("package-lock.json")).unwrap();
    world.commit(&folder, &[("package.json", &broken)]);
    world.push(&folder).bad().says("npm");
    world.answers(&world.url("half"), "Hello from Node.js");
    world.commit(&folder, &[("package.json", &package), ("package-lock.json", &lock), ("later.txt", "x")]);
    world.push(&folder).good();
    world.answers(&world.url("half"), "Hello from Node.js");
}
