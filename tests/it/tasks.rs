//! Tasks: commands in the image of an app, the release phase.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Command, Stdio},
};

use crate::support::{command::run, terminal::Person, waiting::eventually, world::World};

/// A web process that responds with its release, a process type to run by name, and a config var.
const PROCFILE: &str = "web: mkdir -p /tmp/s && echo \"release:$PAAS_RELEASE:\" > /tmp/s/index.html && \
     exec python3 -m http.server --directory /tmp/s $PORT\nconsole: echo \"console of $SAYS\" \"$@\"";

fn deployed(world: &World, app: &str) -> std::path::PathBuf {
    let folder = world.repository(app, &[("Procfile", PROCFILE)]);
    world.paas(&["apps:create", app]).success();
    world.paas(&["config:set", app, "SAYS=hello there"]).success();
    world.push(&folder).success();
    folder
}

fn tasks(world: &World, app: &str) -> Vec<serde_json::Value> {
    world.paas(&["run:list", app, "--format", "json"]).success().json().as_array().unwrap().clone()
}

fn outcomes(world: &World, app: &str) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    tasks(world, app).iter().map(|task| (text(&task["task"]), text(&task["status"]))).collect()
}

/// A command gets the release's image, config vars and the caller's streams; its exit status is passed on, and a task is
/// no instance.
#[test]
fn a_command_runs_in_the_image_of_the_current_release() {
    let world = World::new();
    world.paas(&["apps:create", "early"]).success();
    let refused = world.ssh(&["run", "early", "true"]);
    assert_eq!(refused.code, Some(125));
    refused.prints("early has no release yet; deploy one with git push");
    deployed(&world, "runs");

    let out = |words: &[&str]| world.ssh(&[&["run", "runs"], words].concat()).success().out;
    assert_eq!(
        out(&["'echo \"$SAYS\" in $PWD as $(id -u) of $PAAS_PROCESS'"]),
        "hello there in /workspace as 1000 of run.1\n"
    );
    assert_eq!(out(&["console"]), "console of hello there\n");
    assert_eq!(out(&["console", "a", "'b  c'"]), "console of hello there a b  c\n");
    assert_eq!(out(&["--", "printf", "'%s|'", "'a b'", "'$SAYS'", "'*'"]), "a b|$SAYS|*|");
    assert_eq!(world.paas(&["run", "runs", "printf", "%s|", "a b", "'"]).success().out, "a b|'|");
    // As a user types it: the shell of the client removes the quotes.
    assert_eq!(world.ssh(&["run", "runs", "sh", "-c", "exit 7"]).code, Some(7));
    assert_eq!(world.paas(&["run", "runs", "sh", "-c", "kill -9 $$"]).code, Some(137));
    assert_eq!(world.ssh(&["run", "runs", "nonsense"]).code, Some(127));
    assert_eq!(world.ssh(&["run", "runs", "--", "-V"]).code, Some(127), "no option of the shell");
    let json = world.ssh(&["run", "--format", "json", "runs", "printf", "x"]).success().out;
    let result = json.strip_prefix("x\n").unwrap_or_else(|| panic!("{json}"));
    assert_eq!(serde_json::from_str::<serde_json::Value>(result).unwrap()["status"], 0);
    assert_eq!(world.ssh(&["run", "missing", "true"]).code, Some(125));
    let both = world.ssh(&["run", "runs", "'echo out; echo err >&2; exit 3'"]);
    assert_eq!((both.code, both.out.as_str(), both.err.as_str()), (Some(3), "out\n", "err\n"));
    assert_eq!(world.paas_with(&["run", "runs", "wc", "-c"], &"x".repeat(100_000)).success().out, "100000\n");

    assert_eq!(world.instances("runs").len(), 1, "a task is no instance");
    assert!(world.containers("task").is_empty(), "the containers of ended tasks are removed");
    let listed = tasks(&world, "runs");
    assert_eq!((listed[0]["state"].as_str(), listed[0]["status"].as_i64()), (Some("ended"), Some(0)));
    assert!(listed.iter().any(|task| task["status"] == 7 && task["command"] == "sh -c exit 7"), "{listed:?}");
    world.ssh(&["ps:scale", "runs", "release=1"]).failure().prints("release is run once for each release");
}

/// A command in the background goes on without its caller; its output is kept, and it can be stopped.
#[test]
fn a_detached_command_keeps_its_output_and_can_be_stopped() {
    let world = World::new();
    deployed(&world, "bg");
    world.ssh(&["run:detached", "bg", "'echo one; echo two >&2; exit 4'"]).success().prints("run.1 runs echo one");
    eventually("the task has ended", || (outcomes(&world, "bg") == [("run.1".into(), "4".into())]).then_some(()));
    let mut lines: Vec<_> = world.ssh(&["run:logs", "bg", "run.1"]).success().out.lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
    world.ssh(&["run:detached", "bg", "'echo begun; exec sleep 1000'"]).success();
    let mut follow = world.ssh_command(&["run:logs", "bg", "-t"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut followed = BufReader::new(follow.stdout.take().unwrap());
    followed.read_line(&mut first).unwrap();
    assert_eq!(first, "begun\n");
    world.ssh(&["run:stop", "bg", "run.2"]).success().prints("stopped by");
    assert!(follow.wait().unwrap().success(), "the follower ends with the task");
    world.ssh(&["run:stop", "bg", "run.2"]).failure().prints("run.2 has ended already");
    world.ssh(&["run:stop", "bg", "run.9"]).failure().prints("no task run.9");
    world.ssh(&["run:stop", "bg", "nine"]).failure().prints("KIND.NUMBER");
    world.ssh(&["run:detached", "--timeout", "1", "bg", "sleep", "1000"]).success();
    eventually("the task is stopped at its limit", || {
        let last = tasks(&world, "bg").swap_remove(0);
        last["message"].as_str().is_some_and(|text| text.contains("longer than its limit of 1 s")).then_some(())
    });
    world.ssh(&["run:detached", "bg", "sleep", "1000"]).success();
    world.ssh(&["apps:destroy", "bg", "--force"]).success();
    assert!(world.containers("task").is_empty());
}

/// A client that goes away ends its command; a server that dies leaves no task that nobody knows.
#[test]
fn a_lost_caller_or_server_leaves_no_unknown_task() {
    let mut world = World::new();
    deployed(&world, "lost");
    let mut client = world.ssh_command(&["run", "lost", "sleep", "1000"]).stdin(Stdio::piped()).spawn().unwrap();
    eventually("the task runs", || (world.running_containers("task").len() == 1).then_some(()));
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("the task ended", || world.containers("task").is_empty().then_some(()));
    assert_eq!(tasks(&world, "lost")[0]["message"], "the caller disconnected");

    let (key, public) = world.keygen("bob");
    world.paas_with(&["ssh-keys:add", "bob"], &public).success();
    world.paas(&["access:add", "lost", "bob", "operator"]).success();
    let mut bobs = world.ssh_command_as(&key, &["run", "lost", "sleep", "1000"]).stdin(Stdio::piped()).spawn().unwrap();
    eventually("bob's task runs", || (world.running_containers("task").len() == 1).then_some(()));
    world.paas(&["access:remove", "lost", "bob"]).success();
    assert_eq!(bobs.wait().unwrap().code(), Some(125), "who loses the role is disconnected");
    assert!(world.containers("task").is_empty());

    let mut attached = world.ssh_command(&["run", "lost", "sleep", "1000"]).stdin(Stdio::piped()).spawn().unwrap();
    eventually("the attached task runs", || (world.running_containers("task").len() == 1).then_some(()));
    world
        .ssh(&["run:detached", "lost", "'echo before; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo after; exit 5'"])
        .success();
    eventually("both tasks run", || (world.running_containers("task").len() == 2).then_some(()));
    world.kill_server();
    attached.wait().unwrap();
    world.start_server();
    eventually("the attached task is gone", || (world.containers("task").len() == 1).then_some(()));
    let interrupted = tasks(&world, "lost").into_iter().find(|task| task["task"] == "run.3").unwrap();
    assert_eq!(interrupted["message"], "interrupted: the server stopped");
    let container = world.running_containers("task").remove(0);
    run(Command::new("docker").args(["exec", &container, "touch", "/tmp/go"])).success();
    eventually("the detached task ends", || (tasks(&world, "lost")[0]["status"] == 5).then_some(()));
    assert_eq!(world.ssh(&["run:logs", "lost", "run.4"]).success().out, "before\nafter\n");
}

/// A terminal has its size and name, passes on every key, and is left as it was; `enter` is in the instance itself.
#[test]
fn a_console_has_a_real_terminal() {
    let world = World::new();
    deployed(&world, "tty");
    let console = ["run", "tty", "bash", "--norc", "-i"];
    // Options of ssh come before the host.
    let mut over_ssh = Command::new("ssh");
    over_ssh.arg("-tt").args(world.ssh_command(&console).get_args());
    let local = world.paas_command(&console);
    // The input of a terminal ends: the output goes on, and a shell ends.
    let mut ended = Command::new("ssh");
    ended
        .arg("-tt")
        .args(world.ssh_command(&["run", "tty", "'stty size; cat; sleep 1; echo later; exit 6'"]).get_args());
    let ended = run(ended.stdin(Stdio::null()));
    assert_eq!((ended.code, ended.out.as_str()), (Some(6), "0 0\r\nlater\r\n"), "{ended:?}");
    for command in [over_ssh, local] {
        let mut person = Person::at_terminal(&command);
        let tty = person.sees("\n").trim().to_owned();
        person.sees("$ ");
        person.types("until [ \"$(stty size)\" = '33 101' ]; do sleep 0.1; done; echo $TERM-$SAYS\r");
        person.sees("xterm-256color-hello there\r\n");
        run(Command::new("stty").args(["-F", &tty, "rows", "40", "cols", "90"])).success();
        person.types("until [ \"$(stty size)\" = '40 90' ]; do sleep 0.1; done; echo resi\"zed\"\r");
        person.sees("resized\r\n");
        person.types("sh -c 'echo asl\"eep\"; exec sleep 1000'\r");
        person.sees("asleep\r\n");
        person.types("\u{3}");
        person.sees("^C");
        person.sees("$ ");
        person.types("echo rea\"dy\"; cat; echo end\"ed\"\r");
        person.sees("ready\r\n");
        person.types("typed\r\u{4}");
        person.sees("typed\r\ntyped\r\n");
        person.sees("ended\r\n");
        person.sees("$ ");
        person.types("exit 9\r");
        assert_eq!(person.leaves(), 9);
    }
    let inside = world.ssh(&["enter", "tty", "web.1", "'cat /tmp/s/index.html; exit 6'"]);
    assert_eq!((inside.code, inside.out.as_str()), (Some(6), "release:v1:\n"));
    assert_eq!(world.ssh(&["enter", "tty", "web", "echo", "'$SAYS'"]).success().out, "$SAYS\n");
    world.ssh(&["enter", "tty", "web.7"]).prints("no such instance web.7; running: web.1");
    // What it has started, and what ignores signals, is ended, too.
    let stubborn = "'trap \"\" HUP TERM; sleep 777; true'";
    let mut client = world.ssh_command(&["enter", "tty", "web.1", stubborn]).stdin(Stdio::piped()).spawn().unwrap();
    let sleeps = || {
        world
            .ssh(&["enter", "tty", "web.1", "'grep -al slee[p].777 /proc/[0-9]*/cmdline | wc -l'"])
            .out
            .trim()
            .to_owned()
    };
    eventually("the command runs", || (sleeps() != "0").then_some(()));
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("the command is ended with its caller", || (sleeps() == "0").then_some(()));
    let background = "'sleep 777 </dev/null >/dev/null 2>&1 & echo started'";
    world.ssh(&["enter", "tty", "web.1", background]).success().prints("started");
    eventually("what it leaves in the background is ended", || (sleeps() == "0").then_some(()));
}

/// Data flows both ways at once, also while the connection agrees on new keys.
#[test]
fn bulk_data_flows_both_ways_across_a_rekey() {
    const BYTES: usize = 48 << 20;
    let world = World::new();
    deployed(&world, "bulk");
    let mut command = Command::new("ssh");
    let plain = world.ssh_command(&["run", "bulk", "cat"]);
    command.args(["-o", "RekeyLimit=4M"]).args(plain.get_args());
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, mut from) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let byte = |at: usize| u8::try_from(at * 7 % 251).unwrap();
    let write = std::thread::spawn(move || {
        for block in 0..BYTES >> 16 {
            let bytes: Vec<_> = (0..1 << 16).map(|at| byte((block << 16) + at)).collect();
            to.write_all(&bytes).unwrap();
        }
    });
    let mut received = Vec::with_capacity(BYTES);
    from.read_to_end(&mut received).unwrap();
    write.join().unwrap();
    assert!(client.wait().unwrap().success());
    assert_eq!(received.len(), BYTES);
    assert!(received.iter().enumerate().all(|(at, found)| *found == byte(at)));
}

/// `app.json` with a script for each phase.
fn scripts(predeploy: &str, postdeploy: &str) -> String {
    format!(
        r#"{{"scripts":{{"postdeploy":"echo first of $PAAS_RELEASE","dokku":{{"predeploy":"{predeploy}","postdeploy":"{postdeploy}"}}}}}}"#
    )
}

/// The release phase runs once for each release, before it is live or after that; a failure before changes nothing.
#[test]
fn the_release_phase_decides_whether_a_release_goes_live() {
    let world = World::new();
    let procfile = |release: &str| format!("{PROCFILE}\nrelease: {release}");
    let folder = world.repository("phase", &[("Procfile", &procfile("echo migrating; exit 3"))]);
    world.commit(&folder, &[("app.json", &scripts("echo before $PAAS_RELEASE", "echo after $PAAS_RELEASE"))]);
    let refused = world.push(&folder).failure();
    let refused =
        refused.prints("before v1").prints("migrating").prints("release.2: exited with status 3; nothing was released");
    assert!(!refused.all().contains("after v1") && !refused.all().contains("first of"), "{}", refused.all());
    assert_eq!(world.ssh(&["run:logs", "phase", "release.2"]).success().out, "migrating\n");
    assert!(world.instances("phase").is_empty());

    world.commit(&folder, &[("Procfile", &procfile("echo migrated $PAAS_RELEASE"))]);
    let pushed = world.push(&folder).success().all();
    let order = ["before v2", "migrated v2", "Releasing v2", "v2 is live", "first of v2", "after v2"];
    let mut rest = pushed.as_str();
    for text in order {
        rest = rest.split_once(text).unwrap_or_else(|| panic!("{text} is not in its place: {pushed}")).1;
    }
    let url = world.url("phase");
    world.answers(&url, "release:v2:");
    let count = || tasks(&world, "phase").len();
    let before = count();
    world.ssh(&["ps:restart", "phase"]).success();
    assert_eq!(count(), before, "a restart runs nothing");
    let changed = world.ssh(&["config:set", "phase", "A=b"]).success().all();
    assert!(
        changed.contains("migrated v3") && !changed.contains("before v3") && !changed.contains("after v3"),
        "{changed}"
    );
    assert!(!world.ssh(&["ps:scale", "phase"]).success().out.contains("release"), "release is no type to scale");

    world.commit(&folder, &[("app.json", &scripts("true", "echo late; exit 9"))]);
    let late = world.push(&folder).success();
    let late = late.prints("exited with status 9; the release is live all the same");
    assert!(!late.all().contains("first of"), "only the first deployment");
    world.answers(&url, "release:v4:");
    world.commit(&folder, &[("Procfile", &procfile("false"))]);
    let at = world.git(&folder, &["ls-remote", "paas", "refs/heads/main"]).success().out;
    world.push(&folder).failure().prints("exited with status 1");
    world.answers(&url, "release:v4:");
    assert_eq!(world.git(&folder, &["ls-remote", "paas", "refs/heads/main"]).success().out, at, "the ref did not move");
}

/// A server that is killed in the release phase neither loses a task nor runs one twice.
#[test]
fn a_release_phase_survives_a_killed_server() {
    let mut world = World::new();
    let folder = world.repository("cut", &[("Procfile", PROCFILE)]);
    world.push(&folder).success();
    let slow = "echo began; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo done";
    world.commit(&folder, &[("Procfile", &format!("{PROCFILE}\nrelease: {slow}"))]);
    let mut push = world.git_command(&folder);
    let mut pushing = push.args(["push", "paas", "main"]).stderr(Stdio::null()).spawn().unwrap();
    eventually("the release command runs", || (world.running_containers("task").len() == 1).then_some(()));
    world.kill_server();
    assert!(!pushing.wait().unwrap().success());
    world.start_server();
    let container = world.running_containers("task").remove(0);
    run(Command::new("docker").args(["exec", &container, "touch", "/tmp/go"])).success();
    eventually("its end is recorded", || (outcomes(&world, "cut") == [("release.1".into(), "0".into())]).then_some(()));
    world.answers(&world.url("cut"), "release:v1:");

    // Killed after the commit point, before the task that follows it.
    world.commit(&folder, &[("Procfile", PROCFILE), ("app.json", &scripts("true", "echo posted"))]);
    world.pause("after-commit");
    let mut push = world.git_command(&folder);
    let mut pushing = push.args(["push", "paas", "main"]).stderr(Stdio::null()).spawn().unwrap();
    world.wait_for_pause("after-commit");
    world.kill_server();
    pushing.wait().unwrap();
    world.start_server();
    let expected: Vec<(String, String)> =
        [("postdeploy.3", "0"), ("predeploy.2", "0"), ("release.1", "0")].map(|(a, b)| (a.into(), b.into())).into();
    eventually("the task after the release is run", || (outcomes(&world, "cut") == expected).then_some(()));
    assert_eq!(world.ssh(&["run:logs", "cut", "postdeploy.3"]).success().out, "posted\n");
}

/// Jobs of `app.json` run on schedule, one at a time if they are to; a failure is an event, and nonsense is refused.
#[test]
fn scheduled_jobs_run_and_do_not_overlap_unless_they_may() {
    let world = World::new();
    let job = |name: &str, command: &str, more: &str| {
        format!(r#"{{"name":"{name}","schedule":"* * * * *","command":"{command}"{more}}}"#)
    };
    let nonsense = r#"{"cron":[{"schedule":"every minute","command":"true"}]}"#;
    let folder = world.repository("jobs", &[("Procfile", PROCFILE), ("app.json", nonsense)]);
    world.push(&folder).failure().prints("app.json: cron[0].schedule must be a schedule in five fields");
    let jobs = [
        job("slow", "echo began; exec sleep 1000", r#","concurrency_policy":"forbid""#),
        job("next", "echo began $PAAS_PROCESS; exec sleep 1000", r#","concurrency_policy":"replace""#),
        job("bad", "echo sorry; exit 3", ""),
        job("short", "exec sleep 1000", r#","timeout":1"#),
        job("off", "true", r#","maintenance":true"#),
        job("console", "console", ""),
    ];
    world.commit(&folder, &[("app.json", &format!(r#"{{"cron":[{}]}}"#, jobs.join(",")))]);
    world.push(&folder).success();
    world.ssh(&["cron:suspend", "jobs", "console"]).success();
    world.ssh(&["cron:list", "jobs"]).success().prints("slow").prints("* * * * *").prints("suspended");

    // By hand, whatever the schedule says.
    let run = world.ssh(&["cron:run", "jobs", "bad"]).failure().prints("sorry").prints("exited with status 3");
    assert_eq!(run.code, Some(1), "{run:?}");
    world.ssh(&["cron:run", "jobs", "off"]).success();
    // If a minute begins now, they run already.
    let slow = world.ssh(&["cron:run", "jobs", "slow", "--detach"]);
    assert!(slow.ok || slow.err.contains("still runs, and app.json forbids that runs overlap"), "{slow:?}");
    world.ssh(&["cron:run", "jobs", "next", "--detach"]).success();
    world.ssh(&["cron:run", "jobs", "none"]).failure().prints("no job none; cron:list jobs lists them");
    world.ssh(&["cron:run", "jobs", "slow"]).failure().prints("app.json forbids that runs overlap");
    world.ssh(&["cron:resume", "jobs", "off"]).failure().prints("maintenance");

    let report = || world.ssh(&["cron:report", "jobs", "--format", "json"]).success().json();
    let of = |report: &serde_json::Value, name: &str| {
        report.as_array().unwrap().iter().find(|job| job["job"] == name).unwrap().clone()
    };
    let events = || world.paas(&["events", "jobs"]).success().out;
    // Within the next minute, each is due once.
    eventually("the job that must not overlap is skipped", || (of(&report(), "slow")["skipped"] != 0).then_some(()));
    eventually("the other one is replaced", || {
        let runs: Vec<_> = tasks(&world, "jobs").into_iter().filter(|task| task["job"] == "next").collect();
        let (newest, older) = runs.split_first()?;
        let replaced = older.iter().all(|task| task["message"] == "replaced by the next run");
        (!older.is_empty() && replaced && newest["state"] == "running").then_some(())
    });
    eventually("failures are events", || {
        let told = events();
        let failed = told.lines().filter(|line| line.contains("schedule") && line.contains("cron:run"));
        let failed: Vec<_> = failed.collect();
        let has = |text: &str| failed.iter().any(|line| line.contains(text));
        (has("exited with status 3") && has("skipped: ") && has("longer than its limit of 1 s")).then_some(())
    });
    let consoles = || tasks(&world, "jobs").into_iter().filter(|task| task["job"] == "console").count();
    assert!(consoles() < 2, "a suspended job is not run: only if a minute began before it was suspended");
    assert_eq!(
        tasks(&world, "jobs").iter().filter(|task| task["job"] == "off").count(),
        1,
        "one that app.json switches off"
    );
    let own = || world.ssh(&["cron:logs", "jobs", "next"]).success().out;
    eventually("what the last run printed is shown", || own().starts_with("began cron.").then_some(()));
    world.paas(&["periodic:list"]).success().prints("cron").prints("stray-containers");
    world.ssh(&["apps:destroy", "jobs", "--force"]).success();
    assert!(world.containers("task").is_empty());
}
