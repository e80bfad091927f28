//! The standby container: it runs the next build, of any app, and no build depends on it.

use std::{fs, path::PathBuf, process::Command};

use paas::model::Digest;

use crate::support::{
    apps::{version, write_buildpack},
    command::run,
    waiting::eventually,
    world::World,
};

/// Ids of the standby containers that have one of these statuses; without a status, of all.
fn standby_containers(world: &World, statuses: &[&str]) -> Vec<String> {
    let label = format!("label=paas.server={}", world.server_id());
    let mut list = Command::new("docker");
    list.args(["ps", "--all", "--no-trunc", "--format", "{{.Names}} {{.ID}}", "--filter", &label]);
    list.args(statuses.iter().flat_map(|status| ["--filter".to_owned(), format!("status={status}")]));
    let all = run(&mut list).success().out;
    let standby = all.lines().filter(|line| line.contains("-standby-")).filter_map(|line| line.split_once(' '));
    standby.map(|(_, id)| id.to_owned()).collect()
}

/// Waits for a standby container; returns its id.
fn standby_container(world: &World) -> String {
    eventually("a standby container runs", || standby_containers(world, &["running"]).pop())
}

/// Number of mounts for standby containers.
fn mounts(world: &World) -> usize {
    let all = fs::read_to_string("/proc/self/mounts").unwrap();
    let folder = world.data().join("mounts/standby-");
    all.lines().filter(|line| line.contains(folder.to_str().unwrap())).count()
}

/// An app whose build prints the container that it runs in, and the layers on its disk.
fn nosy(world: &World, app: &str) -> PathBuf {
    let script = "echo layers: $(ls /layers); echo built in $HOSTNAME";
    let project = format!(
        "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"my/nosy\"\n\
         [io.buildpacks.group.script]\napi = \"0.10\"\nshell = \"/bin/bash\"\ninline = '{script}'\n"
    );
    world.repository(app, &[("Procfile", &version(1)), ("project.toml", &project)])
}

/// The standby container is started before the app of the next build is known; it runs that build on the app's own disk. The
/// packet filters are checked before it is used.
#[test]
fn the_standby_container_runs_the_next_build_of_any_app() {
    let mut world = World::new();
    let one = nosy(&world, "one");
    world.push(&one).success();
    let first = standby_container(&world);
    assert_eq!(mounts(&world), 1);

    let two = nosy(&world, "two");
    let printed = world.push(&two).success();
    assert!(printed.err.contains(&format!("built in {}", &first[..12])), "{}", printed.err);
    world.answers(&world.url("two"), "version-1");
    let second = standby_container(&world);
    assert_ne!(first, second, "a container runs one build");

    let rules = || run(Command::new("iptables").args(["-w", "10", "-S", "INPUT"])).success().out;
    let interface = format!("-A INPUT -i pa-{}-+ ", &Digest::of(world.server_id().as_bytes()).hex()[..8]);
    let closed = |rules: &str| rules.lines().find(|rule| rule.contains(&interface)).map(str::to_owned);
    let rule = closed(&rules()).unwrap().replacen("-A", "-D", 1);
    run(Command::new("iptables").args(["-w", "10"]).args(rule.split(' '))).success();
    world.commit(&one, &[("Procfile", &version(2))]);
    let printed = world.push(&one).success();
    assert!(printed.err.contains(&format!("built in {}", &second[..12])), "{}", printed.err);
    assert!(closed(&rules()).is_some(), "a build ran on an open network");
    // The same disk as the first time.
    let layers = printed.err.lines().find(|line| line.contains("layers:")).unwrap();
    assert!(layers.contains("my_nosy"), "{layers}");
    world.answers(&world.url("one"), "version-2");

    standby_container(&world);
    world.stop_server();
    assert_eq!(
        (standby_containers(&world, &[]), mounts(&world)),
        (Vec::new(), 0),
        "a stopped server leaves no standby container"
    );
}

/// The next push succeeds after the standby container was removed, stopped or paused, or the server was killed.
#[test]
fn a_build_does_not_depend_on_the_standby_container() {
    let mut world = World::new();
    let folder = world.repository("sturdy", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    let docker = |words: &[&str]| run(Command::new("docker").args(words)).success();
    for (n, words) in [&["rm", "--force"][..], &["stop", "--time", "0"], &["pause"]].into_iter().enumerate() {
        docker(&[words, &[&standby_container(&world)]].concat());
        world.commit(&folder, &[("Procfile", &version(n as u32 + 2))]);
        world.push(&folder).success();
        world.answers(&world.url("sturdy"), &format!("version-{}", n + 2));
    }

    let before = standby_container(&world);
    world.kill_server();
    world.start_server();
    eventually("the standby container of the killed server is removed", || {
        standby_containers(&world, &[]).is_empty().then_some(())
    });
    assert_eq!(mounts(&world), 0);
    world.commit(&folder, &[("Procfile", &version(9))]);
    world.push(&folder).success();
    world.answers(&world.url("sturdy"), "version-9");
    assert_ne!(standby_container(&world), before);
}

/// A buildpack that is uninstalled and installed again is another folder at the same path; the standby container still has the
/// first one mounted.
#[test]
fn a_standby_container_with_a_removed_buildpack_is_not_used() {
    let world = World::new();
    let buildpack = world.dir().join("again");
    write_buildpack(&buildpack, "test/again", "again");
    let install = || world.paas(&["buildpacks:install", &buildpack.display().to_string()]).success();
    install();
    let app = world.repository("app", &[("note.txt", "x")]);
    world.paas(&["apps:create", "app"]).success();
    world.paas(&["buildpacks:add", "app", "test/again"]).success();
    world.push(&app).success().prints("-----> again builds");
    let before = standby_container(&world);
    world.paas(&["buildpacks:uninstall", "test/again"]).success();
    install();
    world.commit(&app, &[("note.txt", "y")]);
    world.push(&app).success().prints("-----> again builds");
    assert_ne!(standby_container(&world), before);
}

/// A server with `standby = false` starts no standby container. A second server, whose push ends later, has started its own
/// when this is checked.
#[test]
fn no_standby_container_is_started_if_disabled() {
    let (without, with) = (World::with("[build]\nstandby = false\n"), World::new());
    for world in [&without, &with] {
        let folder = world.repository("alone", &[("Procfile", &version(1))]);
        world.push(&folder).success();
    }
    standby_container(&with);
    assert_eq!((standby_containers(&without, &[]), mounts(&without)), (Vec::new(), 0));
}
