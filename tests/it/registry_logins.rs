//! Logins at image registries: who may set them, how the password gets to the server, and that nobody sees it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use paas::store::Store;
use serde_json::{Value, json};

use crate::support::{
    command::{CommandOutput, output, run, run_with},
    terminal::Person,
    waiting::eventually,
    world::World,
};

const PASSWORD: &str = "hunter2-registry";

/// A developer; the path of the key.
fn user(world: &World, name: &str) -> PathBuf {
    let (key, public) = world.keygen(name);
    world.paas_with(&["ssh-keys:add", name], &public).success();
    key
}

/// `registry:login` with these words, and this on its standard input.
fn login(world: &World, key: &Path, words: &[&str], stdin: &str) -> CommandOutput {
    let output = run_with(&mut world.ssh_command_as(key, &[&["registry:login"], words].concat()), stdin);
    assert!(!output.all().contains("hunter2"), "{}", output.all());
    output
}

/// Registries, user names and apps of a list.
fn listed(output: &CommandOutput) -> Vec<[Value; 3]> {
    let rows = output.json();
    let row = |row: &Value| ["host", "username", "app"].map(|name| row[name].clone());
    rows.as_array().unwrap().iter().map(row).collect()
}

/// The command lines of all processes.
fn command_lines() -> String {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned() + "\n").collect()
}

/// The server's logins are the admins', those of an app its operators'. The password is in no command line, file, log or
/// audit entry, and goes with its app.
#[test]
fn logins_belong_to_the_server_or_an_app_and_their_passwords_are_nowhere() {
    let mut world = World::new();
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| user(&world, name));
    let admin = world.dir().join("id_ed25519");
    world.ssh_as(&ann, &["apps:create", "shop"]).success();
    world.ssh_as(&ann, &["access:add", "shop", "bob", "deployer"]).success();

    // The command line is looked at while the command waits for the end of its input.
    let words = ["registry:login", "Ghcr.io", "--username", "ann", "--app", "shop"];
    let mut command = world.ssh_command_as(&ann, &words);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{PASSWORD}").unwrap();
    // It is empty for a moment after the program has started.
    let lines =
        eventually("the command line", || Some(command_lines()).filter(|lines| lines.contains("registry:login")));
    assert!(!lines.contains(PASSWORD));
    drop(stdin);
    output(child).success().prints("builds of shop use this login at ghcr.io from now on");
    // As with Dokku.
    login(&world, &admin, &["index.docker.io", "company", "--password-stdin"], "hunter2-hub").success();
    login(&world, &admin, &["ghcr.io", "--username", "company"], "hunter2-company\r\n").success();

    let alone = login(&world, &ann, &["quay.io", "--username", "ann"], PASSWORD).failure();
    assert_eq!(alone.code, Some(3));
    alone.prints("only an admin may do this; for an app of yours, name it: --app APP");
    let of_shop = ["ghcr.io", "--username", "x", "--app", "shop"];
    let denied = login(&world, &bob, &of_shop, PASSWORD).failure().prints("registry:login needs the role operator");
    let hidden = login(&world, &eve, &of_shop, PASSWORD).failure().prints("there is no app named shop");
    assert_eq!((denied.code, hidden.code), (Some(3), Some(4)));
    for key in [&ann, &bob] {
        assert_eq!(world.ssh_as(key, &["registry:logout", "ghcr.io"]).code, Some(3));
        assert_eq!(world.ssh_as(key, &["registry:list"]).code, Some(3));
    }
    assert_eq!(world.ssh_as(&bob, &["registry:list", "--app", "shop"]).code, Some(3));
    assert_eq!(world.ssh_as(&bob, &["registry:logout", "ghcr.io", "--app", "shop"]).code, Some(3));

    // A user name of the server is none of the app's business; a password is nobody's.
    let list = ["registry:list", "--format", "json"];
    let of_app = world.ssh_as(&ann, &[&list[..], &["--app", "shop"]].concat()).success();
    assert_eq!(
        listed(&of_app),
        [[json!("docker.io"), Value::Null, Value::Null], [json!("ghcr.io"), json!("ann"), json!("shop")]]
    );
    let of_server = world.paas(&list).success();
    let company = |host| [json!(host), json!("company"), Value::Null];
    assert_eq!(listed(&of_server), [company("docker.io"), company("ghcr.io")]);
    world.paas(&["registry:list", "--app", "shop"]).success().prints("the server").prints("the app shop");

    // At a terminal, the password is asked for and not shown.
    let ask = ["registry:login", "quay.io", "--username", "ann", "--app", "shop"];
    let mut over_ssh = Command::new("ssh");
    over_ssh.arg("-t").args(world.ssh_command_as(&ann, &ask).get_args());
    let local = world.paas_command(&["registry:login", "quay.io", "company"]);
    for (command, password) in [(over_ssh, "hunter2-typed"), (local, "hunter2-local")] {
        let mut person = Person::at_terminal(&command);
        person.sees("Password at quay.io (it is not shown): ");
        person.types(&format!("{password}ö\u{7f}\r"));
        let shown = person.sees("use this login at quay.io");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(person.leaves(), 0);
    }
    let mut person = Person::at_terminal(&world.paas_command(&["registry:login", "quay.io", "other"]));
    person.sees("(it is not shown): ");
    person.types("hunter2\u{3}");
    person.sees("cancelled: nothing was changed");
    assert_eq!(person.leaves(), 1);

    world.paas(&["registry:logout", "docker.io"]).success().prints("builds of all apps no longer use this login");
    world.paas(&["registry:logout", "docker.io"]).failure().prints("the server has no login at docker.io");
    let events = world.paas(&["events", "--reads", "-n", "1000"]).success().prints("registry:login").prints("ghcr.io");
    assert!(!events.all().contains("hunter2"));
    world.stop_server();
    let found = run(Command::new("grep").args(["-rlaF", "-e", "hunter2"]).arg(world.dir()));
    assert_eq!(found.code, Some(1), "the password is in {}", found.out);

    let passwords = |world: &World| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(&world.data()).unwrap();
            let app = store.apps().await.unwrap().first().map(|app| app.id);
            let logins = store.registry_logins(app.unwrap_or(paas::store::AppId(1))).await.unwrap();
            logins.into_iter().map(|login| login.password.expose().to_owned()).collect::<Vec<_>>()
        })
    };
    assert_eq!(passwords(&world), [PASSWORD, "hunter2-typed"]);
    world.start_server();
    world.ssh_as(&ann, &["registry:logout", "quay.io", "--app", "shop"]).success().prints("but that of the server");
    world.ssh_as(&ann, &["apps:destroy", "shop", "--force"]).success();
    world.stop_server();
    assert_eq!(passwords(&world), ["hunter2-company", "hunter2-local"], "the app's own are gone");
}

/// A password as a word, and what no registry is, are refused in one line that does not repeat the password.
#[test]
fn a_password_on_the_command_line_is_refused() {
    let world = World::new();
    let login = |words: &[&str], stdin: &str| {
        let output = world.paas_with(&[&["registry:login"], words].concat(), stdin);
        assert!(!output.all().contains("hunter2"), "{}", output.all());
        output
    };
    for words in [
        &["ghcr.io", "me", PASSWORD][..],
        &["ghcr.io", "--username", "me", PASSWORD],
        &["ghcr.io", "me", "--password", PASSWORD],
        &["ghcr.io", "me", "-p", PASSWORD],
        &["ghcr.io", "me", &format!("--password={PASSWORD}")],
    ] {
        let refused = login(words, "x").failure();
        assert_eq!((refused.code, refused.err.lines().count()), (Some(2), 1), "{words:?}: {}", refused.err);
        refused.prints("send it on standard input: registry:login HOST --username NAME < FILE");
    }
    for (words, reason) in [
        (&["https://ghcr.io/v2", "me"][..], "leave out the scheme and the path"),
        (&["my-app", "docker.io", "me", PASSWORD], "the host of an image has a dot or a port"),
        (&[&format!("me:{PASSWORD}@ghcr.io"), "me"], "is not a valid registry host"),
        (&["ghcr.io"], "<USERNAME>"),
        (&["ghcr.io", "me:x"], "the user name is empty"),
    ] {
        let refused = login(words, "x").failure().prints(reason);
        assert_eq!((refused.code, refused.err.lines().count()), (Some(2), 1), "{words:?}: {}", refused.err);
    }
    login(&["ghcr.io", "me"], "\n").failure().prints("the password is empty");
    assert_eq!(world.paas(&["registry:list", "--format", "json"]).success().json(), json!([]));
}
