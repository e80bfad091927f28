//! Every process dies at the worst moment; the commit point decides what is true afterwards.

use std::{fs, os::unix::process::CommandExt as _, path::Path, process::Stdio};

use crate::support::{apps::version, command::run, http::Load, waiting::eventually, world::World};

/// Pushes in the background.
fn push(world: &World, folder: &Path) -> std::process::Child {
    let mut command = world.git_command(folder);
    command.args(["push", "paas", "main"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).spawn().unwrap()
}

fn head(world: &World, folder: &Path) -> String {
    world.git(folder, &["rev-parse", "HEAD"]).good().out.trim().to_owned()
}

fn remote_head(world: &World, folder: &Path) -> String {
    let out = world.git(folder, &["ls-remote", "paas", "refs/heads/main"]).good().out;
    out.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Kills the server at a named point of the second push; returns the app's folder.
fn killed_at(world: &mut World, app: &str, point: &str) -> std::path::PathBuf {
    let folder = world.repository(app, &[("Procfile", &version(1))]);
    world.push(&folder).good();
    world.commit(&folder, &[("Procfile", &version(2))]);
    world.pause(point);
    let mut pushing = push(world, &folder);
    world.wait_for_pause(point);
    world.kill_server();
    assert!(!pushing.wait().unwrap().success(), "the client saw its server die");
    world.start_server();
    folder
}

fn settled(world: &World, app: &str, instances: usize) {
    eventually("no instance too many is left", || {
        let names = world.containers("instance").into_iter().filter(|name| name.starts_with(&format!("{app}-")));
        (names.count() == instances).then_some(())
    });
    assert!(world.containers("build").is_empty(), "a build is left");
}

/// Before the commit point nothing has changed.
#[test]
fn a_server_that_dies_before_the_commit_changed_nothing() {
    let mut world = World::new();
    let folder = killed_at(&mut world, "early", "before-commit");
    let url = world.url("early");
    world.answers(&url, "version-1");
    settled(&world, "early", 1);
    assert_ne!(remote_head(&world, &folder), head(&world, &folder), "the ref did not move");
    world.push(&folder).good();
    assert!(world.get(&url).unwrap().1.contains("version-2"));
}

/// After it, everything completes by itself.
#[test]
fn a_server_that_dies_after_the_commit_completes_the_push() {
    let mut world = World::new();
    let folder = killed_at(&mut world, "late", "before-ref");
    let url = world.url("late");
    world.answers(&url, "version-2");
    settled(&world, "late", 1);
    assert_eq!(remote_head(&world, &folder), head(&world, &folder), "the server set the ref");
    world.push(&folder).good().says("up-to-date");
}

/// In the middle of a swap, both old and new instances run; only the new ones stay.
#[test]
fn a_server_that_dies_in_the_middle_of_a_swap_finishes_it() {
    let mut world = World::new();
    let folder = killed_at(&mut world, "swap", "after-commit");
    world.answers(&world.url("swap"), "version-2");
    settled(&world, "swap", 1);
    assert_eq!(remote_head(&world, &folder), head(&world, &folder));
}

/// A client that goes away takes its build with it, and leaves no lock behind.
#[test]
fn a_client_that_dies_leaves_nothing() {
    let world = World::new();
    let folder = world.sample("node", "gone");
    let package = fs::read_to_string(folder.join("package.json")).unwrap();
    let slow = package.replace("\"start\"", "\"build\": \"sleep 300\", \"start\"");
    world.commit(&folder, &[("package.json", &slow)]);
    for round in ["killed", "interrupted"] {
        let mut pushing = push(&world, &folder);
        eventually("the build runs", || (!world.containers("build").is_empty()).then_some(()));
        let pid = rustix::process::Pid::from_child(&pushing);
        let signal = if round == "killed" { rustix::process::Signal::KILL } else { rustix::process::Signal::INT };
        rustix::process::kill_process_group(pid, signal).unwrap();
        pushing.wait().unwrap();
        eventually("the build is gone", || world.containers("build").is_empty().then_some(()));
    }
    assert_eq!(remote_head(&world, &folder), "");
    world.commit(&folder, &[("package.json", &package)]);
    world.push(&folder).good();
    world.answers(&world.url("gone"), "Hello from Node.js");
}

/// The router goes on while the server is away, however it went.
#[test]
fn a_restart_of_the_server_fails_no_request() {
    let mut world = World::new();
    let folder = world.repository("steady", &[("Procfile", &version(1))]);
    world.push(&folder).good();
    world.ssh(&["ps:scale", "steady", "web=2"]).good();
    let load = Load::on(&world.url("steady"));
    world.stop_server();
    world.start_server();
    world.kill_server();
    world.start_server();
    world.commit(&folder, &[("Procfile", &version(2))]);
    world.push(&folder).good();
    load.end_without_failure();
    world.answers(&world.url("steady"), "version-2");
    settled(&world, "steady", 2);
}

/// A new router takes over without a failed request; one that was killed comes back with what the server declares.
#[test]
fn a_router_is_replaced_and_a_dead_one_comes_back() {
    let mut world = World::new();
    let folder = world.repository("routed", &[("Procfile", &version(1))]);
    world.push(&folder).good();
    let url = world.url("routed");
    let load = Load::on(&url);
    world.replace_router();
    load.end_without_failure();
    world.kill_router();
    assert!(world.get(&url).is_err());
    world.start_router();
    world.answers(&url, "version-1");
}

/// What paas itself wrote into an app's log.
fn events(log: &str) -> String {
    log.lines().filter(|line| line.contains(" paas[")).collect::<Vec<_>>().join("\n")
}

/// A crashed instance is replaced at once; the others go on.
#[test]
fn a_crashed_instance_is_replaced() {
    let world = World::new();
    let folder = world.repository("crash", &[("Procfile", &version(1))]);
    world.push(&folder).good();
    world.ssh(&["ps:scale", "crash", "web=3"]).good();
    let victim = world.containers("instance").remove(0);
    let load = Load::on(&world.url("crash"));
    run(std::process::Command::new("docker").args(["kill", &victim])).good();
    eventually("three healthy instances, without the dead one", || {
        let report = world.ssh(&["ps:report", "crash"]).good().out;
        (report.matches("healthy").count() == 3 && !report.contains(&victim)).then_some(())
    });
    let (answered, failed) = load.end();
    assert!(failed.len() <= 2 && answered > 0, "only what was in flight may fail: {failed:?}");
    let log = world.ssh(&["logs", "crash", "-n", "100000"]).good().out;
    assert!(log.contains("paas[web.") && log.contains("Was killed (SIGKILL)"), "{}", events(&log));
}

/// A restart sets no branch back that was pushed after the deploy branch had changed, however odd the branches are.
#[test]
fn a_restart_leaves_branches_alone() {
    let mut world = World::new();
    let folder = world.repository("refs", &[("Procfile", &version(1))]);
    world.push(&folder).good();
    world.ssh(&["git:set", "refs", "deploy-branch", "live"]).good();
    world.commit(&folder, &[("later.txt", "x")]);
    world.push(&folder).good().says("stored, not deployed");
    world.stop_server();
    world.start_server();
    assert_eq!(remote_head(&world, &folder), head(&world, &folder), "what was acknowledged is still there");
    // A name below the one that the newest release was pushed to: no ref of both can exist.
    world.git(&folder, &["push", "paas", ":main"]).good();
    world.git(&folder, &["push", "paas", "main:main/x"]).good();
    world.kill_server();
    world.start_server();
    world.git(&folder, &["push", "paas", "main:live"]).good();
    world.answers(&world.url("refs"), "version-1");
}

/// An app that is destroyed while it is built takes its build with it, and its name is free at once.
#[test]
fn an_app_is_destroyed_in_the_middle_of_a_build() {
    let world = World::new();
    let folder = world.sample("node", "doomed");
    let package = fs::read_to_string(folder.join("package.json")).unwrap();
    world.commit(&folder, &[("package.json", &package.replace("\"start\"", "\"build\": \"sleep 300\", \"start\""))]);
    let mut pushing = push(&world, &folder);
    eventually("the build runs", || (!world.containers("build").is_empty()).then_some(()));
    world.ssh(&["apps:destroy", "doomed", "--force"]).good();
    assert!(!pushing.wait().unwrap().success());
    assert!(world.containers("build").is_empty());
    world.commit(&folder, &[("package.json", &package)]);
    world.push(&folder).good();
    world.answers(&world.url("doomed"), "Hello from Node.js");
}
