//! Server, router, client and instances are killed at the worst moments; the commit point decides the result.

use std::{fs, os::unix::process::CommandExt as _, path::Path, process::Stdio};

use crate::support::{apps::version, command::run, http::Load, relay::Relay, waiting::eventually, world::World};

/// Pushes in the background.
fn push(world: &World, folder: &Path) -> std::process::Child {
    let mut command = world.git_command(folder);
    command.args(["push", "paas", "main"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).spawn().unwrap()
}

fn head(world: &World, folder: &Path) -> String {
    world.git(folder, &["rev-parse", "HEAD"]).success().out.trim().to_owned()
}

fn remote_head(world: &World, folder: &Path) -> String {
    let out = world.git(folder, &["ls-remote", "paas", "refs/heads/main"]).success().out;
    out.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Kills the server at a named point of the second push; returns the app's folder.
fn killed_at(world: &mut World, app: &str, point: &str) -> std::path::PathBuf {
    let folder = world.repository(app, &[("Procfile", &version(1))]);
    world.push(&folder).success();
    world.commit(&folder, &[("Procfile", &version(2))]);
    world.pause(point);
    let mut pushing = push(world, &folder);
    world.wait_for_pause(point);
    world.kill_server();
    assert!(!pushing.wait().unwrap().success(), "the push fails when the server is killed");
    world.start_server();
    folder
}

/// All refs of an atomic push that was past its commit point are set when the server is started again, and none before.
#[test]
fn a_server_killed_in_an_atomic_push_sets_all_its_refs_or_none() {
    let mut world = World::new();
    let folder = world.repository("both", &[("Procfile", &version(1))]);
    world.git(&folder, &["push", "paas", "main", "main:old"]).success();
    let first = head(&world, &folder);
    for (n, point) in [(2, "before-commit"), (3, "before-ref")] {
        world.commit(&folder, &[("Procfile", &version(n))]);
        world.pause(point);
        let mut command = world.git_command(&folder);
        command.args(["push", "--atomic", "paas", "main", "main:new", ":old"]);
        let mut pushing = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        world.wait_for_pause(point);
        world.kill_server();
        assert!(!pushing.wait().unwrap().success());
        world.start_server();
        let refs = world.git(&folder, &["ls-remote", "paas"]).success().out;
        let (id, other) =
            if point == "before-commit" { (first.clone(), "old") } else { (head(&world, &folder), "new") };
        let mut expected =
            ["HEAD", "refs/heads/main", &format!("refs/heads/{other}")].map(|name| format!("{id}\t{name}"));
        expected.sort();
        let mut found: Vec<_> = refs.lines().collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{point}");
    }
}

/// Waits until the app has this number of containers, running or not, and checks that no build is left.
fn settled(world: &World, app: &str, instances: usize) {
    eventually("the declared number of instances is left", || {
        let names = world.containers("instance").into_iter().filter(|name| name.starts_with(&format!("{app}-")));
        (names.count() == instances).then_some(())
    });
    assert!(world.containers("build").is_empty(), "a build container is left");
}

/// A push that is interrupted before its commit point changes nothing.
#[test]
fn a_server_killed_before_the_commit_point_changes_nothing() {
    let mut world = World::new();
    let folder = killed_at(&mut world, "early", "before-commit");
    let url = world.url("early");
    world.answers(&url, "version-1");
    settled(&world, "early", 1);
    assert!(world.get(&url).unwrap().1.contains("version-1"), "the remaining instance is of the first release");
    let first = world.git(&folder, &["rev-parse", "HEAD~1"]).success().out;
    assert_eq!(remote_head(&world, &folder), first.trim(), "the ref did not move");
    world.push(&folder).success();
    assert!(world.get(&url).unwrap().1.contains("version-2"));
}

/// After the commit point, the push completes when the server is started again.
#[test]
fn a_server_killed_after_the_commit_point_completes_the_push() {
    let mut world = World::new();
    let folder = killed_at(&mut world, "late", "before-ref");
    let url = world.url("late");
    world.answers(&url, "version-2");
    settled(&world, "late", 1);
    assert_eq!(remote_head(&world, &folder), head(&world, &folder), "the server set the ref");
    world.push(&folder).success().prints("up-to-date");
}

/// While old and new instances run, the server is killed; only the new ones stay.
#[test]
fn a_server_killed_before_old_instances_are_stopped_stops_them_later() {
    let mut world = World::new();
    let folder = killed_at(&mut world, "swap", "after-commit");
    world.answers(&world.url("swap"), "version-2");
    settled(&world, "swap", 1);
    assert!(
        world.get(&world.url("swap")).unwrap().1.contains("version-2"),
        "the remaining instance is of the new release"
    );
    assert_eq!(remote_head(&world, &folder), head(&world, &folder));
}

/// When the client of a push is killed or interrupted, its build is removed, and the next push is not blocked.
#[test]
fn killing_the_client_of_a_push_removes_its_build() {
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
        eventually("the build container is removed", || world.containers("build").is_empty().then_some(()));
    }
    assert_eq!(remote_head(&world, &folder), "");
    world.commit(&folder, &[("package.json", &package)]);
    world.push(&folder).success();
    world.answers(&world.url("gone"), "Hello from Node.js");
}

/// The container of a build that Docker could not remove, since it did not respond, is removed when it responds again.
#[test]
#[ignore = "slow"]
fn what_docker_could_not_remove_is_removed_when_it_responds_again() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::new(dir.path());
    let world = World::with(&format!("[engine]\nsocket = \"{}\"\n", relay.socket.display()));
    let folder = world.sample("node", "left");
    let package = fs::read_to_string(folder.join("package.json")).unwrap();
    let slow = package.replace("\"start\"", "\"build\": \"sleep 300\", \"start\"");
    world.commit(&folder, &[("package.json", &slow)]);
    let mut pushing = push(&world, &folder);
    eventually("the build runs", || (!world.running_containers("build").is_empty()).then_some(()));
    relay.cut();
    assert!(!pushing.wait().unwrap().success());
    assert_eq!(world.containers("build").len(), 1, "nobody could remove it");
    relay.restore();
    eventually("the build container is removed", || world.containers("build").is_empty().then_some(()));
}

/// The router keeps serving while the server is stopped or killed.
#[test]
fn restarting_the_server_fails_no_request() {
    let mut world = World::new();
    let folder = world.repository("steady", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    world.ssh(&["ps:scale", "steady", "web=2"]).success();
    let load = Load::on(&world.url("steady"));
    world.stop_server();
    world.start_server();
    world.kill_server();
    world.start_server();
    world.commit(&folder, &[("Procfile", &version(2))]);
    world.push(&folder).success();
    load.end_without_failure();
    world.answers(&world.url("steady"), "version-2");
    settled(&world, "steady", 2);
}

/// A new router takes over without a failed request; after a kill, a new one gets its route table from the server.
#[test]
fn a_new_router_takes_over_from_the_old_one_or_starts_after_a_kill() {
    let mut world = World::new();
    let folder = world.repository("routed", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    let url = world.url("routed");
    let load = Load::on(&url);
    world.replace_router();
    for _ in 0..50 {
        assert_eq!(world.get(&url).unwrap().0, 200, "the new router serves");
    }
    load.end_without_failure();
    world.kill_router();
    assert!(world.get(&url).is_err());
    world.start_router();
    world.answers(&url, "version-1");
}

/// Lines of paas itself in an app's log.
fn events(log: &str) -> String {
    log.lines().filter(|line| line.contains(" paas[")).collect::<Vec<_>>().join("\n")
}

/// A crashed instance is replaced at once, while the others serve.
#[test]
fn a_crashed_instance_is_replaced() {
    let world = World::new();
    let folder = world.repository("crash", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    world.ssh(&["ps:scale", "crash", "web=3"]).success();
    let victim = world.containers("instance").remove(0);
    let load = Load::on(&world.url("crash"));
    run(std::process::Command::new("docker").args(["kill", &victim])).success();
    eventually("three healthy instances, without the killed one", || {
        let instances = world.instances("crash");
        let healthy = instances.iter().filter(|one| one["state"] == "healthy" && one["id"] != victim.as_str());
        (healthy.count() == 3 && instances.len() == 3).then_some(())
    });
    let (answered, failed) = load.end();
    assert!(failed.len() <= 2 && answered > 0, "only requests in flight may fail: {failed:?}");
    let log = world.ssh(&["logs", "crash", "-n", "100000"]).success().out;
    assert!(log.contains("paas[web.") && log.contains("Was killed (SIGKILL)"), "{}", events(&log));
}

/// A restarted server sets the ref of the newest release only where it is missing: a branch that was pushed to after the deploy
/// branch had changed, or that was replaced by one below its name, is not touched.
#[test]
fn restarting_the_server_moves_no_branch() {
    let mut world = World::new();
    let folder = world.repository("refs", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    world.ssh(&["git:set", "refs", "deploy-branch", "live"]).success();
    world.commit(&folder, &[("later.txt", "x")]);
    world.push(&folder).success().prints("stored, not deployed");
    world.stop_server();
    world.start_server();
    assert_eq!(remote_head(&world, &folder), head(&world, &folder), "the acknowledged push is kept");
    // A branch below the name of the one that the newest release was pushed to: git cannot store both.
    world.git(&folder, &["push", "paas", ":main"]).success();
    world.git(&folder, &["push", "paas", "main:main/x"]).success();
    world.kill_server();
    world.start_server();
    let refs = world.git(&folder, &["ls-remote", "paas", "refs/heads/*"]).success().out;
    assert_eq!(refs, format!("{}\trefs/heads/main/x\n", head(&world, &folder)));
    world.git(&folder, &["push", "paas", "main:live"]).success();
    world.answers(&world.url("refs"), "version-1");
}

/// Destroying an app while it is built cancels the build, and its name is free at once.
#[test]
fn destroying_an_app_cancels_its_build() {
    let world = World::new();
    let folder = world.sample("node", "doomed");
    let package = fs::read_to_string(folder.join("package.json")).unwrap();
    world.commit(&folder, &[("package.json", &package.replace("\"start\"", "\"build\": \"sleep 300\", \"start\""))]);
    let mut pushing = push(&world, &folder);
    eventually("the build runs", || (!world.containers("build").is_empty()).then_some(()));
    world.ssh(&["apps:destroy", "doomed", "--force"]).success();
    assert!(!pushing.wait().unwrap().success());
    assert!(world.containers("build").is_empty());
    world.commit(&folder, &[("package.json", &package)]);
    world.push(&folder).success();
    world.answers(&world.url("doomed"), "Hello from Node.js");
}
