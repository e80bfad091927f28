//! Commands of operators and developers on running apps.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
};

use crate::support::{apps::version, command::run, waiting::eventually, world::World};

/// A `Procfile` whose web process responds with the config var `SAYS`.
const SHOW: &str = "web: mkdir -p /tmp/s && echo \"says:$SAYS:\" > /tmp/s/index.html && \
     echo started with $SAYS && exec python3 -m http.server --directory /tmp/s $PORT";

/// Config vars that are exported are imported unchanged; a text with an invalid line changes nothing.
#[test]
fn config_vars_are_exported_and_imported() {
    let world = World::new();
    world.paas(&["apps:create", "from"]).success();
    world.paas(&["apps:create", "to"]).success();
    let value = "it's \"$HOME\" \\n\nsecond line";
    world.paas(&["config:set", "from", &format!("TEXT={value}"), "LEVEL=2"]).success();
    assert_eq!(world.paas(&["config:keys", "from"]).success().out, "LEVEL\nTEXT\n");
    for notation in ["shell", "env", "json"] {
        let exported = world.paas(&["config:export", "from", "--as", notation]).success().out;
        let imported = world.paas_with(&["config:import", "to", "--format", "json"], &exported).success();
        let result = imported.json_lines().pop().unwrap();
        let expected = serde_json::json!({ "app": "to", "release": null, "set": ["LEVEL", "TEXT"], "unset": [] });
        assert_eq!(result, expected, "{notation}");
        assert_eq!(world.paas(&["config:get", "to", "TEXT"]).success().out, format!("{value}\n"), "{notation}");
        world.paas(&["config:unset", "to", "LEVEL", "TEXT"]).success();
    }
    let exported = world.paas(&["config:export", "from", "--format", "json"]).success().json();
    assert_eq!(exported["TEXT"], value);
    let refused = world.paas_with(&["config:import", "to"], "A=1\nhunter2-\n").failure();
    assert!(!refused.prints("line 2 is not NAME=value").all().contains("hunter2"));
    assert_eq!(world.paas(&["config:keys", "to"]).success().out, "");
}

/// A change of config vars makes a release, or takes effect with the next one; a rollback restores the old values.
#[test]
fn config_vars_belong_to_releases() {
    let world = World::new();
    let folder = world.repository("vars", &[("Procfile", SHOW)]);
    world.paas(&["apps:create", "vars"]).success();
    world
        .paas(&["config:set", "vars", "SAYS=one two=three"])
        .success()
        .prints("the change takes effect with the next one");
    world.push(&folder).success();
    let url = world.url("vars");
    world.answers(&url, "says:one two=three:");
    world.paas(&["config:set", "vars", "SAYS=four"]).success().prints("v2 is live");
    assert!(world.get(&url).unwrap().1.contains("says:four:"), "the release is live when the command ends");
    world.paas(&["config:set", "vars", "SAYS=four"]).success().prints("no change: the values are already set");
    world.paas(&["config:set", "--no-restart", "vars", "SAYS=five"]).success();
    world.answers(&url, "says:four:");
    world.paas(&["releases:rollback", "vars", "v1"]).success().prints("Rolling back to v1 (").prints("forward again");
    assert!(world.get(&url).unwrap().1.contains("says:one two=three:"));
    assert_eq!(world.paas(&["config:get", "vars", "SAYS"]).success().out, "one two=three\n");
    world.paas(&["config:unset", "vars", "SAYS"]).success();
    world.answers(&url, "says::");
    world.paas(&["config:get", "vars", "SAYS"]).failure().prints("no config var");
    let releases = world.paas(&["releases:list", "vars", "--format", "json"]).success().json();
    let kinds: Vec<_> = releases.as_array().unwrap().iter().map(|r| r["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["config", "rollback", "config", "push"]);
}

/// A stopped app stays stopped when the server restarts, and its formation is kept; the log shows instances and router.
#[test]
fn processes_are_scaled_restarted_stopped_and_started() {
    let mut world = World::new();
    let folder = world.repository("procs", &[("Procfile", &format!("{SHOW}\nworker: echo at work; exec sleep 1000"))]);
    world.push(&folder).success();
    world.ssh(&["ps:scale", "procs", "web=2", "worker=1"]).success();
    world.ssh(&["ps:scale", "procs", "clock=1"]).failure().prints("no process type clock; it has: web, worker");
    world.ssh(&["ps:scale", "procs", "web=many"]).failure().prints("web=3");
    let report = || world.ssh(&["ps:report", "procs", "--format", "json"]).success().json();
    let ids = |report: &serde_json::Value| {
        report.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = ids(&report());
    assert_eq!(before.len(), 3);
    world.ssh(&["ps:restart", "procs"]).success();
    eventually("three new instances", || {
        let now = ids(&report());
        (now.len() == 3 && now.iter().all(|id| !before.contains(id))).then_some(())
    });
    let logs = world.ssh(&["logs", "procs", "-p", "worker"]).success().out;
    assert!(logs.contains("app[worker.1]: at work") && !logs.contains("[web."), "{logs}");
    let logs = world.ssh(&["logs", "procs", "-p", "worker", "--since", "1h", "-q"]).success().out;
    assert!(logs.lines().any(|line| line == "at work"), "{logs}");
    world.ssh(&["logs", "procs", "--since", "yesterday"]).failure().prints("is not a period");
    let logs = world.ssh(&["logs", "procs", "-p", "web.2"]).success().out;
    assert!(logs.contains("[web.2]") && !logs.contains("[web.1]"), "{logs}");
    for (source, reason) in [
        ("wroker", "procs has no process type wroker; it has: web, worker"),
        ("web.7", "procs has no instance web.7; it has: web.1, web.2, worker.1"),
    ] {
        assert_eq!(world.ssh(&["logs", "procs", "-p", source]).failure().prints(reason).code, Some(4));
    }
    let state = || world.ssh(&["apps:list", "--format", "json"]).success().json()[0]["state"].clone();
    assert_eq!(state(), "running");
    world.ssh(&["ps:stop", "procs"]).success();
    assert_eq!(state(), "stopped");
    assert_eq!(world.get(&format!("{}/x?secret=1", world.url("procs").trim_end_matches('/'))).unwrap().0, 503);
    eventually("the router's response is in the log", || {
        let log = world.ssh(&["logs", "procs", "-p", "router"]).success().out;
        assert!(!log.contains("secret"), "{log}");
        log.contains("paas[router]: 503 for GET /x: no instance is running (request ").then_some(())
    });
    world.stop_server();
    world.start_server();
    eventually("no instance is left", || world.containers("instance").is_empty().then_some(()));
    world
        .ssh(&["config:set", "procs", "STILL=stopped"])
        .success()
        .prints("runs when the app is started (ps:start procs)");
    assert!(world.containers("instance").is_empty(), "a new release starts nothing");
    world.ssh(&["ps:start", "procs"]).success();
    world.answers(&world.url("procs"), "says:");
    let info = world.ssh(&["apps:info", "procs", "--format", "json"]).success().json();
    assert_eq!(info["formation"], serde_json::json!({"web": 2, "worker": 1}));
    world.ssh(&["builds:log", "procs"]).success().prints("Releasing v1");
    world.ssh(&["builds:log", "procs", "7"]).failure().prints("procs has no such build");
}

/// Port mappings of HTTP and TCP are served, and conflicting ones are refused.
#[test]
fn ports_are_mapped() {
    let world = World::new();
    let serve = version(1).replace("$PORT", "5000");
    let checks = r#"{"healthchecks":{"web":[{"attempts":10,"wait":0.5}]}}"#;
    let folder = world.repository("mapped", &[("Procfile", &serve), ("app.json", checks)]);
    world.push(&folder).failure().prints("it listens on port 5000, not on $PORT (8080)");
    let own = world.url("mapped");
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (http, tcp) = (free(), free());
    world.ssh(&["ports:set", "mapped", &format!("http:{http}:5000"), &format!("tcp:{tcp}:5000")]).success();
    world.push(&folder).success();
    world.answers(&format!("http://127.0.0.1:{http}"), "version-1");
    let mut raw = TcpStream::connect(("127.0.0.1", tcp)).unwrap();
    raw.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    raw.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("version-1") && !answer.to_lowercase().contains("x-request-id"), "{answer}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("http:{}:5000", taken.local_addr().unwrap().port());
    world.ssh(&["ports:add", "mapped", &taken]).failure().prints("cannot be opened");
    world
        .ssh(&["ports:add", "mapped", &format!("http:{}:5000", world.ssh_port)])
        .failure()
        .prints("paas itself listens on it");
    world.paas(&["apps:create", "other"]).success();
    world.ssh(&["ports:set", "other", &format!("http:{http}:5000")]).failure().prints("belongs to another app");
    let listed = world.ssh(&["ports:list", "mapped", "--format", "json"]).success().json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "refused mappings are not stored: {listed}");
    world.answers(&format!("http://127.0.0.1:{http}"), "version-1");
    world.commit(&folder, &[("Procfile", &version(2))]);
    world.push(&folder).success();
    world.answers(&format!("http://127.0.0.1:{http}"), "version-2");
    world.ssh(&["ports:clear", "mapped"]).success().prints("PORT has changed: restarting mapped");
    world.answers(&own, "version-2");
    assert_eq!(world.url("mapped"), own, "the app keeps its own port");
}

/// A developer key may create apps and manage them, but no others.
#[test]
fn a_developer_key_manages_its_own_apps_only() {
    let world = World::new();
    let folder = world.repository("admins", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    let key = world.dir().join("bob");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ecdsa", "-N", "", "-f"]).arg(&key)).success();
    let public = std::fs::read_to_string(world.dir().join("bob.pub")).unwrap();
    world.paas_with(&["ssh-keys:add", "bob"], &public).success().prints("SHA256:");
    world.paas_with(&["ssh-keys:add", "bob2"], &public).failure().prints("this key is registered already, as bob");
    world.paas_with(&["ssh-keys:add", "eve"], "ssh-ed25519 nonsense").failure().prints("public key");
    let bob = |words: &[&str]| world.ssh_as(&key, words);
    bob(&["whoami"]).success().prints("bob (user)");
    bob(&["apps:create", "bobs"]).success();
    for words in [
        &["apps:info", "admins"][..],
        &["config:list", "admins"],
        &["ps:scale", "admins", "web=0"],
        &["apps:destroy", "admins", "--force"],
        &["git-receive-pack", "admins"],
    ] {
        bob(words).failure().prints("there is no app named admins, or it is not yours");
    }
    bob(&["ssh-keys:list"]).failure().prints("only an admin may do this");
    bob(&["ports:set", "bobs", "http:80:8080"]).failure().prints("only an admin may map port 80");
    let apps = bob(&["apps:list", "--format", "json"]).success().json();
    let names: Vec<_> = apps.as_array().unwrap().iter().map(|app| &app["name"]).collect();
    assert_eq!(names, ["bobs"]);
    bob(&["apps:destroy", "bobs"]).failure().prints("no name was given");
    world.paas(&["ssh-keys:remove", "bob"]).success();
    bob(&["whoami"]).failure().prints("Permission denied (publickey)");
    world.answers(&world.url("admins"), "version-1");
}
