//! Budgets and sizes: what an owner may have, and what instances, tasks and builds may use.

use std::path::PathBuf;

use crate::support::{
    apps::version,
    command::{CommandOutput, run},
    http::Load,
    waiting::eventually,
    world::World,
};

/// Exit status of a command that a limit refuses.
const TOO_MANY: Option<i32> = Some(6);

fn user(world: &World, name: &str) -> PathBuf {
    let (key, public) = world.keygen(name);
    world.paas_with(&["ssh-keys:add", name], &public).success();
    key
}

#[track_caller]
fn refused(output: &CommandOutput, what: &str) {
    assert_eq!(output.code, TOO_MANY, "{}{}", output.out, output.err);
    let line = format!(" !     {what}");
    assert!(output.err.lines().any(|it| it.starts_with(&line)), "{}", output.err);
}

/// Somebody tries to pass every limit, while another owner's app serves and is deployed.
#[test]
#[ignore = "slow"]
fn an_owner_meets_the_limits_while_another_deploys() {
    let world = World::with(
        "[quota]\napps = 2\nports = 4\nmappings_per_app = 2\ninstances = 3\nprocess_types_per_app = 3\ntasks = 1\n\
         memory_mib = 2100\nconfig_bytes_per_app = 1000\n",
    );
    let (ada, bob) = (user(&world, "ada"), user(&world, "bob"));
    let theirs = world.repository("theirs", &[("Procfile", &version(1))]);
    world.push_as(&bob, &theirs).success();
    let load = Load::on(&world.url("theirs"));
    let as_ada = |words: &[&str]| world.ssh_as(&ada, words);

    // Apps, also by pushes.
    let folder = world.repository("one", &[("Procfile", &format!("{}\nworker: sleep 1000\n", version(1)))]);
    world.push_as(&ada, &folder).success();
    as_ada(&["apps:create", "two"]).success();
    refused(&as_ada(&["apps:create", "three"]), "ada may have 2 apps, and this would make it 3; quota shows");
    let third = world.repository("three", &[("Procfile", &version(1))]);
    world.push_as(&ada, &third).failure().prints("ada may have 2 apps");
    world.ssh_as(&bob, &["access:transfer", "theirs", "ada"]).failure().prints("only ada or an admin may do that");
    world.ssh_as(&bob, &["access:add", "theirs", "ada", "owner"]).success();
    as_ada(&["access:transfer", "theirs", "ada"]).failure().prints("ada may have 2 apps");
    world.ssh_as(&bob, &["access:remove", "theirs", "ada"]).success();

    // Ports.
    let port = |n: u16| {
        let url = world.url("one");
        let first: u16 = url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
        format!("http:{}:8080", first + n)
    };
    let mappings = [port(20), port(21), port(22)];
    let set = |ports: &[String]| {
        as_ada(&[&["ports:set", "one"], &ports.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat())
    };
    refused(&set(&mappings), "an app may have 2 port mappings, and this would make it 3");
    set(&mappings[..2]).success();
    refused(&as_ada(&["ports:add", "two", &port(23)]), "ada may have 4 ports, and this would make it 5");
    as_ada(&["ports:add", "two", "http:9000:8080"])
        .failure()
        .prints("only an admin may map port 9000; choose one from ");

    // Instances, process types, memory, tasks.
    as_ada(&["ps:scale", "one", "web=2", "worker=1"]).success();
    refused(&as_ada(&["ps:scale", "one", "web=6"]), "ada may have 3 instances, and this would make it 7");
    refused(
        &as_ada(&["resource:limit", "one", "--memory", "1g"]),
        "ada may have 2100 MiB of memory for instances and tasks, and this would make it 3072",
    );
    as_ada(&["run:detached", "one", "sleep", "1000"]).success();
    as_ada(&["run", "one", "true"])
        .failure()
        .prints("ada may have 1 task that runs or waits, and this would make it 2");
    let types: String = ["a", "b", "c"].map(|name| format!("{name}: sleep 1000\n")).concat();
    world.commit(&folder, &[("Procfile", &format!("{}\n{types}", version(2)))]);
    world.push_as(&ada, &folder).failure().prints("an app may have 3 process types, and this would make it 4");
    let web = &as_ada(&["ps:report", "one", "--format", "json"]).success().json()[0];
    assert_eq!(web["release"], 1, "nothing of it is live");

    // Config vars.
    let value = "x".repeat(1000);
    refused(&as_ada(&["config:set", "two", &format!("A={value}")]), "an app may have 1000 bytes of config vars");

    // What is used, and more.
    let shown = as_ada(&["quota"]).success().out;
    let row =
        |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row("apps")[1..3], ["2", "2"]);
    assert_eq!(row("instances")[1..3], ["3", "3"]);
    assert_eq!(row("memory")[1..5], ["2048", "MiB", "2100", "MiB"]);
    as_ada(&["quota", "bob"]).failure().prints("only an admin may see the limits of another user");
    as_ada(&["quota:set", "ada", "apps=100"]).failure().prints("only an admin may do this");
    world.ssh(&["quota:set", "ada", "apps=3", "ports=10", "memory=4g"]).success().prints("set for ada");
    as_ada(&["apps:create", "three"]).success();

    // Images and repositories.
    let has =
        |name: &str| as_ada(&["quota"]).success().out.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let images = has("images");
    let used: u64 = images.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(used > 0, "{images}");
    world.ssh(&["quota:set", "ada", &format!("images={used}")]).success();
    let noise: String = (0..300_000).map(|_| format!("{:08x}", rand::random::<u32>())).collect();
    world.commit(&folder, &[("Procfile", &version(3)), ("noise", &noise)]);
    world
        .push_as(&ada, &folder)
        .failure()
        .prints(&format!("ada may have {used} MiB of images, and this would make it"));
    assert_eq!(has("images").split_whitespace().nth(1), Some(&*used.to_string()), "nothing of it is kept");
    world.ssh(&["quota:set", "ada", "images=default", "repository=1"]).success();
    world.push_as(&ada, &folder).failure().prints("of at most 1.0 MiB (quota: repository, repositories)");
    world.ssh(&["quota:set", "ada", "repository=default", "repositories=1"]).success();
    world.push_as(&ada, &folder).failure().prints("of at most 1.0 MiB (quota: repository, repositories)");
    let two = world.repository("two", &[("Procfile", &version(1))]);
    world.ssh(&["quota:set", "ada", "repositories=2"]).success();
    world.push_as(&ada, &folder).success();
    world.commit(&two, &[("noise", &noise.replace('a', "b"))]);
    world.push_as(&ada, &two).failure().prints("take large files out, or ask an admin for more");
    world.ssh(&["quota:set", "bob", "repositories=0"]).success();
    as_ada(&["access:add", "one", "bob", "owner"]).success();
    let taken = world.ssh_as(&bob, &["access:transfer", "one", "bob"]);
    refused(&taken, "bob may have 0 MiB of repositories, and this would make it 2");
    as_ada(&["access:remove", "one", "bob"]).success();
    world.ssh(&["quota:set", "bob", "repositories=default"]).success();

    world.commit(&theirs, &[("Procfile", &version(2))]);
    world.push_as(&bob, &theirs).success();
    world.answers(&world.url("theirs"), "version-2");
    load.end_without_failure();
}

/// A port that was freed goes to no other owner for a while.
#[test]
fn a_freed_port_rests() {
    let world = World::new();
    let (ada, bob) = (user(&world, "ada"), user(&world, "bob"));
    world.ssh_as(&ada, &["apps:create", "one"]).success();
    let before = world.url("one");
    let port = before.trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    world.ssh_as(&ada, &["apps:destroy", "one", "--force"]).success();
    world.ssh_as(&bob, &["apps:create", "theirs"]).success();
    assert_ne!(world.url("theirs"), before);
    let taken = world.ssh_as(&bob, &["ports:set", "theirs", &format!("http:{port}:8080")]);
    taken.failure().prints(&format!("port {port} belonged to another owner until a short time ago"));
    world.ssh_as(&ada, &["apps:create", "one"]).success();
    assert_eq!(world.url("one"), before, "the owner gets it again");
}

/// A size applies to instances, tasks and builds; the report shows use beside limit.
#[test]
#[ignore = "slow"]
fn sizes_of_instances_tasks_and_builds() {
    let world = World::with("[sizes.small]\ncpu_millis = 500\nmemory_mib = 100\n");
    let eater = "import sys,time; x=bytearray(int(sys.argv[1])<<20); print('has it', flush=True); time.sleep(1000)";
    let procfile = format!("{}\neater: python3 -c \"{eater}\" 150\n", version(1));
    let project = |script: &str| {
        format!(
            "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"my/eater\"\n[io.buildpacks.group.script]\n\
             api = \"0.10\"\ninline = '{script}'\n"
        )
    };
    let folder = world.repository("sized", &[("Procfile", &procfile), ("project.toml", &project("true"))]);
    world.push(&folder).success();

    world.ssh(&["resource:limit", "sized", "--process-type", "web", "--cpu", "1.5", "--memory", "300m"]).success();
    let web = || world.ssh(&["ps:report", "sized", "--format", "json"]).success().json()[0].clone();
    assert_eq!(web()["limit"], serde_json::json!({ "cpu_millis": 1500, "memory_mib": 300 }));
    let used = eventually("use is measured", || {
        let used = web()["used"].clone();
        used["memory_mib"].as_u64().filter(|used| *used > 0)
    });
    assert!(used < 300, "{used}");
    let container = web()["id"].as_str().unwrap().to_owned();
    let inspect = |format: &str| {
        run(std::process::Command::new("docker").args(["inspect", "-f", format, &container])).success().out
    };
    let limits = inspect("{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.CgroupParent}}");
    let group = format!("/paas-{}-instances/owner-1", world.server_id());
    assert_eq!(limits.trim(), format!("{} 1500000000 {group}", 300 << 20));

    // Only what changes is restarted: eater has no instances, and web a size of its own.
    let general = world.ssh(&["resource:limit", "sized", "--memory", "200m", "--cpu", "2"]).success();
    general.prints("no instance that runs has another size now, so none is restarted");
    assert_eq!(web()["id"].as_str(), Some(container.as_str()));
    world.ssh(&["resource:limit-clear", "sized"]).success();
    world.ssh(&["resource:limit", "sized", "--process-type", "eater", "--size", "small"]).success();
    let report = world.ssh(&["resource:report", "sized", "--format", "json"]).success().json();
    let named = report[0]["sizes"].as_array().unwrap().iter().find(|row| row["size"] == "small").unwrap();
    assert_eq!(named["target"], "eater");
    world.ssh(&["resource:sizes"]).success().prints("small  0.5  100 MiB");
    world
        .ssh(&["ps:scale", "sized", "eater=1"])
        .failure()
        .prints("out of memory (limit 100 MiB)")
        .prints("resource:limit sized --process-type eater --memory 200m");
    world.ssh(&["resource:limit", "sized", "-p", "eater", "--memory", "400m", "--no-restart"]).success();
    world.ssh(&["ps:restart", "sized", "eater"]).success();

    let limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2> /dev/null; true";
    world.ssh(&["resource:limit", "sized", "--tasks", "--memory", "64m"]).success();
    let seen = world.ssh(&["run", "sized", "--", "sh", "-c", &format!("'{limit}'")]).success().out;
    assert!(seen.lines().any(|line| line.trim() == (64 << 20).to_string()), "{seen}");

    world.ssh(&["resource:limit", "sized", "--builds", "--memory", "100m"]).success();
    world.commit(&folder, &[("project.toml", &project(r#"python3 -c "x=bytearray(200<<20)""#))]);
    world.push(&folder).failure().prints("ran out of memory (100 MiB)");
    world.ssh(&["resource:limit-clear", "sized", "--builds"]).success();
    world.commit(&folder, &[("note", "again")]);
    world.push(&folder).success();

    let report = world.ssh(&["resource:report", "sized"]).success().out;
    let row = |name: &str| {
        let found = report.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
        found.unwrap_or_else(|| panic!("{report}")).split_whitespace().skip(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("web"), "- 1.5 300 MiB - - set");
    assert_eq!(row("eater"), "- 0.5 400 MiB - - set");
    assert_eq!(row("_tasks_"), "- 2 64 MiB - - set");
    assert_eq!(row("_builds_"), "- 2 2048 MiB - - default");

    for (words, reason) in [
        (&["resource:limit", "sized"][..], "no size is given"),
        (&["resource:limit", "sized", "--memory", "100t"], "memory is from 6 MiB to 16 TiB"),
        (
            &["resource:limit", "sized", "--memory", "10t"],
            "MiB of memory for instances, and 10485760 MiB are asked for",
        ),
        (&["resource:limit", "sized", "--cpu", "900"], "CPUs, and 900 are asked for"),
        (&["resource:limit", "sized", "--size", "huge"], "there is no size named"),
        (&["resource:limit", "sized", "-p", "clock", "--memory", "1g"], "no process type clock; it has: web, eater"),
        (&["resource:reserve", "sized", "--builds", "--memory", "1g"], "'--builds'"),
        (
            &["resource:reserve", "sized", "-p", "web", "--memory", "301m"],
            "each web instance may use 300 MiB of memory, and 301 MiB would be kept free for it",
        ),
        (
            &["resource:reserve", "sized", "--memory", "9t"],
            "MiB of memory for instances, and 9437184 MiB are asked for",
        ),
    ] {
        world.ssh(words).failure().prints(reason);
    }

    // What the app does not have can be cleared; what does not work is taken back.
    world.ssh(&["resource:limit-clear", "sized", "-p", "clock"]).success().prints("no change: no size is set");
    let too_little = world.ssh(&["resource:limit", "sized", "-p", "web", "--memory", "6m"]);
    too_little.failure().prints("the size is as it was before");
    let report = world.ssh(&["ps:report", "sized", "--format", "json"]).success().json();
    let web = report.as_array().unwrap().iter().find(|row| row["name"] == "web.1").unwrap();
    assert_eq!(web["limit"]["memory_mib"], 300);
}
