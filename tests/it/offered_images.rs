//! Images that the operator offers as bases of Dockerfiles.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::support::{
    apps::version,
    command::{run, run_with},
    images::Base,
    waiting::eventually,
    world::World,
};

/// The output of `docker save`.
fn saved(image: &str) -> Vec<u8> {
    let saved = Command::new("docker").args(["save", image]).stderr(Stdio::inherit()).output().unwrap();
    assert!(saved.status.success());
    saved.stdout
}

/// The file of an image's manifest in the blob store.
fn manifest(world: &World, image: &Value) -> PathBuf {
    let digest = image["image"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let file = world.data().join("blobs/sha256").join(digest);
    assert!(file.is_file(), "{}", file.display());
    file
}

/// An image comes from the engine or from the caller; admins offer it, everyone sees it, and it is kept until it is
/// withdrawn.
#[test]
fn images_are_offered_from_the_engine_or_as_an_archive() {
    let (base, sent) = (Base::new(), Base::new());
    let world = World::new();
    let (ann, public) = world.keygen("ann");
    world.paas_with(&["ssh-keys:add", "ann"], &public).success();
    let offer =
        |name: &str, archive: &[u8]| run_with(&mut world.ssh_command(&["images:offer", name, "--archive"]), archive);

    world.ssh_as(&ann, &["images:list"]).success().prints("none is offered");
    world
        .paas(&["images:offer", &base.0])
        .success()
        .prints(&format!("Dockerfiles may be based on it: FROM {}", base.0));
    world
        .paas(&["images:offer", &format!("docker.io/{}", base.0)])
        .success()
        .prints("replaces the one that was offered");
    let labelled = format!("{}-labelled", sent.0);
    let changed = [("LABEL a=b", None), ("LABEL paas.launcher=init", Some("is an image that paas itself made"))];
    for (change, refusal) in changed {
        let script = format!("printf 'FROM {}\\n{change}\\n' | docker build -q -t {labelled} -", sent.0);
        run(Command::new("sh").args(["-ec", &script])).success();
        let archive = saved(&labelled);
        run(Command::new("docker").args(["rmi", &labelled])).success();
        match refusal {
            None => offer("Company.example/base:1", &archive).success(),
            Some(refusal) => offer("company.example/other:1", &archive).failure().prints(refusal),
        };
    }
    let listed = world.ssh_as(&ann, &["images:list", "--format", "json"]).success().json();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Company.example/base:1", &format!("docker.io/{}", base.0)]);
    assert!(listed[1]["size"].as_u64().unwrap() > 100_000 && listed[1]["offered_by"] == "local", "{listed:#}");
    world.ssh_as(&ann, &["images:list"]).success().prints("Company.example/base:1").prints("MiB");

    for words in [&["images:offer", "x:1"][..], &["images:offer", "x:1", "--archive"], &["images:withdraw", "x:1"]] {
        world.ssh_as(&ann, words).failure().prints("only an admin may do this");
    }
    world
        .paas(&["images:offer", "paas-test/none:1"])
        .failure()
        .prints("the engine has no image paas-test/none:1; pull");
    world.paas(&["images:offer", "https://host/x"]).failure().prints("leave out the scheme");
    world.paas(&["images:withdraw", "x:1"]).failure().prints("no image x:1 is offered");
    offer("x:1", b"").failure().prints("it is empty; send the output of docker save");
    offer("x:1", b"not a tar").failure().prints("invalid image archive");
    let own = format!("paas/{}/app:v1", world.server_id());
    run(Command::new("docker").args(["tag", &sent.0, &own])).success();
    for name in [&own, &sent.0] {
        world.paas(&["images:offer", name]).failure().prints("is an image that paas itself made");
    }
    run(Command::new("docker").args(["rmi", &own])).success();
    let staged: Vec<_> = fs::read_dir(world.data().join("buildpacks")).unwrap().collect();
    assert!(staged.is_empty(), "nothing is left of what was sent: {staged:?}");

    // Garbage collection removes what was withdrawn, and keeps what is offered.
    let (withdrawn, kept) = (manifest(&world, &listed[0]), manifest(&world, &listed[1]));
    for file in [&withdrawn, &kept] {
        let file = fs::File::options().append(true).open(file).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(24)).unwrap();
    }
    world.paas(&["images:withdraw", "company.example/base:1"]).success().prints("images that were built on it stay");
    let folder = world.repository("app", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    eventually("the withdrawn image is removed", || (!withdrawn.exists()).then_some(()));
    assert!(kept.exists());
}

/// An image that another one replaces leaves the disk of the offered images; if the disk is lost, what is offered is added
/// again.
#[test]
fn the_disk_of_offered_images_has_what_is_offered() {
    let base = Base::new();
    let mut world = World::new();
    world.offer(&base);
    let script = format!("printf 'FROM {}\nLABEL a=b\n' | docker build -q -t {0}-labelled -", base.0);
    run(Command::new("sh").args(["-ec", &script])).success();
    let archive = saved(&format!("{}-labelled", base.0));
    run(Command::new("docker").args(["rmi", &format!("{}-labelled", base.0)])).success();
    let mut offer = world.ssh_command(&["images:offer", &base.0, "--archive"]);
    run_with(&mut offer, archive).success().prints("replaces the one that was offered");
    let mounted = world.data().join("mounts/offered-images");
    let list = fs::read_to_string(mounted.join("layers/storage/overlay-images/images.json")).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list:#}");
    assert_eq!(list[0]["names"], serde_json::json!([format!("docker.io/{}", base.0)]));
    assert_eq!(fs::read_dir(mounted.join("workspace")).unwrap().count(), 0);

    world.stop_server();
    fs::write(world.data().join("disks/offered-images.ext4"), "damaged").unwrap();
    world.start_server();
    let dockerfile = format!("FROM {}\nRUN echo based > /index.html\nCMD exec httpd -f -p $PORT -h /\n", base.0);
    let folder = world.repository("based", &[("Dockerfile", &dockerfile)]);
    let again = format!("Adding the offered image {} again", base.0);
    world.push(&folder).success().prints(&again);
    world.answers(&world.url("based"), "based");
    world.commit(&folder, &[("Dockerfile", &dockerfile.replace("echo based", "echo changed"))]);
    let pushed = world.push(&folder).success();
    assert!(!pushed.all().contains(&again), "{}", pushed.all());
}
