//! What a running app gets, and what is said of one that does not run: line ends, listeners, memory, log lines.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use crate::support::{command::run, images::Base, waiting::eventually, world::World};

#[test]
fn scripts_with_windows_line_ends_are_converted_or_named() {
    let base = Base::new();
    let world = World::new();
    world.offer(&base);
    let files =
        [("Procfile", "web: sh ./start.sh\n"), ("start.sh", "set -e\r\nexec python3 -m http.server \"$PORT\"\r\n")];
    let folder = world.repository("windows", &files);
    world.git(&folder, &["config", "core.autocrlf", "false"]).success();
    world.push(&folder).success().prints("start.sh has Windows line ends (CRLF)").prints("start.sh text eol=lf");
    world.answers(&world.url("windows"), "start.sh");

    let folder = world.repository("boxed", &[]);
    fs::write(folder.join("entrypoint.sh"), "#!/bin/sh\r\nexec httpd -f -p 8080\r\n").unwrap();
    fs::set_permissions(folder.join("entrypoint.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let dockerfile = format!("FROM {}\nCOPY entrypoint.sh /entrypoint.sh\nENTRYPOINT [\"/entrypoint.sh\"]\n", base.0);
    world.commit(&folder, &[("Dockerfile", &dockerfile)]);
    world.push(&folder).failure().prints("exited with status 82: /entrypoint.sh has Windows line ends (CRLF)");
}

#[test]
fn files_as_windows_editors_save_them_are_read() {
    let world = World::new();
    let app_json = "\u{feff}{ \"formation\": { \"web\": { \"quantity\": 2 } } }";
    let files = [
        ("app.json", app_json),
        ("bin/serve", "set -e\r\nexec python3 -m http.server \"$PORT\"\r\n"),
        ("static.json", "\u{feff}{\"root\": \".\"}"),
    ];
    let folder = world.repository("notepad", &files);
    let procfile = "\u{feff}web: sh bin/serve\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    fs::write(folder.join("Procfile"), procfile).unwrap();
    world.git(&folder, &["config", "core.autocrlf", "false"]).success();
    world.commit(&folder, &[("index.html", "saved")]);
    let pushed = world.push(&folder).success().prints("UTF-16 text was converted to UTF-8 (Procfile)");
    pushed
        .prints("A byte order mark was removed (app.json, static.json)")
        .prints("bin/serve has Windows line ends (CRLF)");
    world.answers(&world.url("notepad"), "saved");
    assert_eq!(world.instances("notepad").len(), 2);
}

#[test]
fn the_cause_of_a_failed_start_is_taken_from_the_log() {
    let world = World::new();
    let load = "web: python3 -c 'import ctypes; ctypes.CDLL(\"libnone.so.9\")'\n";
    let folder = world.repository("library", &[("Procfile", load), ("index.html", "")]);
    let missing = "it exited with status 1: the library libnone.so.9 is not in the image";
    world.push(&folder).failure().prints(missing).prints("add the Debian package that has it to a file named Aptfile");
    world.commit(&folder, &[("Procfile", "web: nonesuch --port $PORT\n")]);
    world
        .push(&folder)
        .failure()
        .prints("it exited with status 127: the command nonesuch was not found")
        .prints("correct it in the Procfile");
}

#[test]
fn a_listener_of_ipv6_only_is_named_as_such() {
    let world = World::new();
    let server = r#"
import os, socket
s = socket.socket(socket.AF_INET6); s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(os.environ.get("ONLY", "1")))
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("::", int(os.environ["PORT"]))); s.listen()
while True:
    c, _ = s.accept(); c.recv(9999); c.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"); c.close()
"#;
    let check = r#"{ "healthchecks": { "web": [{ "attempts": 6, "wait": 1 }] } }"#;
    let files = [("Procfile", "web: python3 -u server.py\n"), ("server.py", server), ("app.json", check)];
    let folder = world.repository("six", &files);
    world.push(&folder).failure().prints("of IPv6 only").prints("make it listen on 0.0.0.0");
    world.paas(&["config:set", "six", "ONLY=0"]).success();
    world.commit(&folder, &[]);
    world.push(&folder).success();
    world.answers(&world.url("six"), "ok");
}

/// The kernel kills a child of an instance that goes on, also while no server runs.
#[test]
fn an_out_of_memory_kill_of_any_process_is_reported() {
    let mut world = World::with("[instances]\nmemory_mib = 64\n");
    let procfile = "web: exec python3 -m http.server $PORT\nhungry: python3 -c 'x = bytearray(10**9)'; echo \"child $?\"; exec sleep 1000\n";
    let folder = world.repository("memory", &[("Procfile", procfile)]);
    world.push(&folder).success();
    world.paas(&["ps:scale", "memory", "hungry=1"]).success();
    let event = "paas[hungry.1]: A process was killed: out of memory (limit 64 MiB)";
    eventually("the kill is reported", || world.paas(&["logs", "memory"]).success().out.contains(event).then_some(()));
    let kills: Vec<_> =
        world.instances("memory").iter().map(|row| (row["name"].clone(), row["oom_kills"].clone())).collect();
    assert_eq!(kills, [("hungry.1".into(), 1.into()), ("web.1".into(), 0.into())]);
    let log = world.paas(&["logs", "memory"]).success().out;
    assert!(log.contains("app[hungry.1]: child 137"), "{log}");

    world.kill_server();
    let instances = world.containers("instance");
    let hungry = instances.iter().find(|name| name.contains("-hungry-")).unwrap();
    run(Command::new("docker").args(["exec", hungry, "python3", "-c", "x = bytearray(10**9)"])).failure();
    world.start_server();
    eventually("the kill is reported", || {
        let log = world.paas(&["logs", "memory"]).success().out;
        log.contains(&format!("{event}; 2 processes of the instance so far")).then_some(())
    });
}

/// Lines of any length and any bytes, and one without an end, while the instance runs and after it.
#[test]
fn log_lines_arrive_whole() {
    let world = World::new();
    let script = r#"
import sys
out = sys.stdout.buffer
out.write(b"x" + "é".encode() * 30000 + b"\n")
out.write(b"y" * 300000 + b"end\n")
out.write(b"bytes \xff\xfe\x00 and 10%\r20%\n")
out.write(b"not ended")
out.flush()
"#;
    let procfile = "web: exec python3 -m http.server $PORT\nprints: python3 print.py; exec sleep 1000\n";
    let folder = world.repository("lines", &[("Procfile", procfile), ("print.py", script)]);
    world.push(&folder).success();
    world.paas(&["ps:scale", "lines", "prints=1"]).success();
    let texts = || -> Vec<String> {
        let log = world.paas(&["logs", "lines", "--ps", "prints", "--format", "json"]).success();
        let printed = log.json_lines().into_iter().filter(|line| line["event"] == false);
        let mut texts = vec![String::new()];
        for line in printed {
            texts.last_mut().unwrap().push_str(line["text"].as_str().unwrap());
            if line["partial"] == false {
                texts.push(String::new());
            }
        }
        texts.pop();
        texts
    };
    let long = ["x".to_owned() + &"é".repeat(30_000), "y".repeat(300_000) + "end"];
    let bytes = "bytes \u{fffd}\u{fffd}\0 and 10%\r20%".to_owned();
    eventually("the lines are in the log", || (texts().len() == 3).then_some(()));
    assert!(texts()[..2] == long, "{:?}", texts().iter().map(String::len).collect::<Vec<_>>());
    assert_eq!(texts()[2], bytes);
    let plain = world.paas(&["logs", "lines", "--ps", "prints", "--quiet"]).success().out;
    for line in &long {
        assert!(plain.lines().any(|printed| printed == line), "a line is cut");
    }
    world.paas(&["ps:stop", "lines"]).success();
    eventually("the instances are removed", || world.containers("instance").is_empty().then_some(()));
    assert!(texts()[..2] == long && texts()[2] == bytes);
    assert_eq!(texts()[3..], ["not ended"]);
}

/// The app learns what it is; the longest name works, and so does an internationalized one.
#[test]
fn the_environment_names_app_release_and_commit() {
    let world = World::new();
    let print =
        "web: env | grep -E '^(GIT_REV|SOURCE_VERSION|PAAS_)' | sort > index.html; exec python3 -m http.server $PORT";
    for app in ["1".repeat(63).as_str(), "xn--bcher-kva", "a--b"] {
        let folder = world.repository(app, &[("Procfile", print)]);
        world.push(&folder).success();
        let commit = world.git(&folder, &["rev-parse", "HEAD"]).success().out.trim().to_owned();
        let expected =
            format!("GIT_REV={commit}\nPAAS_APP={app}\nPAAS_PROCESS=web.1\nPAAS_RELEASE=v1\nSOURCE_VERSION={commit}\n");
        world.answers(&world.url(app), &expected);
        assert_eq!(world.paas(&["run", app, "printenv", "GIT_REV"]).success().out.trim(), commit);
        world.paas(&["config:set", app, "GIT_REV=mine"]).success();
        assert_eq!(
            world.paas(&["run", app, "printenv", "GIT_REV", "SOURCE_VERSION"]).success().out,
            format!("mine\n{commit}\n")
        );
    }
}
