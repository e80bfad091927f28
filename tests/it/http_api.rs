//! The HTTP API, as a CI job with curl uses it.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::support::{
    api::{Api, Response},
    command::{repository_root, run},
    python::environment,
    waiting::eventually,
    world::World,
};

/// "The load is coming, I need seven instances."
#[test]
fn an_app_is_created_scaled_configured_and_rolled_back_over_http() {
    let world = World::new();
    let api = world.api();
    let created = api.json("POST", "/v1/apps", &json!({ "app": "my-app" }));
    assert_eq!(created.with(201)["name"], "my-app");
    let show = "web: mkdir -p /tmp/s && echo \"says:$SAYS:\" > /tmp/s/index.html && exec python3 -m http.server --directory /tmp/s $PORT";
    let folder = world.repository("my-app", &[("Procfile", show)]);
    world.push(&folder).success();
    let accepted = api.json("PATCH", "/v1/apps/my-app/formation", &json!({ "web": 7 }));
    let ended = api.ended(&accepted);
    assert_eq!((&ended["state"], &ended["operation"]), (&json!("succeeded"), &json!("ps:scale")), "{ended}");
    assert_eq!(ended["result"], json!({ "app": "my-app", "stopped": false, "formation": { "web": 7 }, "healthy": 7 }));
    let instances = api.get("/v1/apps/my-app/instances").with(200);
    assert_eq!(instances.as_array().unwrap().len(), 7);

    let set = api.send(
        "PATCH",
        "/v1/apps/my-app/config-vars",
        &["-H", "Prefer: wait=60", "--json", r#"{"SAYS": "hello", "NO": null}"#],
    );
    assert_eq!(set.headers["preference-applied"], "wait=60");
    assert_eq!(set.with(200), json!({ "app": "my-app", "release": 2, "set": ["SAYS"], "unset": ["NO"] }));
    world.answers(&world.url("my-app"), "says:hello:");
    let vars = api.get("/v1/apps/my-app/config-vars").with(200);
    assert_eq!(vars, json!([{ "name": "SAYS", "value": "hello", "build": false }]));
    let unset =
        api.send("DELETE", "/v1/apps/my-app/config-vars?names=SAYS&no_restart=true", &["-H", "Prefer: wait=60"]);
    assert_eq!(unset.with(200)["unset"], json!(["SAYS"]));
    let rolled =
        api.send("POST", "/v1/apps/my-app/releases", &["-H", "Prefer: wait=60", "--json", r#"{"release": 1}"#]);
    assert_eq!(rolled.with(200), json!({ "app": "my-app", "release": 3 }));
    world.answers(&world.url("my-app"), "says::");

    // Pages of releases, by their links.
    let mut path = "/v1/apps/my-app/releases?limit=2".to_owned();
    let mut numbers = Vec::new();
    loop {
        let page = api.get(&path);
        numbers.extend(page.with(200).as_array().unwrap().iter().map(|row| row["release"].as_u64().unwrap()));
        let Some(link) = page.headers.get("link") else { break };
        path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    assert_eq!(numbers, [3, 2, 1]);
    let destroyed = api.send("DELETE", "/v1/apps/my-app?confirm=my-app", &["-H", "Prefer: wait=60"]);
    assert_eq!(destroyed.with(200)["name"], "my-app");
    api.get("/v1/apps/my-app").problem(404, "not_found", "there is no app named my-app");
    let log = fs::read_to_string(world.dir().join("server.log")).unwrap();
    assert!(log.contains(&accepted.headers["x-request-id"]), "the log has the identity of a request");
    let events = world.paas(&["events", "--format", "json"]).success().out;
    let scaled = events.lines().find(|line| line.contains("ps:scale")).unwrap();
    let scaled: Value = serde_json::from_str(scaled).unwrap();
    assert_eq!((&scaled["door"], &scaled["detail"], &scaled["user"]), (&json!("http"), &json!("web=7"), &json!("dev")));
}

/// Progress, logs and results come as server-sent events or as lines of JSON.
#[test]
fn progress_and_logs_are_streamed() {
    let world = World::new();
    let api = world.api();
    let folder = world.repository("s", &[("Procfile", "web: echo at work; exec python3 -m http.server $PORT")]);
    world.push(&folder).success();
    let events = api.send(
        "PATCH",
        "/v1/apps/s/formation",
        &["-N", "-H", "Accept: text/event-stream", "--json", r#"{"web": 2}"#],
    );
    assert_eq!((events.status, &*events.headers["content-type"]), (200, "text/event-stream"));
    let first = "event: progress\ndata: {\"kind\":\"step\",\"text\":\"Scaling s to web=2\"}\n\n";
    assert!(events.body.starts_with(first), "{}", events.body);
    assert!(events.body.contains("event: result\ndata: {\"app\":\"s\",\"stopped\":false"), "{}", events.body);
    let lines = api.send("POST", "/v1/apps/s/restart", &["-H", "Accept: application/x-ndjson", "--json", "{}"]);
    let lines: Vec<Value> = lines.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["kind"], "step");
    assert_eq!(lines.last().unwrap()[0]["healthy"], 2, "{lines:?}");
    let failed =
        api.send("PATCH", "/v1/apps/s/formation", &["-H", "Accept: text/event-stream", "--json", r#"{"clock": 2}"#]);
    assert!(failed.body.contains("event: error\ndata: {\"kind\":\"not_found\""), "{}", failed.body);

    let logs = api.get("/v1/apps/s/logs?type=web.1").with(200);
    assert!(logs.as_array().unwrap().iter().any(|line| line["text"] == "at work"), "{logs}");
    let mut tail = api.curl("GET", "/v1/apps/s/logs?tail=true", &["-N"]);
    let mut tail = tail.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut read = std::io::BufRead::lines(std::io::BufReader::new(tail.stdout.take().unwrap()));
    let mut until = |text: &str| read.by_ref().map(Result::unwrap).find(|line| line.contains(text)).unwrap();
    until("at work");
    api.send("POST", "/v1/apps/s/restart", &["--json", "{}", "-H", "Prefer: wait=60"]).with(200);
    until("at work");
    // The token is revoked: the stream ends with the reason.
    world.ssh(&["tokens:revoke", "laptop"]).success();
    until("the token was revoked");
    assert!(tail.wait().unwrap().success());
    api.get("/v1/apps").problem(401, "denied", "the token is invalid, was revoked, or has expired");
}

/// What is wrong with a request is told as a problem, and nothing of it is ignored.
#[test]
fn bad_requests_are_told_what_is_wrong() {
    let world = World::with("[http]\nmax_upload_mib = 1\n");
    let api = world.api();
    world.paas(&["apps:create", "a"]).success();
    let patch = |body: &str| api.send("PATCH", "/v1/apps/a/formation", &["--json", body]);
    patch("{").problem(400, "invalid", "the body is not valid JSON");
    patch(r#"{"web": 1, "web": 2}"#).problem(400, "invalid", "two members of one name");
    patch("").problem(400, "invalid", "a body is needed");
    patch("[1]").problem(422, "invalid", "quantities: invalid type");
    patch(r#"{"web": "7"}"#).problem(422, "invalid", "quantities.web: invalid type: string \"7\", expected u32");
    patch(r#"{"web": -1}"#).problem(422, "invalid", "quantities.web: invalid value: integer `-1`");
    patch(r#"{"Bad Type": 1}"#).problem(422, "invalid", "is not a valid process type");
    patch("{}").problem(422, "invalid", "give at least one, such as web=3");
    api.json("POST", "/v1/apps", &json!({ "app": "b", "colour": "red" })).problem(
        400,
        "invalid",
        "there is no field colour; apps:create has: app",
    );
    api.json("POST", "/v1/apps?app=b", &json!({})).problem(400, "invalid", "app belongs into the body");
    api.json("PUT", "/v1/apps/a/git", &json!({})).problem(405, "invalid", "no such method");
    api.get("/v1/apps/a/logs?colour=red").problem(
        400,
        "invalid",
        "there is no parameter colour; logs has: num, since, tail, type",
    );
    api.get("/v1/apps/a/logs?num=many").problem(422, "invalid", "num: invalid type");
    api.get("/v1/apps/a/logs?tail=true&tail=true").problem(400, "invalid", "tail is given twice");
    api.get("/v1/apps/Bad%20Name").problem(422, "invalid", "is not a valid app name");
    api.get("/v1/apps/%ff").problem(400, "invalid", "path");
    api.get("/v1/nothing").problem(404, "not_found", "there is nothing at this path");
    api.get("/v1/apps?limit=0").problem(400, "invalid", "limit is a number from 1 to 1000");
    api.get("/v1/apps/a/releases?cursor=x").problem(400, "invalid", "the cursor is a number");
    api.send("GET", "/v1/apps", &["-H", "Accept: text/html"]).problem(406, "invalid", "accept one of them");
    api.send("GET", "/v1/apps", &["--json", "{}"]).problem(400, "invalid", "takes no body");
    api.send("PATCH", "/v1/apps/a/formation", &["-d", "{\"web\":1}"]).problem(
        415,
        "invalid",
        "Content-Type: application/json",
    );
    let large = vec![b' '; 3 << 20];
    api.send_body("PATCH", "/v1/apps/a/formation", &["-H", "Content-Type: application/json"], &large).problem(
        413,
        "invalid",
        "the body has more than 2 MiB",
    );
    api.send_body("POST", "/v1/images?name=x", &[], &large).problem(413, "invalid", "the body has more than 1 MiB");
    let deep = "[".repeat(100_000);
    api.send_body("POST", "/v1/apps", &["-H", "Content-Type: application/json"], deep.as_bytes()).problem(
        400,
        "invalid",
        "recursion limit",
    );
    // CORS is off: a page in a browser gets no permission.
    let preflight = ["-H", "Origin: https://example.org", "-H", "Access-Control-Request-Method: POST"];
    let preflight = api.send("OPTIONS", "/v1/apps", &preflight);
    assert!(!preflight.headers.keys().any(|name| name.starts_with("access-control")), "{preflight:?}");
    assert_eq!(preflight.status, 405);
    let document = api.get("/v1/openapi.json").with(200);
    assert_eq!(document["openapi"], "3.1.0");
}

/// Tokens give the rights of their user, or of one app and one role, until they expire or are revoked.
#[test]
fn tokens_are_limited_to_apps_roles_and_times() {
    let world = World::with("[http]\nrequests_per_minute = 40\n");
    for app in ["mine", "other"] {
        world.paas(&["apps:create", app]).success();
    }
    let ci = world.api_with(&["ci", "--app", "mine", "--role", "deployer", "--expires", "90d"]);
    assert_eq!(ci.get("/v1/apps").with(200).as_array().unwrap().len(), 1);
    ci.get("/v1/apps/mine").with(200);
    ci.get("/v1/apps/other").problem(404, "not_found", "there is no app named other");
    let patch = ["--json", r#"{"web": 2}"#];
    ci.send("PATCH", "/v1/apps/mine/formation", &patch).problem(
        403,
        "denied",
        "ps:scale needs the role operator, and this token is limited to deployer",
    );
    ci.json("POST", "/v1/apps", &json!({ "app": "new" })).problem(
        403,
        "denied",
        "this token is limited to an app or a role",
    );
    ci.json("POST", "/v1/tokens", &json!({ "name": "more" })).problem(403, "denied", "this token is limited");
    ci.get("/v1/users").problem(403, "denied", "");
    assert_eq!(ci.get("/v1/account").with(200)["admin"], false);
    let viewer = world.api_with(&["viewer", "--role", "viewer"]);
    assert_eq!(viewer.get("/v1/apps").with(200).as_array().unwrap().len(), 2);
    viewer.get("/v1/apps/mine/config-vars").problem(403, "denied", "limited to viewer");
    let brief = world.api_with(&["brief", "--expires", "1s"]);
    eventually("the token has expired", || (brief.get("/v1/apps").status == 401).then_some(()));
    let listed = world.ssh(&["tokens:list", "--format", "json"]).success().json();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["brief", "ci", "viewer"]);
    assert!(listed[1]["last_used_at"].is_string() && !listed.to_string().contains("paas_"), "{listed}");
    // A database that leaks gives no token away.
    for name in ["paas.db", "paas.db-wal"] {
        let bytes = fs::read(world.data().join(name)).unwrap_or_default();
        let token = ci.token.as_bytes();
        assert!(!bytes.windows(token.len()).any(|window| window == token), "{name}");
    }
    let anonymous = Api { base: ci.base.clone(), token: String::new() };
    anonymous.get("/v1/apps").problem(401, "denied", "a token is needed");
    anonymous.send("GET", "/v1/apps", &["-u", "x:y"]).problem(401, "denied", "the token is invalid");
    world.ssh(&["tokens:create", "ci"]).failure().prints("there is a token named ci already");
    world.ssh(&["tokens:create", "x", "--expires", "soon"]).failure().prints("is not a length of time");
    world.ssh(&["tokens:create", "x", "--app", "nowhere"]).failure().prints("there is no app named nowhere");
    world.ssh(&["apps:destroy", "mine", "--force"]).success();
    ci.get("/v1/apps").problem(401, "denied", "");
    let limited = (0..60).map(|_| viewer.get("/v1/version")).find(|response| response.status == 429).unwrap();
    limited.problem(429, "too_many", "http.requests_per_minute");
    assert!(limited.headers["retry-after"].parse::<u64>().unwrap() >= 1);
    let other = world.api_with(&["other"]);
    other.get("/v1/version").with(200);
}

/// What is sent again with the same key is done once; what was changed meanwhile is not overwritten.
#[test]
fn requests_are_repeated_and_changes_are_not_lost() {
    let mut world = World::new();
    let api = world.api();
    let create = |key: &str, app: &str| {
        let (key, body) = (format!("Idempotency-Key: {key}"), json!({ "app": app }).to_string());
        api.send("POST", "/v1/apps", &["-H", &key, "--json", &body])
    };
    create("one", "a").with(201);
    let again = create("one", "a");
    assert_eq!((again.status, &*again.headers["idempotency-replayed"]), (201, "true"));
    create("two", "a").problem(409, "conflict", "a");
    create("one", "b").problem(409, "conflict", "was sent with another request");
    let token = ["-H", "Idempotency-Key: t", "--json", r#"{"name": "made"}"#];
    let (first, second) = (api.send("POST", "/v1/tokens", &token), api.send("POST", "/v1/tokens", &token));
    assert_eq!(first.with(201)["token"], second.with(201)["token"], "a token that was not received is shown again");
    let bytes = fs::read(world.data().join("paas.db-wal")).unwrap();
    let made = first.json()["token"].as_str().unwrap().to_owned();
    assert!(!bytes.windows(made.len()).any(|window| window == made.as_bytes()), "stored responses are encrypted");

    let folder = world.repository("a", &[("Procfile", "web: exec python3 -m http.server $PORT")]);
    world.push(&folder).success();
    let formation = api.get("/v1/apps/a/formation");
    let tag = formation.headers["etag"].clone();
    let unchanged = api.send("GET", "/v1/apps/a/formation", &["-H", &format!("If-None-Match: {tag}")]);
    assert_eq!((unchanged.status, &*unchanged.body), (304, ""));
    let scale = |tag: &str, web: u32| {
        let body = json!({ "web": web }).to_string();
        api.send(
            "PATCH",
            "/v1/apps/a/formation",
            &["-H", &format!("If-Match: {tag}"), "-H", "Prefer: wait=60", "--json", &body],
        )
    };
    scale(&tag, 2).with(200);
    scale(&tag, 3).problem(412, "conflict", "it was changed meanwhile");
    assert_eq!(api.get("/v1/apps/a/formation").with(200)["formation"]["web"], 2);
    // Two that write the same thing: one of them wins.
    let tag = api.get("/v1/apps/a/formation").headers["etag"].clone();
    let statuses = std::thread::scope(|scope| {
        let (scale, tag) = (&scale, &tag);
        let both = [3, 4].map(|web| scope.spawn(move || scale(tag, web).status));
        both.map(|thread| thread.join().unwrap())
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");

    // A client that leaves does not end what goes on; a server that dies says so.
    let accepted = api.json("PATCH", "/v1/apps/a/formation", &json!({ "web": 1 }));
    assert_eq!(api.ended(&accepted)["state"], "succeeded");
    let other = world.api_with(&["other"]);
    other.get(&accepted.headers["location"]).problem(404, "not_found", "no such operation of this token");
    world.kill_server();
    world.start_server();
    assert_eq!(
        api.get(&accepted.headers["location"]).with(200)["result"]["healthy"],
        1,
        "the result outlives the server"
    );
    assert_eq!(create("one", "a").status, 201, "so does the key");
}

/// On the server's own machine, the Unix socket needs no token.
#[test]
fn the_unix_socket_is_the_admins() {
    let world = World::new();
    let socket = world.data().join("http.sock");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-i", "--unix-socket"]).arg(&socket).arg("http://localhost/v1/account");
    let account = Response::read(&run(&mut curl).success().out).with(200);
    assert_eq!(account, json!({ "name": "local", "admin": true, "machine": false, "fingerprint": null }));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// Version of the program that looks for faults of an API by its document.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Version of the program that generates a client from the document.
const GENERATOR: &str = "openapi-python-client==0.29.1";

/// Operations whose valid input no schema tells exactly: a tar, a name that is repeated, canonical base64, names that must
/// differ, limits of the configuration.
const BEYOND_SCHEMAS: &str = "storage_import|apps_destroy|storage_destroy|bindings_add|quota_set|run_detached|builds_set|checks_set|ports_.*|ps_set|resource_.*|ssh_keys_add";

/// Operations that bootstrap a stack, fetch or read an archive: minutes for each input.
const SLOW: &str = "stacks_create|stacks_update|buildpacks_install|images_offer";

/// What the document promises holds for thousands of requests, valid and invalid.
#[test]
#[ignore = "slow: thousands of requests"]
fn the_api_is_as_its_document_says() {
    let world = World::with("[http]\nrequests_per_minute = 1000000\n");
    let api = world.api();
    for app in ["a", "0"] {
        world.paas(&["apps:create", app]).success();
    }
    let folder = world.dir().join("schemathesis");
    fs::create_dir(&folder).unwrap();
    for name in ["formats.py", "schemathesis.toml"] {
        fs::copy(repository_root().join("tests/it/http_api").join(name), folder.join(name)).unwrap();
    }
    let program = environment(&[SCHEMATHESIS]).join("schemathesis");
    let test = |more: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(&folder).args(["--config-file", "schemathesis.toml", "run"]);
        command
            .arg(format!("{}/v1/openapi.json", api.base))
            .args(["-H", &format!("Authorization: Bearer {}", api.token)]);
        command.args([
            "-c",
            "all",
            "--phases",
            "examples,coverage,fuzzing",
            "-n",
            "15",
            "--seed",
            "19",
            "--continue-on-failure",
        ]);
        command.args(["--no-color", "--warnings", "off", "--exclude-operation-id-regex", SLOW]).args(more);
        run(&mut command).success()
    };
    let exact = test(&["--exclude-operation-id-regex", &format!("{SLOW}|{BEYOND_SCHEMAS}")]);
    exact.prints("No issues found");
    test(&["--include-operation-id-regex", BEYOND_SCHEMAS, "--exclude-checks", "positive_data_acceptance"]);
}

/// A client that is generated from the document does the work of a CI job.
#[test]
#[ignore = "slow: a client is generated and installed"]
fn a_generated_client_deploys_scales_and_rolls_back() {
    let world = World::new();
    let api = world.api();
    let folder = world.repository("app", &[("Procfile", "web: exec python3 -m http.server $PORT")]);
    world.push(&folder).success();
    world.push_again(&folder).success();
    let bin = environment(&[GENERATOR]);
    let made = world.dir().join("client");
    fs::create_dir(&made).unwrap();
    let document = repository_root().join("docs/openapi.json");
    let mut generate = Command::new(bin.join("openapi-python-client"));
    generate.current_dir(&made).args(["generate", "--meta", "none", "--output-path", "paas_client", "--path"]);
    let generated = run(generate.arg(document)).success().all();
    for trouble in ["WARNING", "Unable"] {
        assert!(!generated.contains(trouble), "every operation has a function: {generated}");
    }
    assert!(made.join("paas_client/api/ps/ps_scale.py").exists(), "{generated}");
    let script = repository_root().join("tests/it/http_api/client.py");
    let mut client = Command::new(bin.join("python"));
    client.env("PYTHONPATH", &made).arg(script).args([&api.base, &api.token]);
    run(&mut client).success().prints("[3, 2, 1]");
}
