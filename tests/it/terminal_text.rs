//! What a user wrote and the server prints again obeys no terminal: it moves no cursor, sets no title and fills no clipboard.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use crate::support::{command::CommandOutput, images::Base, terminal::Person, waiting::eventually, world::World};

/// Sets a title, fills the clipboard, clears the screen, moves the cursor, reorders the text.
const EVIL: &str = "ev\u{1b}]0;title\u{7}\u{1b}]52;c;cm0=\u{1b}\\\u{1b}[2J\u{9b}1;1H\u{202e}il";

/// What is left of it.
const HARMLESS: &str = "ev1;1Hil";

/// Fails the test if the output has a character that a terminal obeys.
#[track_caller]
fn harmless(output: &CommandOutput) {
    let obeyed = |c: char| (c.is_control() && !matches!(c, '\n' | '\r')) || matches!(c, '\u{202a}'..='\u{202e}');
    assert!(!output.all().contains(obeyed), "{:?}", output.all());
}

/// A registry that refuses everything with a message of its own.
fn evil_registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let _ = client.read(&mut [0; 4096]);
            let body = serde_json::json!({ "errors": [{ "code": "DENIED", "message": EVIL }] }).to_string();
            let head = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close";
            let _ = write!(client, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
}

/// Config values, manifests, branches, commits, files, commands, registries: each in a command's result, failure or progress.
#[test]
#[ignore = "slow"]
fn text_of_users_obeys_no_terminal() {
    let world = World::new();
    let shown = |output: CommandOutput| {
        harmless(&output);
        output
    };
    let keys = serde_json::json!({ EVIL: 1, "name": EVIL }).to_string();
    let toml = toml_key(EVIL);
    let script = "bad.sh\u{1b}]0;x\u{7}y";
    let folder = world.repository(
        "app",
        &[
            ("Procfile", &procfile()),
            ("app.json", &keys),
            ("project.toml", &format!("[_]\nschema-version = \"0.2\"\n[{toml}]\na = 1\n")),
            (script, "#!/bin/sh\r\ntrue\r\n"),
        ],
    );
    let printed = shown(world.push(&folder)).success();
    assert_eq!(printed.all().matches("has no effect").count(), 3, "{}", printed.all());
    world.git(&folder, &["commit", "-q", "--allow-empty", "-m", EVIL]).success();
    shown(world.push(&folder)).success();
    let branch = "ev\u{9b}1;1H\u{202e}il";
    // git itself prints the name as it was typed; the server's reason does not.
    let refused = world.git(&folder, &["push", "paas", &format!("HEAD:refs/heads/{branch}")]).failure();
    refused.prints("(\"ev\\u{9b}1;1H\\u{202e}il\" is not a valid branch name");
    shown(world.paas(&["git:set", "app", "deploy-branch", branch]));
    for words in [["releases", "app"], ["builds:list", "app"], ["apps:info", "app"], ["git:report", "app"]] {
        shown(world.paas(&words));
    }

    shown(world.paas(&["config:set", "app", "--no-restart", &format!("VALUE={EVIL}")])).success();
    shown(world.paas(&["config:list", "app"])).success().prints(HARMLESS);
    shown(world.ssh(&["config:list", "app"])).success().prints(HARMLESS);
    // A program gets the value as it is; in JSON, it is that when the JSON is read.
    assert_eq!(world.paas(&["config:get", "app", "VALUE"]).success().out, format!("{EVIL}\n"));
    let rows = world.paas(&["config:list", "app", "--format", "json"]).success();
    harmless(&rows);
    assert_eq!(rows.json()[0]["value"], EVIL);

    shown(world.paas(&["run:detached", "app", "echo", EVIL])).success().prints(HARMLESS);
    shown(world.paas(&["run:list", "app"])).success().prints(HARMLESS);
    shown(world.paas(&["run", "app", "--", "true"])).success();
    shown(world.paas(&["events", "--reads"])).success();
    for words in [
        &["help", EVIL][..],
        &[EVIL],
        &["apps:info", EVIL],
        &["ps:scale", "app", &format!("{EVIL}=1")],
        &["ports:set", "app", EVIL],
    ] {
        shown(world.paas(words)).failure();
    }
    let registry = evil_registry();
    shown(world.paas(&["images:offer", &format!("{registry}/evil:1")])).failure();
    let base = Base::new();
    world.offer(&base);
    let docker = world.repository("docker", &[("Dockerfile", &format!("FROM {registry}/evil:1\nRUN echo\n"))]);
    shown(world.push(&docker)).failure();
    world.commit(
        &docker,
        &[("Dockerfile", &format!("FROM {}\nRUN printf '%b' '\\033]0;title\\007x'; exit 3\n", base.0))],
    );
    shown(world.push(&docker)).failure();
}

/// A quoted key of TOML.
fn toml_key(key: &str) -> String {
    let escaped =
        key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\u{:04X}", u32::from(c)) });
    format!("\"{}\"", escaped.collect::<String>())
}

/// A web process that prints a title, a clipboard and a colour.
fn procfile() -> String {
    "web: printf '\\033]0;title\\007\\033]52;c;cm0=\\033\\\\\\\\\\033[31mred\\033[2J\\n'; exec python3 -m http.server $PORT\n".to_owned()
}

/// An app's log keeps its colours for a terminal, and nothing else; what `run` prints is the program's own.
#[test]
fn logs_keep_colours_for_a_terminal_and_run_keeps_everything() {
    let world = World::new();
    let folder = world.repository("app", &[("Procfile", &procfile())]);
    world.push(&folder).success();
    eventually("the log has the line", || world.paas(&["logs", "app"]).out.contains("red").then_some(()));
    let plain = world.ssh(&["logs", "app"]).success();
    harmless(&plain);
    let mut command = world.ssh_command(&["logs", "app"]);
    command.arg("-q");
    let mut with_terminal = std::process::Command::new("ssh");
    with_terminal.arg("-tt").args(command.get_args());
    let mut person = Person::at_terminal(&with_terminal);
    let before = person.sees("\u{1b}[31mred\u{1b}[0m");
    assert!(!before.contains('\u{7}') && !before.contains("\u{1b}]"), "{before:?}");
    assert_eq!(person.leaves(), 0);
    let raw = world.paas(&["run", "app", "--", "printf", "\\033]0;title\\007\\033[31mred"]).success();
    assert_eq!(raw.out, "\u{1b}]0;title\u{7}\u{1b}[31mred");
}
