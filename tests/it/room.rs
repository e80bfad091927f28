//! Room on the server's disk: what is bounded, what goes by itself, and what happens when there is too little.

use std::{fs, path::Path};

use crate::support::{apps::version, http::Load, waiting::eventually, world::World};

/// An app whose build makes a layer of this many random MiB, and then fails or not.
fn layer(mib: u32, end: &str) -> String {
    let script = format!(
        "mkdir -p $1/blob && echo \"[types]\nlaunch = true\" > $1/blob.toml && \
         dd if=/dev/urandom of=$1/blob/data bs=1M count={mib} status=none; {end}"
    );
    format!(
        "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"my/layer\"\n\
         [io.buildpacks.group.script]\napi = \"0.10\"\nshell = \"/bin/bash\"\ninline = '''{script}'''\n"
    )
}

/// What the blobs of the store take, in MiB.
fn blobs(world: &World) -> u64 {
    let blobs = fs::read_dir(world.data().join("blobs/sha256")).unwrap();
    blobs.map(|blob| blob.unwrap().metadata().unwrap().len()).sum::<u64>() >> 20
}

/// What this app takes, by kind, in bytes.
fn report(world: &World, app: &str) -> serde_json::Map<String, serde_json::Value> {
    let rows = world.paas(&["disk:report", app, "--format", "json"]).success().json();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| (row["kind"].as_str().unwrap().to_owned(), row["bytes"].clone())).collect()
}

/// An owner that fills what there is meets a limit, and what is left of it goes; another owner's pushes go on.
#[test]
#[ignore = "slow"]
fn an_owner_that_fills_the_disk_meets_limits_and_stops_nobody_else() {
    let world = World::with("[build]\ndisk_mib = 300\n");
    let (ann, key) = world.keygen("ann");
    world.paas_with(&["ssh-keys:add", "ann"], &key).success();
    let good = world.repository("good", &[("Procfile", &version(1))]);
    let (bob, key) = world.keygen("bob");
    world.paas_with(&["ssh-keys:add", "bob"], &key).success();
    world.push_as(&bob, &good).success();

    let greedy = world.repository("greedy", &[("Procfile", &version(1)), ("project.toml", &layer(20, "true"))]);
    world.push_as(&ann, &greedy).success();
    let before = blobs(&world);
    // The layer is sent before the app's own files turn out not to fit.
    world.commit(&greedy, &[("project.toml", &layer(50, "truncate -s 600M big"))]);
    world.push_as(&ann, &greedy).failure().prints("ran out of disk space (300 MiB");
    assert!(
        blobs(&world) <= before,
        "the blobs of a failed build are gone: {} MiB, {before} MiB before",
        blobs(&world)
    );
    world.commit(&greedy, &[("project.toml", &layer(1000, "true"))]);
    world.push_as(&ann, &greedy).failure().prints("ran out of disk space (300 MiB");
    assert!(blobs(&world) <= before);
    world.push_as(&bob, &good).success();

    // More than a log holds, but not faster than it is read: of what the engine rotates away, nothing is left.
    let flood = "web: python3 -m http.server $PORT & \
                 while sleep 0.5; do head -c 2000000 /dev/zero | tr '\\0' x | fold -w 1000; done\n";
    world.commit(&greedy, &[("Procfile", flood), ("project.toml", "")]);
    world.push_as(&ann, &greedy).success();
    eventually("the log is full", || (report(&world, "greedy")["logs"].as_u64() > Some(15 << 20)).then_some(()));
    assert!(report(&world, "greedy")["logs"].as_u64() <= Some(21 << 20));
    world.commit(&good, &[("Procfile", &version(2))]);
    world.push_as(&bob, &good).success();
    world.answers(&world.url("good"), "version-2");

    // What instances write counts together: no one of them writes too much, but both do.
    let load = Load::on(&world.url("good"));
    world.ssh(&["quota:set", "ann", "written=120"]).success();
    let writer = "web: test -e /tmp/f || head -c 100000000 /dev/zero >/tmp/f; python3 -m http.server $PORT\n";
    world.commit(&greedy, &[("Procfile", writer)]);
    world.push_as(&ann, &greedy).success();
    let written = || {
        let quota = world.ssh_as(&ann, &["quota", "--format", "json"]).success().json();
        let row = quota["limits"].as_array().unwrap().iter().find(|row| row["resource"] == "written").unwrap().clone();
        row["used"].as_u64().unwrap()
    };
    eventually("what it wrote is shown", || (95..=120).contains(&written()).then_some(()));
    assert!(report(&world, "greedy")["written"].as_u64() > Some(95 << 20));
    let _ = world.ssh_as(&ann, &["ps:scale", "greedy", "web=2"]);
    let reason = "MiB that the instances and tasks of ann wrote, more than the limit of 120 MiB (quota: written)";
    eventually("one of them is killed", || {
        world.ssh_as(&ann, &["ps:report", "greedy", "--format", "json"]).success().out.contains(reason).then_some(())
    });
    world.ssh_as(&ann, &["ps:scale", "greedy", "web=1"]);
    load.end_without_failure();

    // Build caches of an owner go while they take too much, and nobody else's.
    let other = world.repository("other", &[("Procfile", &version(1))]);
    world.push_as(&ann, &other).success();
    let of_bob = report(&world, "good")["build_disks"].clone();
    world.ssh(&["quota:set", "ann", "build-cache=0"]).success();
    world.paas(&["gc", "--dry-run"]).success().prints("build caches").prints("(quota: build-cache)");
    world.commit(&other, &[("Procfile", &version(2))]);
    let removed =
        "Removed the build cache of this app, and those of other apps of its owner (1): together they may have 0 MiB";
    world.push_as(&ann, &other).success().prints(removed);
    assert_eq!(report(&world, "greedy")["build_disks"], 0);
    assert!(of_bob.as_u64() > Some(0) && report(&world, "good")["build_disks"] == of_bob);

    // Each sees what is theirs, with what it takes.
    let own = world.ssh_as(&ann, &["disk:report"]).success();
    assert!(own.out.contains("greedy") && !own.out.contains("good") && !own.out.contains("(server)"), "{}", own.out);
    world.ssh_as(&ann, &["disk:report", "good"]).failure();
    let all = world.paas(&["disk:report"]).success();
    for text in ["greedy", "good", "(server)", "repository", "build disks", "shared images", "database"] {
        assert!(all.out.contains(text), "{text}: {}", all.out);
    }
    world.ssh_as(&ann, &["gc"]).failure();
}

/// What nothing needs is shown with its reason, stays in a dry run, and goes.
#[test]
#[ignore = "slow"]
fn garbage_is_shown_and_removed() {
    let world = World::new();
    let folder = world.repository("app", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    let old = |path: &Path| {
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(7 * 3600);
        fs::File::open(path).unwrap().set_modified(old).unwrap();
    };
    let stray = world.data().join("blobs/sha256").join("a".repeat(64));
    fs::write(&stray, vec![1; 3 << 20]).unwrap();
    old(&stray);
    let young = world.data().join("blobs/sha256").join("b".repeat(64));
    fs::write(&young, "x").unwrap();
    let left = world.data().join("logs/999");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("current"), "x").unwrap();
    old(&left);
    for blob in fs::read_dir(world.data().join("blobs/sha256")).unwrap().map(|blob| blob.unwrap().path()) {
        if blob != young {
            old(&blob);
        }
    }

    let dry = world.paas(&["gc", "--dry-run"]).success();
    let dry = dry.prints("WOULD BE REMOVED").prints("blobs").prints("nothing used it for 6 hours");
    assert!(dry.out.contains("its app does not exist any more"), "{}", dry.out);
    assert!(stray.exists() && left.exists());
    let removed = world.paas(&["gc", "--format", "json"]).success().json_lines();
    let garbage = removed.last().unwrap()["garbage"].as_array().unwrap().clone();
    let kinds: Vec<_> = garbage.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["blobs", "logs"], "{garbage:?}");
    assert!(!stray.exists() && !left.exists() && young.exists());
    world.paas(&["gc", "--dry-run"]).success().prints("nothing would be removed");
    world.push_again(&folder).success();
    world.answers(&world.url("app"), "version-1");
}

/// Below the floor, nothing new is begun, with one line that has the numbers; what runs goes on, and what makes room works.
#[test]
fn below_the_floor_nothing_new_is_begun() {
    let mut world = World::with("[disk]\nfloor_mib = 1\n");
    let folder = world.repository("app", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    world.paas(&["storage:create", "app", "data", "--size", "24m"]).success();
    world.reconfigure("floor_mib = 1\n", "floor_mib = 999999999\nfloor_percent = 100\n");
    let line = "MiB (disk.floor_mib, disk.floor_percent) nothing new is begun; an admin can make room";
    world.commit(&folder, &[("Procfile", &version(2))]);
    world.push(&folder).failure().prints(line);
    let other = world.repository("other", &[("Procfile", &version(1))]);
    world.push(&other).failure().prints(line);
    for words in [
        &["run", "app", "true"][..],
        &["ps:rebuild", "app"],
        &["images:offer", "x:1"],
        &["apps:create", "new"],
        &["storage:create", "app", "more", "--size", "16m"],
        &["storage:resize", "app", "data", "32m"],
    ] {
        world.paas(words).failure().prints(line);
    }
    assert_eq!(world.paas(&["apps:create", "new"]).code, Some(7));
    world.answers(&world.url("app"), "version-1");
    world.paas(&["ps:restart", "app"]).success();
    assert!(report(&world, "app")["volumes"].as_u64().unwrap() >= 24 << 20, "they are shown");
    world.paas(&["storage:resize", "app", "data", "16m"]).success();
    world.paas(&["gc"]).success();
    world.paas(&["config:set", "app", "A=1", "--no-restart"]).success();
    let log = fs::read_to_string(world.dir().join("server.log")).unwrap();
    assert_eq!(log.matches("the server's disk is nearly full").count(), 1, "{log}");
    world.paas(&["apps:destroy", "app", "--force"]).success();
    world.reconfigure("floor_mib = 999999999\nfloor_percent = 100\n", "floor_mib = 1\n");
    world.push(&other).success();
    world.answers(&world.url("other"), "version-1");
}
