//! Files of the server: other users of its machine read nothing, and values of builds are on no disk.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{apps::version, command::run, images::Base, waiting::eventually, world::World};

/// A user of the machine who is none of the server's.
const STRANGER: u32 = 65_534;

/// User of git and its hook.
const GIT: u32 = 64_021;

/// Lines that a shell prints as this user.
fn as_user(user: u32, script: &str) -> String {
    let user = user.to_string();
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", &user, "--regid", &user, "--clear-groups", "sh", "-c", script]);
    run(&mut setpriv).out
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

/// Neither a stranger nor git's user reads what is not theirs.
fn is_closed(data: &Path) {
    let list = format!(
        "cd / && find {} -mindepth 1 2>&- ; cat {}/* {}/*/* 2>&-",
        data.display(),
        data.display(),
        data.display()
    );
    assert_eq!(as_user(STRANGER, &list), "");
    assert_eq!(as_user(GIT, &list), "", "git's user does not list the folder");
    for entry in fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        let expected = match path.file_name().unwrap().to_str().unwrap() {
            "git" | "repos" => 0o710,
            // Containers read them by a mount of the file; they hold no secret.
            "resolv.conf" | "build-ca-certificates.pem" => 0o644,
            _ if path.is_dir() => 0o700,
            _ => 0o600,
        };
        assert_eq!(mode(&path), expected, "{}", path.display());
        if mode(&path) != 0o644 && !path.ends_with("git") {
            let all = format!("find {} -type f -readable -exec cat {{}} + 2>&-", path.display());
            let read = as_user(GIT, &all);
            assert!(read.is_empty(), "git's user reads {}: {read}", path.display());
        }
    }
}

/// After everything that writes, and in the folder of an earlier version, which was open.
#[test]
#[ignore = "slow"]
fn other_users_of_the_machine_read_nothing() {
    let base = Base::new();
    let mut world = World::new();
    let data = world.data();
    let folder = world.repository("app", &[("Procfile", &version(1))]);
    world.paas(&["apps:create", "app"]).success();
    world.paas(&["config:set", "app", "--build", "TOKEN=hunter2"]).success();
    world.push(&folder).success();
    world.answers(&world.url("app"), "version-1");
    world.paas(&["run", "app", "echo", "printed"]).success().prints("printed");
    eventually("the log has lines", || world.paas(&["logs", "app"]).success().out.lines().next().map(drop));
    world.offer(&base);
    is_closed(&data);
    // What is new is closed by itself, too.
    let open = format!(
        "find {0}/logs {0}/tasks {0}/builds {0}/disks {0}/blobs/sha256 {0}/paas.db* -newer {0}/server.lock -type f -perm /077",
        data.display()
    );
    let stacks_are_links =
        |line: &&str| fs::metadata(line).is_ok_and(|file| std::os::unix::fs::MetadataExt::nlink(&file) == 1);
    let open = run(Command::new("sh").args(["-c", &open])).success().out;
    assert_eq!(open.lines().filter(stacks_are_links).collect::<Vec<_>>(), Vec::<&str>::new());

    world.stop_server();
    fs::create_dir_all(data.join("lost+found")).unwrap();
    for path in fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with("repos"))
    {
        run(Command::new("chmod").args(["-R", "a+rX"]).arg(&path)).success();
    }
    fs::set_permissions(data.join("ssh_host_ed25519_key"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(as_user(STRANGER, &format!("cat {}/ssh_host_ed25519_key", data.display())).contains("PRIVATE KEY"));
    world.start_server();
    is_closed(&data);
    world.push_again(&folder).success();
    world.answers(&world.url("app"), "version-1");
}

/// Files below the data folder, with disks as raw bytes, that contain this text.
fn files_with(world: &World, text: &str) -> Vec<PathBuf> {
    let mut grep = Command::new("grep");
    grep.args(["-rlaF", "--devices=skip", "-e", text]).arg(world.data());
    run(&mut grep).out.lines().map(PathBuf::from).collect()
}

/// A buildpack that needs the value, waits if it is told to, and fails or not.
fn project(script: &str) -> String {
    format!(
        "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"my/needy\"\n\
         [io.buildpacks.group.script]\napi = \"0.10\"\nshell = \"/bin/bash\"\ninline = '{script}'\n"
    )
}

/// Values of `config:set --build` are in memory while a build runs, also in a standby container, and nowhere after it, however it
/// ends.
#[test]
#[ignore = "slow"]
fn a_value_of_a_build_is_on_no_disk() {
    const CHECK: &str = "test $(sha256sum < /platform/env/TOKEN | cut -c-8) = $SUM && echo found it";
    // Small, so that searching it is fast.
    let mut world = World::with("[build]\ndisk_mib = 200\n");
    let value = format!("hunter2-{:016x}", rand::random::<u64>());
    let sum = &paas::model::Digest::of(value.as_bytes()).hex()[..8].to_owned();
    let passes = CHECK.replace("$SUM", sum);
    let files = [("Procfile", version(1)), ("project.toml", project(&passes))];
    let folder = world.repository("needy", &files.each_ref().map(|(name, text)| (*name, text.as_str())));
    world.paas(&["apps:create", "needy"]).success();
    world.paas(&["config:set", "needy", "--build", &format!("TOKEN={value}")]).success();
    world.push(&folder).success().prints("found it");
    assert_eq!(files_with(&world, &value), Vec::<PathBuf>::new());
    // By now there is a standby container.
    world.commit(&folder, &[("note.txt", "another source")]);
    world.push(&folder).success().prints("found it");
    world.commit(&folder, &[("project.toml", &project("exit 1"))]);
    world.push(&folder).failure();
    assert_eq!(files_with(&world, &value), Vec::<PathBuf>::new());

    world.commit(&folder, &[("project.toml", &project(&format!("{passes}; sleep 1000")))]);
    let mut push = world.git_command(&folder).args(["push", "paas", "main"]).spawn().unwrap();
    eventually("the build runs", || {
        let log = fs::read_to_string(world.data().join("builds/1/4.log")).unwrap_or_default();
        log.contains("found it").then_some(())
    });
    world.kill_server();
    push.wait().unwrap();
    assert_eq!(files_with(&world, &value), Vec::<PathBuf>::new());
    world.start_server();
    assert_eq!(files_with(&world, &value), Vec::<PathBuf>::new());
}
