//! Users, their keys, their roles in apps, and the audit log.

use std::{
    collections::BTreeSet,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{apps::version, command::CommandOutput, http::free_port, waiting::eventually, world::World};

/// Value of a config var, which must appear in no entry of the audit log.
const SECRET: &str = "hunter2-in-a-config-var";

/// Makes a key and registers it with these further options.
fn user(world: &World, name: &str, options: &[&str]) -> PathBuf {
    let (key, public) = world.keygen(name);
    world.paas_with(&[&["ssh-keys:add", name], options].concat(), &public).success();
    key
}

/// What an output must say when the caller lacks the role.
fn denied(output: &CommandOutput, role: &str) {
    assert_eq!(output.code, Some(3), "{}{}", output.out, output.err);
    assert!(output.err.contains(&format!("needs the role {role}")), "{}", output.err);
}

/// A second developer on an app, from no role to owner; what each role may do and may not.
#[test]
fn members_do_what_their_role_allows() {
    let world = World::new();
    let (ann, bob) = (user(&world, "ann", &[]), user(&world, "bob", &[]));
    let folder = world.repository("shop", &[("Procfile", &version(1))]);
    world.push_as(&ann, &folder).success();
    let as_ann = |words: &[&str]| world.ssh_as(&ann, words);
    let as_bob = |words: &[&str]| world.ssh_as(&bob, words);
    let clone = |key: &Path, to: &str| {
        let words = ["clone", "-q", &world.remote("shop"), to];
        crate::support::command::run(world.git_command_as(key, world.dir()).args(words))
    };

    for words in
        [&["apps:info", "shop"][..], &["apps:exists", "shop"], &["logs", "shop"], &["ps:scale", "shop", "web=0"]]
    {
        let hidden = as_bob(words);
        assert_eq!(hidden.code, Some(4), "{}", hidden.err);
        let missing = as_bob(&[&[words[0], "nothing"], &words[2..]].concat());
        assert_eq!(hidden.err.replace("shop", "nothing"), missing.err, "an app that is hidden does not exist");
    }
    world.push_as(&bob, &folder).failure().prints("there is no app named shop, or it is not yours");

    as_ann(&["access:add", "shop", "bob", "viewer"]).success();
    as_bob(&["apps:exists", "shop"]).success();
    as_bob(&["logs", "shop"]).success();
    as_bob(&["builds:log", "shop"]).success();
    denied(&as_bob(&["config:list", "shop"]), "operator");
    denied(&as_bob(&["ps:rebuild", "shop"]), "deployer");
    world.commit(&folder, &[("Procfile", &version(2))]);
    world.push_as(&bob, &folder).failure().prints("needs the role deployer, and you are viewer of shop");
    clone(&bob, "clone-1").failure().prints("git:fetch needs the role deployer");

    as_ann(&["access:add", "shop", "bob", "deployer"]).success();
    world.push_as(&bob, &folder).success();
    world.answers(&world.url("shop"), "version-2");
    clone(&bob, "clone-2").success();
    denied(&as_bob(&["ps:scale", "shop", "web=2"]), "operator");

    as_ann(&["access:add", "shop", "bob", "operator"]).success();
    as_bob(&["config:set", "shop", &format!("TOKEN={SECRET}")]).success();
    assert_eq!(as_bob(&["config:get", "shop", "TOKEN"]).success().out, format!("{SECRET}\n"));
    as_bob(&["ps:scale", "shop", "web=2"]).success().prints("2 instances are healthy");
    denied(&as_bob(&["access:add", "shop", "bob", "owner"]), "owner");
    denied(&as_bob(&["apps:destroy", "shop", "--force"]), "owner");
    as_bob(&["users:list"]).failure().prints("only an admin may do this");

    as_ann(&["access:remove", "shop", "ann"]).failure().prints("only owner");
    as_ann(&["access:add", "shop", "carol", "viewer"]).failure().prints("no user named carol");
    as_ann(&["access:add", "shop", "bob", "king"]).failure().prints("is not a role; use viewer");
    as_ann(&["access:transfer", "shop", "bob"]).failure().prints("make bob an owner (access:add shop bob owner)");
    denied(&as_bob(&["access:transfer", "shop", "bob"]), "owner");
    as_ann(&["access:add", "shop", "bob", "owner"]).success();
    as_ann(&["access:remove", "shop", "ann"]).failure().prints("bob takes it with access:transfer shop bob");
    as_bob(&["access:transfer", "shop", "bob"]).success();
    let info = as_bob(&["apps:info", "shop", "--format", "json"]).success().json();
    let members: Vec<_> = info["members"].as_array().unwrap().iter().map(|it| (&it["user"], &it["role"])).collect();
    assert_eq!(info["owner"], "bob");
    assert_eq!(members, [(&json!("bob"), &json!("owner")), (&json!("ann"), &json!("operator"))]);
    denied(&as_ann(&["access:remove", "shop", "bob"]), "owner");
    as_bob(&["acl:remove", "shop", "ann"]).success();
    assert_eq!(as_ann(&["apps:info", "shop"]).code, Some(4));
    assert_eq!(as_ann(&["apps:list", "--format", "json"]).success().json(), json!([]));

    audit_log(&world, &bob);
}

/// What the audit log tells of all that.
fn audit_log(world: &World, bob: &Path) {
    let events =
        world.ssh_as(bob, &["events", "shop", "--reads", "-n", "1000", "--format", "json"]).success().json_lines();
    let text = serde_json::to_string(&events).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    let find = |operation: &str, outcome: &str| {
        let matches = |event: &&Value| event["operation"] == operation && event["outcome"] == outcome;
        events.iter().rfind(matches).unwrap_or_else(|| panic!("no {operation} that {outcome}: {events:#?}"))
    };
    let scaled = find("ps:scale", "succeeded");
    assert_eq!((&scaled["user"], &scaled["detail"], &scaled["door"]), (&json!("bob"), &json!("web=2"), &json!("ssh")));
    assert_eq!((&scaled["app"], &scaled["address"]), (&json!("shop"), &json!("127.0.0.1")));
    let keys = world.paas(&["ssh-keys:list", "--format", "json"]).success().json();
    let of_bob = keys.as_array().unwrap().iter().find(|key| key["user"] == "bob").unwrap();
    assert_eq!(scaled["fingerprint"], of_bob["fingerprint"]);
    assert_eq!(find("config:set", "succeeded")["detail"], "TOKEN");
    assert_eq!(find("apps:destroy", "denied")["user"], "bob");
    let pushed = find("git:push", "succeeded");
    assert!(pushed["detail"].as_str().unwrap().starts_with("main "), "{pushed}");
    find("git:fetch", "denied");
    find("config:get", "succeeded");
    world.ssh_as(bob, &["events", "shop"]).success().prints("bob ps:scale shop web=2: succeeded (127.0.0.1, SHA256:");
    let bad = world.ssh_as(bob, &["events", "shop", "--since", "yesterday"]);
    assert_eq!(bad.code, Some(2));
    bad.failure().prints("\"yesterday\" is not a period; use for example 30s");
    assert_eq!(world.ssh_as(bob, &["events", "nothing"]).code, Some(4));
}

/// A CI key may only deploy one app; a lost key is replaced; the last admin and the last owner stay.
#[test]
#[ignore = "slow"]
fn machine_users_lost_keys_and_last_owners() {
    let mut world = World::new();
    let ann = user(&world, "ann", &[]);
    let folder = world.repository("shop", &[("Procfile", &version(1))]);
    world.push_as(&ann, &folder).success();
    let ci = user(&world, "ci", &["--app", "shop", "--role", "deployer"]);
    let as_ci = |words: &[&str]| world.ssh_as(&ci, words);
    as_ci(&["whoami"]).success().prints("ci (machine)");
    world.commit(&folder, &[("Procfile", &version(2))]);
    world.push_as(&ci, &folder).success();
    as_ci(&["ps:rebuild", "shop"]).success();
    denied(&as_ci(&["config:set", "shop", "A=b"]), "operator");
    as_ci(&["apps:create", "other"]).failure().prints("ci is a machine user, which creates no apps");
    let other = world.repository("other", &[("Procfile", &version(1))]);
    let free = world.push_as(&ci, &other);
    world.ssh(&["apps:create", "hidden"]).success();
    let hidden = world.push_as(&ci, &world.repository("hidden", &[("Procfile", &version(1))]));
    let answer = |output: CommandOutput, name: &str| {
        let said =
            output.failure().err.lines().find(|line| line.contains("there is no app")).unwrap().replace(name, "X");
        assert!(said.contains("a machine user creates none"), "{said}");
        said
    };
    assert_eq!(answer(free, "other"), answer(hidden, "hidden"), "a push does not tell which apps there are");
    assert_eq!(as_ci(&["apps:exists", "other"]).code, Some(4));

    // The key is lost: another one of the same user has all apps.
    world.paas(&["ssh-keys:remove", "ann"]).success();
    world.ssh_as(&ann, &["whoami"]).failure().prints("Permission denied (publickey)");
    let (new, public) = world.keygen("ann-new");
    world.paas_with(&["ssh-keys:add", "ann"], &public).success();
    let list = world.ssh_as(&new, &["apps:list", "--format", "json"]).success().json();
    assert_eq!((&list[0]["name"], &list[0]["owner"]), (&json!("shop"), &json!("ann")));
    let (_, second) = world.keygen("ann-second");
    world.paas_with(&["ssh-keys:add", "ann"], &second).success().prints("ann-2 is another key of the user ann");

    world.paas(&["users:remove", "ann"]).failure().prints("only owner of shop");
    world.paas(&["users:remove", "dev"]).failure().prints("last admin");
    world.paas(&["users:set", "dev", "admin", "false"]).failure().prints("last admin");
    world.paas(&["users:remove", "nobody"]).failure().prints("no user named nobody");
    world.paas(&["access:transfer", "shop", "dev"]).success();
    world.paas(&["users:remove", "ann"]).success();
    world.ssh_as(&new, &["whoami"]).failure().prints("Permission denied (publickey)");
    world.paas(&["users:remove", "ci"]).success();
    assert_eq!(world.ssh(&["users:list", "--format", "json"]).success().json().as_array().unwrap().len(), 1);

    world.ssh(&["events:off"]).success();
    world.ssh(&["access:list", "shop"]).success();
    world.ssh(&["ps:scale", "shop", "web=0"]).success();
    world.ssh(&["events:on"]).success();
    let events = world.ssh(&["events", "-n", "3", "--format", "json"]).success().json_lines();
    let operations: Vec<_> = events.iter().map(|event| event["operation"].as_str().unwrap()).collect();
    assert_eq!(operations, ["users:remove", "events:off", "events:on"]);

    world.stop_server();
    let unavailable = world.paas(&["apps:list", "--format", "json"]);
    let error = &unavailable.json()["error"];
    assert_eq!((unavailable.code, &error["kind"]), (Some(7), &json!("unavailable")), "{}", unavailable.err);
    assert!(error["remedy"].as_str().unwrap().starts_with("start it with `paas server`"), "{error}");
}

/// Every report is one JSON value, every change is lines of JSON that end in the result, every failure is one error.
#[test]
fn every_command_answers_in_json() {
    let world = World::new();
    let folder = world.repository("shop", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    let port = world.url("shop").rsplit(':').next().unwrap().trim_end_matches('/').parse::<u16>().unwrap();
    let ask = |words: &[&str]| world.ssh(&[words, &["--format", "json"]].concat());
    world.ssh(&["config:set", "shop", "A=b", "--no-restart"]).success();
    let info = ask(&["apps:info", "shop"]).success().json();
    assert_eq!(info["release"], 1);
    assert_eq!(info["formation"], json!({"web": 1}));
    assert_eq!(info["ports"], json!([{"scheme": "http", "host": port, "container": 8080}]));
    assert_eq!((&info["owner"], &info["state"]), (&json!("dev"), &json!("running")));
    let reports = [
        &["apps:list"][..],
        &["apps:exists", "shop"],
        &["ps:report"],
        &["ps:report", "shop"],
        &["ps:scale", "shop"],
        &["url", "shop"],
        &["config:list", "shop"],
        &["config:keys", "shop"],
        &["config:export", "shop", "--as", "json"],
        &["ports:list", "shop"],
        &["releases:list", "shop"],
        &["builds:list", "shop"],
        &["builds:info", "shop"],
        &["buildpacks:list", "shop"],
        &["buildpacks:report", "shop"],
        &["buildpacks:installed"],
        &["stacks:list"],
        &["stacks:report"],
        &["apps:stack", "shop"],
        &["git:report", "shop"],
        &["registry:list"],
        &["images:list"],
        &["network:report", "shop"],
        &["apps:links", "shop"],
        &["access:list", "shop"],
        &["users:list"],
        &["ssh-keys:list"],
        &["checks:report", "shop"],
        &["run:list", "shop"],
        &["cron:list", "shop"],
        &["cron:report"],
        &["periodic:list"],
        &["whoami"],
        &["version"],
        &["help"],
        &["ps:scale", "--help"],
        &["builds:log", "shop"],
        &["config:get", "shop", "A"],
    ];
    for report in reports {
        ask(report).success().json();
    }
    for followed in ["logs", "events"] {
        assert!(!ask(&[followed, "shop"]).success().json_lines().is_empty());
    }

    let change = ask(&["ps:scale", "shop", "web=2"]).success().json_lines();
    let (result, progress) = change.split_last().unwrap();
    assert_eq!(*result, json!({"app": "shop", "stopped": false, "formation": {"web": 2}, "healthy": 2}));
    assert_eq!(progress[0], json!({"kind": "step", "text": "Scaling shop to web=2"}));
    let restarted = ask(&["ps:restart", "shop", "web"]).success().json_lines();
    assert_eq!(restarted.last().unwrap()[0]["healthy"], 2, "retiring instances do not count: {restarted:#?}");
    let added = format!("tcp:{}:9000", free_port());
    let changes = [
        &["config:set", "shop", "A=b"][..],
        &["config:unset", "shop", "A"],
        &["ps:restart", "shop", "web"],
        &["checks:run", "shop"],
        &["checks:set", "shop", "timeout", "30"],
        &["checks:skip", "shop"],
        &["checks:disable", "shop", "web"],
        &["checks:enable", "shop"],
        &["ps:set", "shop", "stop-timeout", "web=9"],
        &["ps:stop", "shop"],
        &["ps:start", "--all"],
        &["git:set", "shop", "deploy-branch", "live"],
        &["builds:set", "shop", "dir"],
        &["ports:add", "shop", &added],
        &["ports:remove", "shop", &added],
        &["ports:clear", "shop"],
        &["buildpacks:set", "shop", "paas/procfile"],
        &["buildpacks:remove", "shop", "paas/procfile"],
        &["buildpacks:clear", "shop"],
        &["builds:clear-cache", "shop"],
        &["apps:stack", "shop", "--default"],
        &["apps:rebase", "shop"],
        &["events:off"],
        &["events:on"],
        &["apps:create", "second"],
        &["apps:destroy", "second", "--confirm", "second"],
        &["users:add", "zoe"],
        &["users:set", "zoe", "admin", "true"],
        &["access:add", "shop", "zoe"],
        &["access:transfer", "shop", "zoe"],
        &["access:remove", "shop", "dev"],
        &["access:transfer", "shop", "dev"],
        &["users:remove", "zoe"],
    ];
    for change in changes {
        let lines = ask(change).success().json_lines();
        assert!(lines.last().unwrap().get("kind").is_none(), "{change:?} ends in a result: {lines:#?}");
    }
    // What follows the app is the command.
    let own = [
        &["run", "--format", "json", "shop", "true"][..],
        &["run:detached", "--format", "json", "shop", "true"],
        &["enter", "--format", "json", "shop", "web.1", "true"],
    ];
    for run in own {
        let lines = world.ssh(run).success().json_lines();
        assert!(lines.len() == 1 && lines[0]["app"] == "shop", "{run:?}: {lines:#?}");
    }
    // The others need a build, a file or another stack; `answer` and `follow` print them all alike.
    let asked: BTreeSet<_> = reports
        .iter()
        .chain(&changes)
        .chain(&own)
        .map(|words| words[0])
        .chain(["apps:info", "logs", "events"])
        .collect();
    let schemas: Value = serde_json::from_str(include_str!("../../docs/schemas.json")).unwrap();
    let not_asked = schemas["operations"].as_object().unwrap().keys().filter(|name| !asked.contains(name.as_str()));
    let elsewhere = [
        "apps:link",
        "apps:show-stack", // `apps:stack shop`
        "apps:unlink",
        "bindings:add",
        "bindings:list",
        "bindings:remove",
        "bindings:report",
        "buildpacks:add",
        "buildpacks:install",
        "buildpacks:uninstall",
        "builds:cancel",
        "cron:logs",
        "cron:resume",
        "cron:run",
        "cron:suspend",
        "disk:report",
        "gc",
        "git:from-archive",
        "git:from-image",
        "git:sync",
        "images:offer",
        "images:withdraw",
        "network:allow",
        "network:deny",
        "ports:set",
        "ps:formation", // `ps:scale shop`
        "ps:rebuild",
        "quota",
        "quota:set",
        "registry:login",
        "registry:logout",
        "releases:rollback",
        "resource:limit",
        "resource:limit-clear",
        "resource:report",
        "resource:reserve",
        "resource:reserve-clear",
        "resource:sizes",
        "run:logs",
        "run:stop",
        "ssh-keys:add",
        "ssh-keys:remove",
        "stacks:create",
        "stacks:remove",
        "stacks:update",
        "storage:create",
        "storage:destroy",
        "storage:export",
        "storage:import",
        "storage:list",
        "storage:mount",
        "storage:report",
        "storage:resize",
        "storage:unmount",
        "tokens:create",
        "tokens:list",
        "tokens:revoke",
        "webhooks:add",
        "webhooks:list",
        "webhooks:remove",
    ];
    assert_eq!(not_asked.collect::<Vec<_>>(), elsewhere);

    let failure = |words: &[&str], kind: &str, status: i32| {
        let output = ask(words);
        assert_eq!((output.code, output.err.as_str()), (Some(status), ""), "{words:?}: {}", output.out);
        let lines = output.json_lines();
        let error = &lines.last().unwrap()["error"];
        assert_eq!(error["kind"], kind, "{words:?}: {lines:#?}");
        assert!(error["message"].is_string() && error["remedy"].is_string(), "{words:?}: {lines:#?}");
    };
    failure(&["apps:info", "nothing"], "not_found", 4);
    failure(&["apps:create", "shop"], "conflict", 5);
    failure(&["ps:scale", "shop", "web=many"], "invalid", 2);
    failure(&["ps:scal", "shop"], "invalid", 2);
    failure(&["apps:destroy", "shop"], "invalid", 2);
    failure(&["config:export", "shop", "--as", "env"], "invalid", 2);
    failure(&["config:set", "shop", "'A=b"], "invalid", 2);
    failure(&["releases:rollback", "shop", "99"], "not_found", 4);
}

/// A client that leaves in the middle of a line leaves nothing behind, and a follower gets what happens after it came.
#[test]
fn followers_come_and_go() {
    let world = World::new();
    world.ssh(&["apps:create", "shop"]).success();
    let follow = || {
        let mut child = world.ssh_command(&["events", "-t", "--format", "json"]);
        child.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut leaver = follow();
    leaver.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
    leaver.kill().unwrap();
    leaver.wait().unwrap();

    let mut follower = follow();
    let mut stdout = follower.stdout.take().unwrap();
    let mut seen = String::new();
    let mut read_until = |text: &str| {
        let mut byte = [0];
        while !seen.contains(text) {
            stdout.read_exact(&mut byte).unwrap();
            seen.push(char::from(byte[0]));
        }
    };
    read_until("apps:create");
    world.ssh(&["access:add", "shop", "nobody"]).failure();
    read_until("no user named nobody");
    follower.kill().unwrap();
    follower.wait().unwrap();
    eventually("no connection is left", || {
        let port = world.ssh_port.to_string();
        let listed = Command::new("ss").args(["-Htn", "state", "established", "sport", "=", &port]).output().unwrap();
        listed.stdout.is_empty().then_some(())
    });
}

/// What is done to several apps is recorded for each; a refused destruction is recorded; others' attempts are not shown.
#[test]
fn each_app_has_its_entries() {
    let world = World::new();
    let (ann, bob) = (user(&world, "ann", &[]), user(&world, "bob", &[]));
    for app in ["one", "two"] {
        world.ssh_as(&ann, &["apps:create", app]).success();
    }
    world.ssh_as(&ann, &["ps:stop", "--all"]).success();
    let failed = world.ssh_as(&ann, &["ps:rebuild", "one"]).failure();
    assert_eq!(failed.code, Some(5), "{}", failed.err);
    world.ssh_as(&ann, &["ps:stop", "one", "--all"]).failure();
    world.ssh_as(&ann, &["apps:rebase", "--all", "--stack", "nope"]).failure();
    let last = world.paas(&["events", "-n", "1"]).success().out;
    assert!(last.contains("ann apps:rebase stack=nope: not found"), "what fails before the first app: {last}");
    for _ in 0..3 {
        assert_eq!(world.ssh_as(&bob, &["apps:destroy", "one"]).code, Some(4));
    }
    assert_eq!(world.ssh_as(&ann, &["apps:destroy", "one"]).code, Some(2), "no name is typed");
    let (_, public) = world.keygen("ci");
    world.paas_with(&["ssh-keys:add", "ci", "--app", "one"], &public).success();
    let entries = |app: &str| {
        let events = world.ssh_as(&ann, &["events", app, "--format", "json"]).success().json_lines();
        let text =
            |event: &Value| format!("{} {} {}", event["user"], event["operation"], event["outcome"]).replace('"', "");
        events.iter().map(text).collect::<Vec<_>>()
    };
    let common = ["ann apps:create succeeded", "ann ps:stop succeeded"];
    assert_eq!(entries("two"), common);
    let more = ["ann ps:rebuild conflict", "ann apps:destroy invalid", "local ssh-keys:add succeeded"];
    assert_eq!(entries("one"), [&common[..], &more].concat());
    let keys = world.paas(&["events", "-n", "1", "--format", "json"]).success().json_lines();
    assert!(keys[0]["detail"].as_str().unwrap().contains("SHA256:"), "{keys:?}");
}

/// Who loses a role is shown no more of what goes on.
#[test]
fn a_follower_who_loses_the_role_is_ended() {
    let world = World::new();
    let (ann, bob) = (user(&world, "ann", &[]), user(&world, "bob", &[]));
    world.ssh_as(&ann, &["apps:create", "shop"]).success();
    world.ssh_as(&ann, &["access:add", "shop", "bob", "operator"]).success();
    let follow = |words: &[&str]| {
        let mut child = world.ssh_command_as(&bob, words);
        child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let logs = follow(&["logs", "shop", "-t"]);
    eventually("the log is followed", || {
        let reads = world.ssh_as(&ann, &["events", "shop", "--reads"]).success().out;
        reads.contains("bob logs shop").then_some(())
    });
    let mut followers = [logs, follow(&["events", "shop", "-t"])];
    let mut seen = String::new();
    let events = followers[1].stdout.as_mut().unwrap();
    while !seen.contains("access:add") {
        let mut byte = [0];
        events.read_exact(&mut byte).unwrap();
        seen.push(char::from(byte[0]));
    }
    world.ssh_as(&ann, &["access:remove", "shop", "bob"]).success();
    for mut follower in followers {
        eventually("the follower is ended", || follower.try_wait().unwrap());
        let output = follower.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("there is no app named shop, or it is not yours"), "{said}");
    }
}
