//! Many things at once, ending in the declared state.

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

/// A push in the background, whose lines can be waited for.
struct Pushing {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
    said: String,
}

impl Pushing {
    fn start(world: &World, folder: &Path) -> Self {
        let mut command = world.git_command(folder);
        command.args(["push", "paas", "main"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, said: String::new() }
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        while !self.said.contains(text) {
            let line = self.lines.next();
            let line = line.unwrap_or_else(|| panic!("it never said {text:?} but {}", self.said)).unwrap();
            self.said.push_str(&(line + "\n"));
        }
    }

    fn end(mut self) -> CommandOutput {
        for line in self.lines {
            self.said.push_str(&(line.unwrap() + "\n"));
        }
        let status = self.child.wait().unwrap();
        CommandOutput { ok: status.success(), code: status.code(), out: String::new(), err: self.said }
    }
}

fn clone(world: &World, app: &str) -> std::path::PathBuf {
    let folder = world.dir().join(format!("{app}-clone"));
    world.git(world.dir(), &["clone", "-q", "-o", "paas", &world.remote(app), folder.to_str().unwrap()]).good();
    folder
}

/// The second of two pushes from one base waits, saying so, and is refused before it is built.
#[test]
fn two_pushes_from_one_base_do_not_both_go_live() {
    let world = World::new();
    let mine = world.repository("race", &[("Procfile", &version(1))]);
    world.push(&mine).good();
    let theirs = clone(&world, "race");
    world.commit(&mine, &[("Procfile", &version(2))]);
    world.commit(&theirs, &[("Procfile", &version(3))]);

    world.pause("before-commit");
    let mut first = Pushing::start(&world, &mine);
    first.wait_for("Releasing v2");
    let mut second = Pushing::start(&world, &theirs);
    second.wait_for("Another push to this app is under way");
    world.go_on("before-commit");
    first.end().good();
    let second = second.end().bad().says("stale push: main is now at ");
    assert!(!second.err.contains("Detecting"), "nothing was built for it: {}", second.err);
    world.answers(&world.url("race"), "version-2");
    let builds: serde_json::Value =
        serde_json::from_str(&world.ssh(&["builds:list", "race", "--format", "json"]).good().out).unwrap();
    assert_eq!(builds.as_array().unwrap().len(), 2, "{builds}");
}

/// When the first fails, the one that waited still follows the ref, and deploys.
#[test]
fn a_push_that_waited_for_one_that_failed_deploys() {
    let world = World::new();
    let mine = world.repository("second", &[("Procfile", &version(1))]);
    world.push(&mine).good();
    let theirs = clone(&world, "second");
    let check = r#"{"healthchecks":{"web":[{"attempts":4,"wait":1}]}}"#;
    world.commit(&mine, &[("Procfile", "web: sleep 1000"), ("app.json", check)]);
    world.commit(&theirs, &[("Procfile", &version(3))]);
    let mut first = Pushing::start(&world, &mine);
    first.wait_for("Releasing v2");
    let second = Pushing::start(&world, &theirs);
    first.end().bad();
    second.end().good().says("Another push to this app is under way");
    world.answers(&world.url("second"), "version-3");
}

/// Apps build side by side up to the limit; who has to wait is told the place in the queue.
#[test]
fn builds_queue_beyond_the_limit() {
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
    eventually("two build at once", || (world.containers("build").len() == 2).then_some(()));
    let folder = world.repository("qc", &[("Procfile", &version(1))]);
    let mut third = Pushing::start(&world, &folder);
    third.wait_for("Waiting for 1 build to end");
    let folder = world.repository("qd", &[("Procfile", &version(1))]);
    let mut fourth = Pushing::start(&world, &folder);
    fourth.wait_for("Waiting for 2 builds to end");
    let mut first = running.remove(0);
    first.child.kill().unwrap();
    run(Command::new("docker").args(["kill"]).args(world.containers("build"))).good();
    third.end().good();
    fourth.end().good();
    for push in running {
        push.end().bad();
    }
}

/// How many instances are healthy by the server's word, and run by the engine's.
fn serving(world: &World, app: &str) -> usize {
    let report = world.ssh(&["ps:report", app, "--format", "json"]).good().out;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let running = world.running_containers("instance");
    let instances = report.as_array().unwrap().iter();
    instances.filter(|one| one["state"] == "healthy" && running.iter().any(|name| one["id"] == name.as_str())).count()
}

/// Scale, deploy, change of configuration and crashes in a random order under load: the declared state is reached, and
/// no request fails but those that an instance took down with it.
#[test]
fn anything_in_any_order_ends_in_the_declared_state() {
    let world = World::new();
    let folder = world.repository("storm", &[("Procfile", &version(1))]);
    world.push(&folder).good();
    world.ssh(&["ps:scale", "storm", "web=2"]).good();
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
                world.ssh(&["ps:scale", "storm", &format!("web={web}")]).good();
            }
            1 => {
                last = 100 + round;
                world.commit(&folder, &[("Procfile", &version(last))]);
                world.push(&folder).good();
            }
            2 => drop(world.ssh(&["config:set", "storm", &format!("ROUND={round}")]).good()),
            _ => {
                // Where the last one that serves is taken down, nobody is left to answer.
                eventually("another one serves", || (serving(&world, "storm") > 1).then_some(()));
                let alive = world.running_containers("instance");
                let victim = &alive[(seed >> 45) as usize % alive.len()];
                // It may be one that is going anyway.
                run(Command::new("docker").args(["kill", victim]));
                crashes += 1;
            }
        }
    }
    eventually("the declared number is healthy, and nothing else is left", || {
        let report = world.ssh(&["ps:report", "storm"]).good().out;
        let whole = report.matches("healthy").count() as u64 == web && report.matches("web.").count() as u64 == web;
        whole.then_some(())
    });
    let (answered, failed) = load.end();
    assert!(answered > 100, "{answered}");
    // Two threads ask, so a crash can take two requests with it.
    assert!(failed.len() <= 2 * crashes, "{} failed with {crashes} crashes: {failed:?}", failed.len());
    world.answers(&url, &format!("version-{last}"));
    assert_eq!(world.containers("instance").len() as u64, web);
}
