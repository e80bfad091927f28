//! What a client can take at the doors, and that others get in beside it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use paas::config::Ssh;

use crate::support::{
    command::output,
    held::{held, is_closed},
    waiting::eventually,
    world::World,
};

/// A user of their own: the path of the key.
fn user(world: &World, name: &str) -> PathBuf {
    let (key, public) = world.keygen(name);
    world.paas_with(&["ssh-keys:add", name], &public).success();
    key
}

fn pushing(world: &World, key: &Path, folder: &Path) -> Child {
    let mut git = world.git_command_as(key, folder);
    git.args(["push", "paas", "main"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    git.spawn().unwrap()
}

#[test]
fn a_push_goes_live_beside_200_held_connections() {
    let world = World::new();
    let folder = world.repository("shop", &[("index.html", "hello")]);
    let server = format!("127.0.0.1:{}", world.ssh_port).parse().unwrap();
    let begun = Instant::now();
    let mut all: Vec<_> = (0..200).map(|n| held(server, &format!("127.0.0.{}", 1 + n % 40))).collect();
    world.ssh(&["version"]).success();
    let lasted = begun.elapsed();
    let limits = Ssh::default();
    // The held connections have more time than that: they are closed because others need their places.
    assert!(lasted < Duration::from_secs(limits.handshake_seconds / 2), "{lasted:?}");
    let open = all.iter_mut().map(is_closed).filter(|closed| !closed).count();
    assert!((1..=limits.max_unauthenticated).contains(&open), "{open} are open");
    world.push(&folder).success();
    world.answers(&world.url("shop"), "hello");
    let log = fs::read_to_string(world.dir().join("server.log")).unwrap();
    let lines = log.lines().filter(|line| line.contains("too many unauthenticated ssh connections")).count();
    assert!((1..=10).contains(&lines), "{lines} lines of 136 closed connections");
}

#[test]
#[ignore = "slow"]
fn a_huge_pack_is_refused_while_another_user_deploys() {
    let world = World::with("[git]\nmax_push_bytes = 20971520\n");
    let (ann, bob) = (user(&world, "ann"), user(&world, "bob"));
    let (huge, small) = (world.repository("huge", &[]), world.repository("small", &[("index.html", "small")]));
    fs::write(huge.join("noise"), (0..64 << 20).map(|_| rand::random()).collect::<Vec<u8>>()).unwrap();
    world.commit(&huge, &[]);
    let refused = pushing(&world, &ann, &huge);
    world.push_as(&bob, &small).success();
    output(refused).failure().prints(" !     The pack is larger than 20.0 MiB (git.max_push_bytes)");
    world.answers(&world.url("small"), "small");
}

/// 300 MB of zeros, which are a pack of 300 KB.
#[test]
#[ignore = "slow"]
fn a_push_that_runs_out_of_memory_is_told_while_another_user_deploys() {
    let world = World::with("[git]\nmemory_mib = 128\nall_memory_mib = 256\n");
    let (ann, bob) = (user(&world, "ann"), user(&world, "bob"));
    let (bomb, small) = (world.repository("bomb", &[]), world.repository("small", &[("index.html", "small")]));
    fs::write(bomb.join("zeros"), vec![0; 300 << 20]).unwrap();
    world.commit(&bomb, &[]);
    let refused = pushing(&world, &ann, &bomb);
    world.push_as(&bob, &small).success();
    let text = " !     git was stopped on the server: it needed more than 128 MiB of memory (git.memory_mib";
    output(refused).failure().prints(text);
    // Its group is used again.
    world.repository("bomb-2", &[("index.html", "two")]);
    let next = world.dir().join("work/bomb-2");
    world.push_as(&ann, &next).success();
    world.answers(&world.url("small"), "small");
}

/// The processes of a running push are in a group with limits, below the group of the server.
#[test]
fn the_processes_of_a_push_are_in_a_control_group() {
    let world = World::new();
    let folder = world.repository("shop", &[("index.html", "hello")]);
    world.pause("before-commit");
    let push = pushing(&world, &world.dir().join("id_ed25519"), &folder);
    world.wait_for_pause("before-commit");
    let group = format!("/paas-{}-git/", world.server_id());
    let repository = world.data().join("repos/shop.git");
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let of_push: Vec<_> = processes
        .filter(|id| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|folder| folder.starts_with(&repository)))
        .collect();
    assert!(of_push.len() >= 3, "git, its hook and the reader: {of_push:?}");
    for id in of_push {
        let groups = fs::read_to_string(format!("/proc/{id}/cgroup")).unwrap();
        let is_limited = |controller| {
            groups.lines().any(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next().unwrap(), parts.next().unwrap());
                (controllers.is_empty() || controllers.split(',').any(|one| one == controller))
                    && path.starts_with(&group)
            })
        };
        assert!(is_limited("memory") && is_limited("pids"), "{groups}");
    }
    world.go_on("before-commit");
    output(push).success();
    eventually("the app is live", || world.get(&world.url("shop")).is_ok().then_some(()));
}
