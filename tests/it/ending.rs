//! How the processes of an instance end: each is asked once, and has its time.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::support::{images::Base, waiting::eventually, world::World};

/// A server that needs five seconds to end: longer than a third of the grace period.
const SERVER: &str = r#"
import os, signal, sys, threading, http.server
def tidy():
    print("ended well", flush=True)
    os._exit(0)
def end(*_):
    print("asked to end", flush=True)
    threading.Timer(5, tidy).start()
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler).serve_forever()
"#;

/// Lines of each instance that an app's log has of this text.
fn counts(world: &World, app: &str, text: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in world.paas(&["logs", app, "--num", "5000", "--format", "json"]).success().json_lines() {
        if line["event"] == false && line["text"].as_str().unwrap().contains(text) {
            *counts.entry(line["source"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Scales the process types to one instance each, waits until they have said so, and stops the app. Each is to have been
/// asked once, and to have ended well.
fn all_end_well(world: &World, app: &str, types: &[&str], ready: &str) {
    let quantities: Vec<_> = types.iter().map(|name| format!("{name}=1")).collect();
    let words: Vec<_> = ["ps:scale", app].into_iter().chain(quantities.iter().map(String::as_str)).collect();
    world.paas(&words).success();
    let once: BTreeMap<_, _> = types.iter().map(|name| (format!("{name}.1"), 1)).collect();
    eventually("all instances are ready", || (counts(world, app, ready) == once).then_some(()));
    world.paas(&["ps:stop", app]).success();
    eventually("the instances are removed", || world.containers("instance").is_empty().then_some(()));
    assert_eq!(counts(world, app, "ended well"), once);
    assert_eq!(counts(world, app, "asked to end"), once);
}

fn write_program(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn processes_behind_shells_are_asked_once_and_end_well() {
    let world = World::with("[instances]\nstop_grace_seconds = 12\n");
    let run = "python3 -u server.py";
    let procfile = format!(
        "web: {run} | cat\njobs: bash jobs.sh\nafter: {run}; echo over\nbackground: {run} & wait\nscript: ./start.sh\n\
         forwards: trap 'kill $p; wait $p' TERM; {run} & p=$!; wait $p\nleaves: trap 'kill $p; exit' TERM; {run} & p=$!; wait $p\n\
         deaf: trap 'echo trapped' TERM; {run}; echo over\nnested: sh -c 'sh -c \"{run}; true\"; true'; true\n"
    );
    let folder = world.repository("behind", &[("Procfile", &procfile), ("server.py", SERVER)]);
    // A shell with job control.
    let jobs = format!("set -m\n{run} &\ntrap 'kill %1' TERM\nfg %1\n");
    fs::write(folder.join("jobs.sh"), jobs).unwrap();
    write_program(&folder, "start.sh", &format!("#!/bin/sh\n{run}\n"));
    world.commit(&folder, &[]);
    world.push(&folder).success();
    let types = ["web", "jobs", "after", "background", "script", "forwards", "leaves", "deaf", "nested"];
    all_end_well(&world, "behind", &types, "ready");
    assert_eq!(counts(&world, "behind", "over"), BTreeMap::from([("deaf.1".to_owned(), 1)]), "its shell goes on");
}

#[test]
#[ignore = "slow"]
fn processes_behind_package_managers_are_asked_once_and_end_well() {
    let world = World::with("[instances]\nstop_grace_seconds = 12\n");
    let package = r#"{ "name": "calm", "version": "1.0.0", "private": true, "license": "MIT",
        "dependencies": { "yarn": "1.22.22", "pnpm": "9.15.9", "concurrently": "9.1.2" },
        "scripts": { "start": "node server.js", "direct": "exec node server.js", "piped": "node server.js | cat",
            "both": "concurrently 'node server.js'" } }"#;
    let server = "const server = require('http').createServer((q, s) => s.end('ok')).listen(process.env.PORT, () => console.log('ready'))\n\
         process.on('SIGTERM', () => { console.log('asked to end'); server.close()\n\
         setTimeout(() => { console.log('ended well'); process.exit(0) }, 5000) })\n";
    let bin = "node_modules/.bin";
    let procfile = format!(
        "web: npm start\nnpmdirect: npm run direct\nnpmpiped: npm run piped | cat\nnpmboth: npm run both; echo over\n\
         yarn: {bin}/yarn start\nyarndirect: {bin}/yarn direct\npnpm: {bin}/pnpm start\npnpmdirect: {bin}/pnpm run direct\n"
    );
    let files = [("package.json", package), ("server.js", server), ("Procfile", &procfile)];
    let folder = world.repository("calm", &files);
    world.push(&folder).success();
    let types = ["web", "npmdirect", "npmpiped", "npmboth", "yarn", "yarndirect", "pnpm", "pnpmdirect"];
    all_end_well(&world, "calm", &types, "ready");
}

#[test]
fn an_instance_that_does_not_end_in_time_is_killed_and_its_log_says_so() {
    let world = World::with("[instances]\nstop_grace_seconds = 1\n");
    let deaf = "trap '' TERM; echo ready; while :; do sleep 1; done";
    let folder = world.repository("deaf", &[("Procfile", &format!("worker: {deaf}\n"))]);
    world.push(&folder).success();
    world.paas(&["ps:set", "deaf", "stop-timeout", "worker=1"]).success();
    world.paas(&["ps:scale", "deaf", "worker=1"]).success();
    eventually("it is ready", || (counts(&world, "deaf", "ready").len() == 1).then_some(()));
    world.paas(&["ps:stop", "deaf"]).success();
    eventually("it is removed", || world.containers("instance").is_empty().then_some(()));
    let text = "paas[worker.1]: Did not end within 1 s and was killed; ps:set deaf stop-timeout worker=SECONDS";
    world.paas(&["logs", "deaf"]).success().prints(text);

    // Nobody waits an hour for an app that is destroyed.
    world.paas(&["ps:set", "deaf", "stop-timeout", "worker=3600"]).success();
    world.paas(&["ps:start", "deaf"]).success();
    world.paas(&["apps:destroy", "deaf", "--force"]).success();
    assert!(world.containers("instance").is_empty());
}

/// The pool of a Celery worker is left to the worker, which waits until its task is done.
#[test]
#[ignore = "slow"]
fn a_celery_worker_finishes_its_task() {
    let world = World::new();
    let tasks = r#"
import os, time
from celery import Celery
for folder in ("/tmp/broker", "/tmp/processed"):
    os.makedirs(folder, exist_ok=True)
app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": "/tmp/broker", "data_folder_out": "/tmp/broker", "processed_folder": "/tmp/processed"}
@app.task
def work():
    print("task began", flush=True)
    time.sleep(14)
    print("task done", flush=True)
if __name__ == "__main__":
    work.delay()
"#;
    let worker = "python3 tasks.py && celery -A tasks worker --concurrency 2 --loglevel info";
    let procfile =
        format!("web: python3 -m http.server $PORT\nworker: exec sh -c '{worker}'\npiped: {worker} 2>&1 | cat\n");
    let files = [("requirements.txt", "celery==5.4.0\n"), ("tasks.py", tasks), ("Procfile", &procfile)];
    let folder = world.repository("celery", &files);
    world.push(&folder).success();
    world.paas(&["ps:set", "celery", "stop-timeout", "30"]).failure().prints("write TYPE=SECONDS, for example web=30");
    world.paas(&["ps:set", "celery", "stop-timeout", "nope=30"]).failure().prints("has no process type nope");
    world.paas(&["ps:set", "celery", "stop-timeout", "nope=default"]).failure().prints("has no process type nope");
    world.paas(&["ps:set", "celery", "stop-timeout", "worker=40", "piped=40"]).success().prints("40 s").prints("10 s");
    world.paas(&["ps:scale", "celery", "worker=1", "piped=1"]).success();
    let both = BTreeMap::from([("worker.1".to_owned(), 1), ("piped.1".to_owned(), 1)]);
    eventually("the tasks begin", || (counts(&world, "celery", "task began") == both).then_some(()));
    let timeouts: BTreeMap<_, _> = world
        .instances("celery")
        .iter()
        .map(|row| (row["name"].as_str().unwrap().to_owned(), row["stop_timeout_seconds"].as_u64().unwrap()))
        .collect();
    assert_eq!((timeouts["worker.1"], timeouts["web.1"]), (40, 10));
    world.paas(&["ps:stop", "celery"]).success();
    eventually("the instances are removed", || world.containers("instance").is_empty().then_some(()));
    assert_eq!(counts(&world, "celery", "task done"), both);
    assert_eq!(counts(&world, "celery", "exited with"), BTreeMap::new(), "no process of the pool was killed");
}

/// An init of the image is the first process. Without one, the image's stop signal reaches the main process, and what it has
/// left behind.
#[test]
fn the_init_and_the_stop_signal_of_an_image_keep_their_meaning() {
    let base = Base::new();
    let world = World::new();
    world.offer(&base);
    let init = "#!/bin/sh\necho \"I am process $$\"\ntrap 'echo asked to end; echo ended well; exit 0' TERM\nwhile :; do sleep 0.1; done\n";
    let folder = world.repository("own-init", &[]);
    write_program(&folder, "init", init);
    let check = r#"{ "healthchecks": { "web": [{ "type": "startup", "uptime": 1 }] } }"#;
    let dockerfile = format!("FROM {}\nCOPY init /init\nENTRYPOINT [\"/init\"]\n", base.0);
    world.commit(&folder, &[("Dockerfile", &dockerfile), ("app.json", check)]);
    world.push(&folder).success();
    all_end_well(&world, "own-init", &["web"], "I am process 1");

    let signal = "trap 'echo asked to end' TERM; trap 'echo asked to end; echo ended well; exit 0' QUIT; echo main $$; while :; do sleep 0.1; done";
    let dockerfile = format!("FROM {}\nSTOPSIGNAL SIGQUIT\nCMD [\"/bin/sh\", \"-c\", {signal:?}]\n", base.0);
    let folder = world.repository("own-signal", &[("Dockerfile", &dockerfile), ("app.json", check)]);
    world.push(&folder).success();
    all_end_well(&world, "own-signal", &["web"], "main ");
}
