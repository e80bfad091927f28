//! `paas` on a person's own machine: remotes, commands over the person's ssh, and the app of the folder.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{
    command::{CommandOutput, run, run_with},
    terminal::Person,
    world::World,
};

/// A person's machine, where no server is set up.
struct Machine<'a> {
    world: &'a World,
    home: PathBuf,
}

impl<'a> Machine<'a> {
    fn new(world: &'a World) -> Self {
        let home = world.dir().join("home");
        fs::create_dir_all(home.join("bin")).unwrap();
        let machine = Self { world, home };
        let (dir, log) = (world.dir().display(), machine.home.join("ssh.log"));
        // Real ssh, with what a person has in ~/.ssh: the tests do not touch that of whoever runs them.
        machine.program(
            "ssh",
            &format!(
                "printf '%s\\n' \"$*\" >> {}\nexec /usr/bin/ssh -F none -i {dir}/id_ed25519 -o IdentitiesOnly=yes \
                 -o UserKnownHostsFile={dir}/known_hosts -o StrictHostKeyChecking=accept-new \"$@\"",
                log.display()
            ),
        );
        machine
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.home.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, folder: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paas"));
        let path = std::env::var("PATH").unwrap();
        command.current_dir(folder).env("PATH", format!("{}:{path}", self.home.join("bin").display()));
        command.env("HOME", &self.home).env("XDG_CONFIG_HOME", self.home.join("config"));
        for name in ["PAAS_CONFIG", "PAAS_REMOTE", "DISPLAY", "WAYLAND_DISPLAY"] {
            command.env_remove(name);
        }
        command.args(words);
        command
    }

    fn paas(&self, folder: &Path, words: &[&str]) -> CommandOutput {
        run(&mut self.command(folder, words))
    }

    fn address(&self) -> String {
        format!("ssh://paas@127.0.0.1:{}", self.world.ssh_port)
    }

    fn last_ssh(&self) -> String {
        fs::read_to_string(self.home.join("ssh.log")).unwrap().lines().last().unwrap().to_owned()
    }
}

#[test]
fn commands_reach_a_remote_with_their_words_streams_and_status() {
    let world = World::new();
    let machine = Machine::new(&world);
    let home = machine.home.clone();
    let paas = |words: &[&str]| machine.paas(&home, words);
    paas(&["-r", "prod", "apps:list"]).failure().prints(
        "there is no remote prod; `paas remote list` lists them, `paas remote add prod ssh://paas@HOST:2222` adds it",
    );
    paas(&["remote", "add", "prod", &machine.address()]).success();
    paas(&["remote", "add", "prod", "ssh://other"]).failure().prints("the remote prod exists");
    paas(&["remote", "add", "test", "ssh://-oProxyCommand=x"]).failure().prints("is not the address of a server");
    paas(&["remote", "add", "test", "ssh://127.0.0.1:1"]).success();
    let listed = format!("* prod             {}\n  test             ssh://127.0.0.1:1\n", machine.address());
    assert_eq!(paas(&["remote", "list"]).success().out, listed);
    let mode = fs::metadata(home.join("config/paas/remotes.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    paas(&["apps:create", "shop"]).success();
    paas(&["remote", "default", "test"]).success();
    assert_eq!(paas(&["apps:list"]).failure().code, Some(255), "the status of ssh");
    let value = "it's \"$HOME\" `x` \\ *\n second; line & ü";
    paas(&["-r", "prod", "config:set", "shop", &format!("TEXT={value}"), "EMPTY="]).success();
    let read = run(machine.command(&home, &["config:get", "shop", "TEXT"]).env("PAAS_REMOTE", "prod")).success();
    assert_eq!(read.out, format!("{value}\n"));
    let import = &mut machine.command(&home, &["--remote", "prod", "config:import", "shop"]);
    run_with(import, "MORE=1\n").success();
    assert_eq!(paas(&["config:keys", "-a", "shop", "-r", "prod"]).success().out, "EMPTY\nMORE\nTEXT\n");
    let missing = paas(&["-r", "prod", "apps:info", "nothing"]).failure().prints("there is no app named nothing");
    assert_eq!((missing.code, missing.out.as_str()), (Some(4), ""));
    paas(&["-r", "prod", "-a", "shop", "users:list"]).failure().prints("users:list is about no app");
    paas(&["-r", "prod", "remote", "list"]).failure().prints("leave out --remote");

    // A terminal is requested for those commands that use one, if there is one.
    paas(&["-r", "prod", "run", "shop", "ls"]).failure();
    assert!(machine.last_ssh().starts_with("-T -p "), "{}", machine.last_ssh());
    let status = Person::at_terminal(&machine.command(&home, &["-r", "prod", "run", "shop", "ls"])).leaves();
    assert_eq!(status, 125, "there is no release yet");
    assert!(machine.last_ssh().starts_with("-t -p "), "{}", machine.last_ssh());
    paas(&["remote", "remove", "test"]).success();
    assert_eq!(paas(&["remote", "list", "--names"]).success().out, "prod\n");
}

#[test]
fn the_app_is_that_of_the_folder_where_nothing_else_can_be_meant() {
    let world = World::new();
    let machine = Machine::new(&world);
    let folder = world.repository("shop", &[("deep/file", "")]);
    let deep = folder.join("deep");
    machine.paas(&folder, &["remote", "add", "prod", &machine.address()]).success();
    machine.paas(&folder, &["apps:create", "shop"]).success();
    let notice = "       app shop, to which the git remote paas leads\n";
    let set = machine.paas(&folder, &["config:set", "A=1"]).success();
    assert!(set.err.contains(notice), "{}", set.err);
    assert_eq!(machine.paas(&deep, &["config:get", "A"]).success().out, "1\n");
    let named = machine.paas(&folder, &["config:get", "other", "A"]).failure().prints("there is no app named other");
    assert!(!named.err.contains("git remote"), "{}", named.err);
    machine.paas(&machine.home, &["config:keys"]).failure().prints("help config:keys");
    machine.paas(&folder, &["apps:destroy"]).failure().prints("help apps:destroy");

    let url = world.url("shop");
    assert_eq!(machine.paas(&folder, &["open"]).success().out.trim(), url);
    let opened = machine.home.join("opened");
    machine.program("xdg-open", &format!("printf '%s' \"$1\" > {}", opened.display()));
    run(machine.command(&machine.home, &["open", "shop"]).env("DISPLAY", ":0")).success();
    assert_eq!(fs::read_to_string(opened).unwrap(), url);

    // The same server, another app.
    world.git(&folder, &["remote", "add", "staging", &world.remote("shop-staging")]).success();
    machine
        .paas(&folder, &["config:keys"])
        .failure()
        .prints("the git remotes of this folder lead to the apps shop, shop-staging; name one with --app");
    assert_eq!(machine.paas(&folder, &["-a", "shop", "config:keys"]).success().out, "A\n");
}
