//! Concurrent changes, which end in the declared state.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::support::{
    apps::version,
    command::{CommandOutput, run},
    http::Load,
    waiting::eventually,
    world::World,
};

/// A push in the background, whose output can be waited for.
struct Pushing {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
    printed: String,
}

impl Pushing {
    fn start(world: &World, folder: &Path) -> Self {
        let mut command = world.git_command(folder);
        command.args(["push", "paas", "main"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, printed: String::new() }
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        while !self.printed.contains(text) {
            let line = self.lines.next();
            let line = line.unwrap_or_else(|| panic!("it ended without {text:?}: {}", self.printed)).unwrap();
            self.printed.push_str(&(line + "\n"));
        }
    }

    fn end(mut self) -> CommandOutput {
        for line in self.lines {
            self.printed.push_str(&(line.unwrap() + "\n"));
        }
        let status = self.child.wait().unwrap();
        CommandOutput { ok: status.success(), code: status.code(), out: String::new(), err: self.printed }
    }
}

fn clone(world: &World, app: &str) -> std::path::PathBuf {
    let folder = world.dir().join(format!("{app}-clone"));
    world.git(world.dir(), &["clone", "-q", "-o", "paas", &world.remote(app), folder.to_str().unwrap()]).success();
    folder
}

/// The second of two pushes from one base waits, with a message, and is refused before it is built.
#[test]
fn the_second_of_two_pushes_from_one_base_is_refused() {
    let world = World::new();
    let mine = world.repository("race", &[("Procfile", &version(1))]);
    world.push(&mine).success();
    let theirs = clone(&world, "race");
    world.commit(&mine, &[("Procfile", &version(2))]);
    world.commit(&theirs, &[("Procfile", &version(3))]);
    world.git(&theirs, &["tag", "-a", "v3", "-m", "three"]).success();
    world.git(&theirs, &["config", "push.followTags", "true"]).success();

    world.pause("before-commit");
    let mut first = Pushing::start(&world, &mine);
    first.wait_for("Releasing v2");
    let mut second = Pushing::start(&world, &theirs);
    second.wait_for("Another push to this app is under way");
    world.go_on("before-commit");
    first.end().success();
    let second = second.end().failure().prints("stale push: main is now at ");
    let second = second.prints("stored without being deployed: v3");
    assert!(!second.err.contains("Detecting"), "the second push was built: {}", second.err);
    world.answers(&world.url("race"), "version-2");
    let builds = world.ssh(&["builds:list", "race", "--format", "json"]).success().json();
    assert_eq!(builds.as_array().unwrap().len(), 2, "{builds}");
}

/// When the first of two pushes fails, the second one, which waited for it, is deployed.
#[test]
fn a_push_that_waited_for_a_failed_one_is_deployed() {
    let world = World::new();
    let mine = world.repository("second", &[("Procfile", &version(1))]);
    world.push(&mine).success();
    let theirs = clone(&world, "second");
    let check = r#"{"healthchecks":{"web":[{"attempts":600,"wait":1}]}}"#;
    let until_touched = "web: until [ -e /tmp/exit ]; do sleep 0.1; done; exit 3";
    world.commit(&mine, &[("Procfile", until_touched), ("app.json", check)]);
    world.commit(&theirs, &[("Procfile", &version(3))]);
    let mut first = Pushing::start(&world, &mine);
    first.wait_for("Releasing v2");
    let mut second = Pushing::start(&world, &theirs);
    second.wait_for("Another push to this app is under way");
    let starting = eventually("the first push's instance runs", || {
        let starting = world.instances("second").into_iter().find(|one| one["state"] == "starting")?;
        world.running_containers("instance").into_iter().find(|name| starting["id"] == name.as_str())
    });
    run(Command::new("docker").args(["exec", &starting, "touch", "/tmp/exit"])).success();
    first.end().failure().prints("it exited with status 3");
    second.end().success();
    world.answers(&world.url("second"), "version-3");
}

/// Builds run in parallel up to the limit; a push beyond it shows its place in the queue.
#[test]
fn builds_beyond_the_limit_wait_in_a_queue() {
    let world = World::with("[build]\nconcurrency = 2\n");
    let slow = |app: &str| {
        let folder = world.sample("node", app);
        let package = fs::read_to_string(folder.join("package.json")).unwrap();
        let slow =
            package.replace("\"start\"", "\"build\": \"while [ ! -e /tmp/never ]; do sleep 0.1; done\", \"start\"");
        world.commit(&folder, &[("package.json", &slow)]);
        folder
    };
    let mut running: Vec<_> = ["qa", "qb"].map(slow).iter().map(|folder| Pushing::start(&world, folder)).collect();
    for push in &mut running {
        push.wait_for("Detecting");
    }
    eventually("two builds run", || (world.containers("build").len() == 2).then_some(()));
    let folder = world.repository("qc", &[("Procfile", &version(1))]);
    let mut third = Pushing::start(&world, &folder);
    third.wait_for("Waiting for 1 build to end");
    let folder = world.repository("qd", &[("Procfile", &version(1))]);
    let mut fourth = Pushing::start(&world, &folder);
    fourth.wait_for("Waiting for 2 builds to end");
    let mut first = running.remove(0);
    first.child.kill().unwrap();
    run(Command::new("docker").args(["kill"]).args(world.containers("build"))).success();
    third.end().success();
    fourth.end().success();
    for push in running {
        push.end().failure();
    }
}

/// A build is cancelled while it runs, and while its release is rolled out: the pusher sees by whom, and nothing changes.
#[test]
fn a_cancelled_build_changes_nothing() {
    let world = World::new();
    let folder = world.sample("node", "stop");
    let package = fs::read_to_string(folder.join("package.json")).unwrap();
    let slow = package.replace("\"start\"", "\"build\": \"while :; do sleep 0.1; done\", \"start\"");
    world.commit(&folder, &[("package.json", &slow)]);
    let mut push = Pushing::start(&world, &folder);
    push.wait_for("Detecting");
    eventually("the build runs", || (!world.containers("build").is_empty()).then_some(()));
    world.paas(&["builds:cancel", "stop"]).success().prints("The build of stop is cancelled");
    let by = "the build was cancelled by local (builds:cancel)";
    push.end().failure().prints(by).prints("Nothing is deployed yet");
    world.paas(&["builds:list", "stop"]).success().prints("failed").prints(by);
    let none = world.paas(&["builds:cancel", "stop"]).failure().prints("no build of stop is running");
    assert_eq!(none.code, Some(5), "a conflict");

    let folder = world.repository("halt", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    let check = r#"{"healthchecks":{"web":[{"attempts":600,"wait":1}]}}"#;
    world.commit(&folder, &[("Procfile", "web: sleep 1000"), ("app.json", check)]);
    let mut push = Pushing::start(&world, &folder);
    push.wait_for("Releasing v2");
    world.paas(&["builds:cancel", "halt"]).success();
    push.end().failure().prints(by).prints("the previous release is still live");
    world.answers(&world.url("halt"), "version-1");
    world.commit(&folder, &[("Procfile", &version(3)), ("app.json", "{}")]);
    world.push(&folder).success();
    world.answers(&world.url("halt"), "version-3");
}

/// Number of instances that are healthy by the server's report, and run by the engine's.
fn serving(world: &World, app: &str) -> usize {
    let running = world.running_containers("instance");
    world
        .instances(app)
        .iter()
        .filter(|one| one["state"] == "healthy" && running.iter().any(|name| one["id"] == name.as_str()))
        .count()
}

/// Scaling, deploys, changes of config vars and crashes in a random order under load end in the declared state, and only
/// requests in flight on a crashed instance fail.
#[test]
fn changes_and_crashes_in_any_order_end_in_the_declared_state() {
    let world = World::new();
    let folder = world.repository("storm", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    world.ssh(&["ps:scale", "storm", "web=2"]).success();
    let url = world.url("storm");
    let load = Load::on(&url);
    let given = std::env::var("IT_SEED").ok().map(|seed| seed.parse().expect("IT_SEED is a number"));
    let (mut seed, mut last, mut web, mut crashes) = (given.unwrap_or_else(rand::random::<u64>), 1, 2, 0);
    eprintln!("the order follows from the seed {seed}; IT_SEED={seed} repeats it");
    for round in 0..14 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match (seed >> 33) % 4 {
            0 => {
                web = 2 + (seed >> 40) % 3;
                world.ssh(&["ps:scale", "storm", &format!("web={web}")]).success();
            }
            1 => {
                last = 100 + round;
                world.commit(&folder, &[("Procfile", &version(last))]);
                world.push(&folder).success();
            }
            2 => drop(world.ssh(&["config:set", "storm", &format!("ROUND={round}")]).success()),
            _ => {
                // Requests would fail after the crash of the only healthy instance.
                eventually("another instance serves", || (serving(&world, "storm") > 1).then_some(()));
                let alive = world.running_containers("instance");
                let victim = &alive[(seed >> 45) as usize % alive.len()];
                // It may be an instance that is stopped at this moment.
                run(Command::new("docker").args(["kill", victim]));
                crashes += 1;
            }
        }
    }
    eventually("the declared number is healthy, and nothing else is left", || {
        let declared = serving(&world, "storm") as u64 == web && world.instances("storm").len() as u64 == web;
        declared.then_some(())
    });
    let (answered, failed) = load.end();
    assert!(answered > 100, "{answered}");
    // Two threads send requests, so a crash can fail two of them.
    assert!(failed.len() <= 2 * crashes, "{} failed with {crashes} crashes: {failed:?}", failed.len());
    world.answers(&url, &format!("version-{last}"));
    assert_eq!(world.containers("instance").len() as u64, web);
}
