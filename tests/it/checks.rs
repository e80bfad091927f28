//! Health checks of `app.json` and of images, on the real engine.

use std::process::Command;

use crate::support::{command::run, images::Base, waiting::eventually, world::World};

/// A web process that serves one host only, as Django and Rails do.
const ONE_HOST: &str = r#"import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        host = (self.headers.get("host") or "").split(":")[0]
        body = b"ok" if host == "shop.example.org" else b"<h1>Bad Request (400)</h1>"
        self.send_response(200 if body == b"ok" else 400)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A release whose app serves one host is checked with that host; without it, the reason names what was sent and what to do.
#[test]
fn a_check_sends_the_headers_that_app_json_names() {
    let world = World::new();
    let with_host = r#"{ "healthchecks": { "web": [ { "type": "startup", "path": "/up", "attempts": 3, "wait": 1,
        "httpHeaders": [ { "name": "Host", "value": "shop.example.org" } ] } ] } }"#;
    let files = [("Procfile", "web: python3 -u server.py"), ("server.py", ONE_HOST), ("app.json", with_host)];
    let folder = world.repository("hosts", &files);
    world.push(&folder).success();
    // A minute, but the answer will not change.
    let without = r#"{ "healthchecks": { "web": [ { "path": "/up", "attempts": 60, "wait": 1, "onFailure": {} } ] } }"#;
    world.commit(&folder, &[("app.json", without)]);
    let printed = world.push(&folder).failure();
    let port = world.url("hosts").rsplit(':').next().unwrap().to_owned();
    printed
        .prints("app.json: healthchecks.web[0].onFailure has no effect: paas runs no command and sends no request")
        .prints("and five times the same response: ")
        .prints(&format!("GET /up on port 8080 with Host 127.0.0.1:{port} got status 400: <h1>Bad Request (400)</h1>"))
        .prints("Django: ALLOWED_HOSTS, Rails: config.hosts")
        .prints("httpHeaders in app.json");
}

/// What a check needs and does not get fails the push, with what came instead.
#[test]
#[ignore = "slow"]
fn content_commands_and_ports_of_checks_decide() {
    let world = World::new();
    world.paas(&["apps:create", "keys"]).success();
    world.paas(&["checks:set", "keys", "attempts", "2"]).success();
    world.paas(&["checks:set", "keys", "wait", "1"]).success();
    let folder = world.repository("keys", &[("Procfile", "web: python3 -m http.server $PORT")]);
    for (check, says) in [
        (
            r#"{ "type": "startup", "path": "/", "content": "never said" }"#,
            r#"got status 200 without the content "never said": it begins with <!DOCTYPE"#,
        ),
        (
            r#"{ "type": "startup", "command": ["false"], "name": "opt", "wait": 2, "attempts": 5 }"#,
            "startup check \"opt\": the command false exited with status 1",
        ),
        (
            r#"{ "type": "startup", "command": ["sh", "-c", "echo no database; exit 3"] }"#,
            "exited with status 3: no database",
        ),
        (
            r#"{ "type": "startup", "command": ["sleep", "100"], "timeout": 0.5 }"#,
            "the command sleep 100 ran for more than 0.5 s",
        ),
        (r#"{ "type": "startup", "command": ["nowhere"] }"#, "the command nowhere exited with status 127"),
        (
            r#"{ "type": "startup", "path": "/", "port": 9999 }"#,
            "nothing accepts connections on port 9999, which the check in app.json names; $PORT is 8080",
        ),
        (r#"{ "type": "startup", "path": "/", "scheme": "https" }"#, "got no valid response: TLS"),
        (r#"{ "type": "readiness", "command": ["false"], "attempts": 60 }"#, "the command false exited with status 1"),
    ] {
        let app_json = format!(r#"{{ "healthchecks": {{ "web": [ {check} ] }} }}"#);
        world.commit(&folder, &[("app.json", &app_json)]);
        world.push(&folder).failure().prints(says);
    }
    let listening = r#"{ "healthchecks": { "web": [ { "path": "/", "content": "Procfile", "name": "list" }, { "command": ["true"] },
        { "listening": true }, { "path": "/gone", "warn": true, "attempts": 1 } ] } }"#;
    world.commit(&folder, &[("app.json", listening)]);
    world.push(&folder).success().prints("web.1: startup check: GET /gone on port 8080");
    let ran = world.paas(&["checks:run", "keys"]).success();
    let listed = ran.prints("warning").prints("list");
    assert_eq!(listed.out.matches("passed").count(), 3, "{}", listed.out);

    // A release that could not pass is live at once when its checks are skipped.
    world.commit(&folder, &[("app.json", r#"{ "healthchecks": { "web": [ { "command": ["false"] } ] } }"#)]);
    world.push(&folder).failure();
    world.paas(&["checks:skip", "keys", "web"]).success().prints("skipped");
    world.push(&folder).success().prints("health checks of web are skipped; checks:enable keys web has them made");
    let failed = world.paas(&["checks:run", "keys", "web.1"]).failure();
    assert_eq!(failed.code, Some(1));
    failed.prints("the command false exited with status 1").prints("1 of 1 health checks of keys failed");
    world.paas(&["checks:run", "keys", "web.7"]).failure().prints("keys has no healthy instance web.7; healthy: web.1");

    // A command whose check is given up is killed.
    let hangs =
        r#"{ "healthchecks": { "web": [ { "type": "liveness", "command": ["sleep", "4711"], "timeout": 300 } ] } }"#;
    world.commit(&folder, &[("app.json", hangs)]);
    world.paas(&["checks:enable", "keys"]).success();
    world.push(&folder).success();
    let sleeps = || {
        // The one before may end in this moment.
        let runs = |id: &String| run(Command::new("docker").args(["top", id])).out.contains("sleep 4711");
        world.running_containers("instance").iter().any(runs)
    };
    eventually("the command runs", || sleeps().then_some(()));
    world.paas(&["checks:skip", "keys"]).success();
    eventually("the command is killed", || (!sleeps()).then_some(()));
    world.paas(&["ps:stop", "keys"]).success();
    eventually("the instance is removed", || world.containers("instance").is_empty().then_some(()));
    let none = world.paas(&["checks:run", "keys"]).failure();
    none.prints("keys has no healthy instance to check; start it with ps:start, or push");
}

/// A web process that hangs when its instance has the file `hang`, and is not ready when it has the file `busy`.
const MOODY: &str = r#"import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if os.path.exists("/tmp/hang"):
            time.sleep(1000)
        busy = self.path == "/ready" and os.path.exists("/tmp/busy")
        body = os.environ["PAAS_PROCESS"].encode()
        self.send_response(503 if busy else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// An instance that is not ready gets no requests, one that hangs is restarted.
#[test]
fn running_instances_are_checked() {
    let world = World::new();
    let app_json = r#"{ "formation": { "web": { "quantity": 2 } }, "healthchecks": { "web": [
        { "path": "/", "wait": 1 }, { "type": "readiness", "path": "/ready", "wait": 1, "attempts": 2 },
        { "type": "liveness", "path": "/live", "wait": 1, "attempts": 2, "timeout": 1, "initialDelay": 2 },
        { "type": "readiness", "path": "/ready", "name": "calm", "wait": 1, "attempts": 1, "warn": true } ] } }"#;
    let files = [("Procfile", "web: python3 -u server.py"), ("server.py", MOODY), ("app.json", app_json)];
    let folder = world.repository("moody", &files);
    world.push(&folder).success();
    let url = world.url("moody");
    let touch = |instance: &serde_json::Value, words: &[&str]| {
        let id = instance["id"].as_str().unwrap();
        run(Command::new("docker").args(["exec", id]).args(words)).success();
    };
    let state = |n: usize| world.instances("moody")[n]["state"].as_str().unwrap().to_owned();
    let answering = || {
        let mut names: Vec<_> = (0..8).map(|_| world.get(&url).map_or_else(|e| e, |(_, body)| body)).collect();
        names.sort();
        names.dedup();
        names
    };
    let first = world.instances("moody");
    assert_eq!(first.len(), 2);
    touch(&first[0], &["touch", "/tmp/busy"]);
    eventually("web.1 is unready", || (state(0) == "unready").then_some(()));
    eventually("only web.2 gets requests", || (answering() == ["web.2"]).then_some(()));
    let failed = world.paas(&["checks:run", "moody"]).failure();
    let failed = failed.prints("GET /ready on port 8080 with Host 127.0.0.1:").prints("got status 503: web.1");
    assert_eq!(failed.out.matches("failed").count(), 1, "{}", failed.out);
    world.paas(&["checks:run", "moody", "web.2"]).success();

    touch(&first[1], &["touch", "/tmp/busy"]);
    eventually("web.2 is unready, too", || (state(1) == "unready").then_some(()));
    eventually("both get requests again, since none is ready", || (answering() == ["web.1", "web.2"]).then_some(()));
    touch(&first[0], &["rm", "/tmp/busy"]);
    touch(&first[1], &["rm", "/tmp/busy"]);
    eventually("both are ready", || (state(0) == "healthy" && state(1) == "healthy").then_some(()));

    touch(&first[1], &["touch", "/tmp/hang"]);
    eventually("web.2 is restarted", || {
        let now = world.instances("moody");
        let replaced = now.iter().find(|row| row["name"] == "web.2" && row["id"] != first[1]["id"]);
        replaced.filter(|row| row["state"] == "healthy" && row["restarts"] == 1).map(drop)
    });
    assert!(world.instances("moody").iter().any(|row| row["id"] == first[0]["id"]), "web.1 was not restarted");
    world
        .paas(&["logs", "moody", "--num", "200"])
        .success()
        .prints("Not ready: readiness check: GET /ready")
        .prints("Warning: readiness check \"calm\": GET /ready on port 8080")
        .prints("Passes again: readiness check \"calm\": GET /ready on $PORT")
        .prints("No web instance is ready: all get requests until one is")
        .prints("Failed its liveness check: GET /live on port 8080");
    world.paas(&["checks:report", "moody"]).success().prints("GET /live on $PORT");
}

/// The `HEALTHCHECK` of an image is ours: the engine does not run it.
#[test]
#[ignore = "slow"]
fn the_health_check_of_an_image_decides() {
    let base = Base::new();
    let world = World::new();
    world.offer(&base);
    let dockerfile = |check: &str| {
        format!("FROM {}\nCOPY page /www\nEXPOSE 3000\n{check}\nCMD exec httpd -f -p $PORT -h /www\n", base.0)
    };
    let check = "HEALTHCHECK --interval=5s --timeout=2s CMD test -f /www/index.html";
    let folder = world.repository("image", &[("page/index.html", "hello"), ("Dockerfile", &dockerfile(check))]);
    world
        .push(&folder)
        .success()
        .prints("Health check of web: HEALTHCHECK of the image (/bin/sh -c test -f /www/index.html)");
    world.answers(&world.url("image"), "hello");
    world.paas(&["checks:run", "image"]).success().prints("HEALTHCHECK");
    let instance = world.running_containers("instance").remove(0);
    let format = "{{json .State.Health}} {{json .Config.Healthcheck.Test}}";
    let inspected = run(Command::new("docker").args(["inspect", "--format", format, &instance])).success().out;
    assert!(["null [\"NONE\"]", "null null"].contains(&inspected.trim()), "{inspected}");

    world.commit(&folder, &[("Dockerfile", &dockerfile("HEALTHCHECK --interval=1s CMD echo not today; exit 1"))]);
    let app_json = r#"{ "healthchecks": { "web": [ { "path": "/", "wait": 1 } ] } }"#;
    world.commit(&folder, &[("app.json", app_json)]);
    world.push(&folder).success().prints("HEALTHCHECK of the image is not used for web: app.json has health checks");
    world.commit(&folder, &[("app.json", "{}")]);
    world.push(&folder).failure().prints("exited with status 1: not today");
}

/// A web process that speaks TLS, with a certificate that nobody issued.
const OVER_TLS: &str = r#"import http.server, os, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("pair.pem")
server = http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// A check over HTTPS accepts the certificate that the app has.
#[test]
fn a_check_over_https_needs_no_issued_certificate() {
    let world = World::new();
    let app_json = r#"{ "healthchecks": { "web": [ { "path": "/", "scheme": "https", "content": "Procfile", "attempts": 30, "wait": 1 } ] } }"#;
    let files = [("Procfile", "web: python3 -u server.py"), ("server.py", OVER_TLS), ("app.json", app_json)];
    let folder = world.repository("secure", &files);
    let pair = folder.join("pair.pem");
    let make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=nobody -keyout \"$0\" -out cert.pem && \
                cat cert.pem >> \"$0\" && rm cert.pem";
    run(Command::new("sh").current_dir(&folder).args(["-c", make]).arg(&pair)).success();
    world.commit(&folder, &[]);
    world.push(&folder).success();
    world.paas(&["checks:run", "secure"]).success().prints("GET / on $PORT over TLS");
}
