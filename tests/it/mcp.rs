//! The Model Context Protocol over ssh: line by line, and with the official Python SDK as client.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use serde_json::{Value, json};

use crate::support::{
    apps::version,
    command::{repository_root, run},
    waiting::DEADLINE,
    world::World,
};

/// Version of the Python SDK.
const SDK: &str = "2.3.0";

/// A client that speaks the protocol itself.
struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Client {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { stdin: child.stdin.take(), child, lines }
    }

    /// One that has begun as the protocol wants it.
    fn initialized(command: Command) -> Self {
        let mut client = Self::start(command);
        let begun = client.request(
            1,
            "initialize",
            json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "it", "version": "1" } }),
        );
        assert_eq!(begun["result"]["serverInfo"]["name"], "paas", "{begun}");
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        client
    }

    fn send(&mut self, message: &Value) {
        self.send_line(&message.to_string());
    }

    fn send_line(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn ask(&mut self, id: u32, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
    }

    /// The next message: everything on standard output is one.
    #[track_caller]
    fn next(&self) -> Value {
        let line = self.lines.recv_timeout(DEADLINE).expect("the server sends something");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Sends a request and waits for its response.
    #[track_caller]
    fn request(&mut self, id: u32, method: &str, params: Value) -> Value {
        self.ask(id, method, params);
        loop {
            let message = self.next();
            if message["id"] == id {
                return message;
            }
        }
    }

    /// The result of a tool.
    #[track_caller]
    fn call(&mut self, id: u32, tool: &str, arguments: Value) -> Value {
        let response = self.request(id, "tools/call", json!({ "name": tool, "arguments": arguments }));
        assert!(response.get("error").is_none(), "{response}");
        response["result"].clone()
    }

    /// Closes standard input and returns the exit status.
    fn leave(mut self) -> Option<i32> {
        drop(self.stdin.take());
        self.child.wait().unwrap().code()
    }
}

#[test]
fn a_client_lists_and_calls_tools_and_is_told_what_is_wrong() {
    let world = World::new();
    let mut client = Client::initialized(world.ssh_command(&["mcp"]));
    let listed = client.request(2, "tools/list", json!({}));
    let tools = listed["result"]["tools"].as_array().unwrap();
    let tool = |name: &str| tools.iter().find(|tool| tool["name"] == name);
    assert!(tools.len() > 100 && tool("run").is_none() && tool("storage_import").is_none());
    assert_eq!(tool("ps_scale").unwrap()["annotations"]["destructiveHint"], true);
    assert_eq!(tool("apps_list").unwrap()["annotations"]["readOnlyHint"], true);

    let created = client.call(3, "apps_create", json!({ "app": "shop" }));
    assert_eq!(
        (&created["isError"], &created["structuredContent"]["name"]),
        (&json!(false), &json!("shop")),
        "{created}"
    );
    let text: Value = serde_json::from_str(created["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(text, created["structuredContent"]);
    client.call(4, "config_set", json!({ "app": "shop", "vars": { "TOKEN": "s3cret-of-mcp" } }));
    let read = client.call(5, "config_get", json!({ "app": "shop", "name": "TOKEN" }));
    assert!(read["structuredContent"].to_string().contains("s3cret-of-mcp"), "{read}");
    let events = world.paas(&["events", "shop", "--format", "json"]).success();
    let rows: Vec<_> = events.json_lines();
    let recorded = rows.iter().find(|row| row["operation"] == "config:set").unwrap_or_else(|| panic!("{}", events.out));
    assert_eq!((&recorded["user"], &recorded["door"]), (&json!("dev"), &json!("ssh")), "{recorded}");

    let missing = client.call(6, "apps_info", json!({ "app": "nothing" }));
    assert_eq!(
        (&missing["isError"], &missing["structuredContent"]["error"]["kind"]),
        (&json!(true), &json!("not_found"))
    );
    let invalid = client.call(7, "ps_scale", json!({ "app": "shop", "quantity": 1 }));
    assert_eq!(invalid["structuredContent"]["error"]["kind"], "invalid", "{invalid}");
    let unknown = client.request(8, "tools/call", json!({ "name": "run", "arguments": {} }));
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");

    // Messages that are none, and one that is too long, end nothing.
    client.send_line("hello");
    client.send_line("{}");
    client.send_line(&"x".repeat(5 << 20));
    assert_eq!(client.call(9, "version", json!({}))["isError"], false);

    // A result that goes on is waited for, until the client no longer wants it.
    client.ask(10, "tools/call", json!({ "name": "events", "arguments": { "app": "shop", "tail": true } }));
    client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 10 } }));
    assert_eq!(client.call(11, "version", json!({}))["isError"], false);
    assert_eq!(client.leave(), Some(0));
    let log = fs::read_to_string(world.dir().join("server.log")).unwrap();
    assert!(!log.contains("s3cret-of-mcp") && !log.contains("rmcp"), "{log}");
}

/// What goes on ends with the channel; too many calls at a time are refused; a key that is removed has no rights any more.
#[test]
fn calls_end_with_the_channel_are_limited_and_have_the_rights_of_the_moment() {
    let world = World::new();
    world.paas(&["apps:create", "shop"]).success();
    let (key, public) = world.keygen("ann");
    world.paas_with(&["ssh-keys:add", "ann", "--admin"], &public).success();
    let mut client = Client::initialized(world.ssh_command_as(&key, &["mcp"]));
    for id in 2..=18 {
        client.ask(id, "tools/call", json!({ "name": "events", "arguments": { "app": "shop", "tail": true } }));
    }
    let refused = client.next();
    assert_eq!(refused["result"]["structuredContent"]["error"]["kind"], "too_many", "{refused}");
    client.child.kill().unwrap();
    client.child.wait().unwrap();

    let mut client = Client::initialized(world.ssh_command_as(&key, &["mcp"]));
    assert_eq!(client.call(2, "users_list", json!({}))["isError"], false);
    world.paas(&["users:set", "ann", "admin", "false"]).success();
    let denied = client.call(3, "users_list", json!({}));
    assert_eq!(denied["structuredContent"]["error"]["kind"], "denied", "{denied}");
    assert_eq!(client.leave(), Some(0));

    let at_terminal = run(world.ssh_command(&[]).args(["-tt", "mcp"])).failure();
    assert!(at_terminal.all().contains("not with a terminal"), "{}", at_terminal.all());
    let other = run(&mut world.ssh_command(&["mcp"]));
    assert!(other.ok && other.out.is_empty(), "{other:?}");
}

/// The interpreter of a virtual environment with the SDK, which is made once.
fn sdk(folder: &Path) -> PathBuf {
    let environment = folder.join(format!("python-mcp-{SDK}"));
    let python = environment.join("bin/python");
    if !python.exists() || !run(Command::new(&python).args(["-c", "import mcp"])).ok {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment)).success();
        run(Command::new(&python).args(["-m", "pip", "install", "-q"]).arg(format!("mcp=={SDK}"))).success();
    }
    python
}

/// An independent client, in both of the ways in which the protocol begins.
#[test]
#[ignore = "slow"]
fn the_python_sdk_operates_an_app() {
    let world = World::new();
    let folder = world.repository("shop", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    let (viewer, public) = world.keygen("viewer");
    world.paas_with(&["ssh-keys:add", "viewer", "--app", "shop", "--role", "viewer"], &public).success();
    let python = sdk(world.dir().parent().unwrap());
    let words = |command: Command| {
        let words = command.get_args().map(|word| word.to_str().unwrap().to_owned());
        std::iter::once("ssh".to_owned()).chain(words).collect::<Vec<_>>()
    };
    for (mode, app) in [("auto", "one"), ("legacy", "two")] {
        let input = json!({
            "mode": mode,
            "new_app": app,
            "admin": words(world.ssh_command(&["mcp"])),
            "viewer": words(world.ssh_command_as(&viewer, &["mcp"])),
        });
        let script = repository_root().join("tests/it/mcp/client.py");
        let output = run(Command::new(&python).arg(script).arg(input.to_string())).success();
        let seen = output.json();
        assert_eq!(seen["refused"]["error"]["kind"], "denied", "{mode}: {seen}");
        assert!(seen["progress"].as_array().unwrap().len() > 1, "{mode}: {seen}");
        assert!(!seen["logged"].as_array().unwrap().is_empty(), "{mode}: {seen}");
    }
}
