//! The build container that waits: it does the next build, of whichever app, and a build never depends on it.

use std::{fs, path::PathBuf, process::Command};

use paas::model::Digest;

use crate::support::{
    apps::{version, write_buildpack},
    command::run,
    waiting::eventually,
    world::World,
};

/// The ids of the containers that wait, those that are about to (`created`) or no longer do included.
fn waiting(world: &World, statuses: &[&str]) -> Vec<String> {
    let label = format!("label=paas.server={}", world.server_id());
    let mut list = Command::new("docker");
    list.args(["ps", "--all", "--no-trunc", "--format", "{{.Names}} {{.ID}}", "--filter", &label]);
    list.args(statuses.iter().flat_map(|status| ["--filter".to_owned(), format!("status={status}")]));
    let all = run(&mut list).good().out;
    let waiting = all.lines().filter(|line| line.contains("-standby-")).filter_map(|line| line.split_once(' '));
    waiting.map(|(_, id)| id.to_owned()).collect()
}

/// The id of the one that waits.
fn one_waits(world: &World) -> String {
    eventually("a build container waits", || waiting(world, &["running"]).pop())
}

/// What is mounted for one that waits.
fn mounts(world: &World) -> usize {
    let all = fs::read_to_string("/proc/self/mounts").unwrap();
    let folder = world.data().join("mounts/standby-");
    all.lines().filter(|line| line.contains(folder.to_str().unwrap())).count()
}

/// An app whose build says in which container it is, and what its disk has.
fn nosy(world: &World, app: &str) -> PathBuf {
    let script = "echo layers: $(ls /layers); echo built in $HOSTNAME";
    let project = format!(
        "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"my/nosy\"\n\
         [io.buildpacks.group.script]\napi = \"0.10\"\nshell = \"/bin/bash\"\ninline = '{script}'\n"
    );
    world.repository(app, &[("Procfile", &version(1)), ("project.toml", &project)])
}

/// One that was started before it was known whose build comes does the next one, on that app's disk. What closes the network
/// to builds is looked at all the same.
#[test]
fn the_next_build_of_any_app_is_done_by_the_container_that_waits() {
    let mut world = World::new();
    let one = nosy(&world, "one");
    world.push(&one).good();
    let first = one_waits(&world);
    assert_eq!(mounts(&world), 1);

    let two = nosy(&world, "two");
    let said = world.push(&two).good();
    assert!(said.err.contains(&format!("built in {}", &first[..12])), "{}", said.err);
    world.answers(&world.url("two"), "version-1");
    let second = one_waits(&world);
    assert_ne!(first, second, "each does one build");

    let rules = || run(Command::new("iptables").args(["-w", "10", "-S", "INPUT"])).good().out;
    let interface = format!("-i pa-{}-b ", &Digest::of(world.server_id().as_bytes()).hex()[..8]);
    let closed = |rules: &str| rules.lines().find(|rule| rule.contains(&interface)).map(str::to_owned);
    let rule = closed(&rules()).unwrap().replacen("-A", "-D", 1);
    run(Command::new("iptables").args(["-w", "10"]).args(rule.split(' '))).good();
    world.commit(&one, &[("Procfile", &version(2))]);
    let said = world.push(&one).good();
    assert!(said.err.contains(&format!("built in {}", &second[..12])), "{}", said.err);
    assert!(closed(&rules()).is_some(), "a build ran on an open network");
    // The same disk as the first time.
    let layers = said.err.lines().find(|line| line.contains("layers:")).unwrap();
    assert!(layers.contains("my_nosy"), "{layers}");
    world.answers(&world.url("one"), "version-2");

    one_waits(&world);
    world.stop_server();
    assert_eq!((waiting(&world, &[]), mounts(&world)), (Vec::new(), 0), "left by a server that has ended");
}

/// Whoever removes, stops or pauses it, or kills the server, the next push is as good.
#[test]
fn a_build_does_not_depend_on_the_container_that_waits() {
    let mut world = World::new();
    let folder = world.repository("sturdy", &[("Procfile", &version(1))]);
    world.push(&folder).good();
    let docker = |words: &[&str]| run(Command::new("docker").args(words)).good();
    for (n, words) in [&["rm", "--force"][..], &["stop", "--time", "0"], &["pause"]].into_iter().enumerate() {
        docker(&[words, &[&one_waits(&world)]].concat());
        world.commit(&folder, &[("Procfile", &version(n as u32 + 2))]);
        world.push(&folder).good();
        world.answers(&world.url("sturdy"), &format!("version-{}", n + 2));
    }

    let before = one_waits(&world);
    world.kill_server();
    world.start_server();
    eventually("the one that waited for a dead server is gone", || waiting(&world, &[]).is_empty().then_some(()));
    assert_eq!(mounts(&world), 0);
    world.commit(&folder, &[("Procfile", &version(9))]);
    world.push(&folder).good();
    world.answers(&world.url("sturdy"), "version-9");
    assert_ne!(one_waits(&world), before);
}

/// A buildpack that was taken away and put back is another folder at the same place: the one that waits has the first one.
#[test]
fn a_container_that_waits_with_what_is_gone_is_not_used() {
    let world = World::new();
    let buildpack = world.dir().join("again");
    write_buildpack(&buildpack, "test/again", "again");
    let install = || world.paas(&["buildpacks:install", &buildpack.display().to_string()]).good();
    install();
    let app = world.repository("app", &[("note.txt", "x")]);
    world.paas(&["apps:create", "app"]).good();
    world.paas(&["buildpacks:add", "app", "test/again"]).good();
    world.push(&app).good().says("-----> again builds");
    let before = one_waits(&world);
    world.paas(&["buildpacks:uninstall", "test/again"]).good();
    install();
    world.commit(&app, &[("note.txt", "y")]);
    world.push(&app).good().says("-----> again builds");
    assert_ne!(one_waits(&world), before);
}

/// A server with `standby = false` starts no standby container: one with it, whose push ended later, has its own by then.
#[test]
fn no_standby_container_is_started_where_it_is_disabled() {
    let (without, with) = (World::with("[build]\nstandby = false\n"), World::new());
    for world in [&without, &with] {
        let folder = world.repository("alone", &[("Procfile", &version(1))]);
        world.push(&folder).good();
    }
    one_waits(&with);
    assert_eq!((waiting(&without, &[]), mounts(&without)), (Vec::new(), 0));
}
