//! Stacks of an operator, and rebase: apps on a newer run image without a build.

use std::{fs, process::Command};

use paas::{images::ImageStore, model::Digest};

use crate::support::{apps::write_buildpack, command::run, http::Load, waiting::eventually, world::World};

/// An image on the engine, made of the default stack's run image; removed when it is dropped.
struct Base<'a> {
    world: &'a World,
    name: String,
}

impl<'a> Base<'a> {
    fn new(world: &'a World) -> Self {
        let name = format!("paas-test/base:{:08x}", rand::random::<u32>());
        let cache = fs::read_dir("/var/cache/paas/stacks").unwrap().map(|entry| entry.unwrap().path());
        let tar =
            cache.map(|folder| folder.join("run.tar")).find(|tar| tar.is_file()).expect("the default stack exists");
        let user = ["--change", "USER 1000:1000"];
        run(Command::new("docker").arg("import").args(user).arg(tar).arg(&name)).success();
        Self { world, name }
    }

    /// Replaces the image by one with these files changed.
    fn change(&self, files: &[(&str, &str)]) {
        let folder = self.world.dir().join("image");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let mut recipe = format!("FROM {}\n", self.name);
        for (index, (place, text)) in files.iter().enumerate() {
            fs::write(folder.join(index.to_string()), text).unwrap();
            recipe += &format!("COPY {index} {place}\n");
        }
        fs::write(folder.join("Dockerfile"), recipe).unwrap();
        run(Command::new("docker").args(["build", "-q", "-t", &self.name]).arg(&folder)).success();
    }

    fn file(&self, path: &str) -> String {
        run(Command::new("docker").args(["run", "--rm", "--network=none", &self.name, "cat", path])).success().out
    }
}

impl Drop for Base<'_> {
    fn drop(&mut self) {
        // Earlier images have no tag any more, and are removed as parents of this one.
        run(Command::new("docker").args(["rmi", "-f", &self.name]));
    }
}

/// Layers of the image of an app's newest release.
fn layers(world: &World, app: &str) -> Vec<Digest> {
    let releases = world.paas(&["releases:list", app, "--format", "json"]).success().json();
    let newest = releases.as_array().unwrap().iter().max_by_key(|release| release["release"].as_u64()).unwrap();
    let image = newest["image"].as_str().unwrap().parse().unwrap();
    ImageStore::open(&world.data()).unwrap().layers(&image).unwrap()
}

/// Apps are rebased onto an updated run image without a build and without a failed request; an update that breaks an app
/// changes nothing.
#[test]
fn apps_are_rebased_onto_an_updated_run_image() {
    let world = World::new();
    let base = Base::new(&world);
    let pair = ["--run-image", &base.name, "--build-image", &base.name];
    world.paas(&[&["stacks:create", "mine"][..], &pair].concat()).success().prints("mine is created: debian 13, ");
    world.paas(&[&["stacks:create", "mine"][..], &pair].concat()).failure().prints("the stack mine already exists");
    world.paas(&["stacks:list"]).success().prints("debian-13 (default)").prints("mine");
    world.paas(&["stacks:update", "mine"]).success().prints("nothing changed");

    let folder = world.dir().join("home/one");
    write_buildpack(&folder, "test/one", "one");
    world.paas(&["buildpacks:install", &folder.display().to_string()]).success();
    let apps: Vec<_> = ["a", "b"].map(|name| world.repository(name, &[("note.txt", name)])).into();
    for (name, app) in ["a", "b"].iter().zip(&apps) {
        world.paas(&["apps:create", name]).success();
        world.paas(&["apps:stack", name, "mine"]).success();
        world.paas(&["buildpacks:set", name, "test/one"]).success();
        world.push(app).success();
    }
    world.paas(&["apps:stack", "a"]).success().prints("mine");
    world.paas(&["stacks:report", "mine"]).success().prints("up to date");
    world.paas(&["apps:rebase", "a"]).success().prints("is already on the newest revision of its stack");
    world.paas(&["stacks:remove", "mine"]).failure().prints("an app has chosen mine");
    let before = layers(&world, "a");

    // The operating system is patched.
    let status = base.file("/var/lib/dpkg/status");
    let version = status.split("Package: tzdata\n").nth(1).unwrap().split("Version: ").nth(1).unwrap();
    let version = version.lines().next().unwrap();
    let patched = status.replace(&format!("Version: {version}\n"), "Version: 9999-patched\n");
    base.change(&[("/etc/patched", "yes"), ("/var/lib/dpkg/status", &patched)]);
    let printed = world.paas(&["stacks:update", "mine"]).success();
    printed.prints("mine is now at revision 2").prints(&format!("tzdata {version} -> 9999-patched"));
    world.paas(&["stacks:report", "mine"]).success().prints("behind").prints("tzdata");
    let load = Load::on(&world.url("a"));
    world.paas(&["apps:rebase", "a"]).success().prints("v2 is live");
    load.end_without_failure();
    assert_eq!(in_instance_of(&world, "a", "/etc/patched"), "yes");
    let after = layers(&world, "a");
    let own = before.len() - 1;
    assert_eq!(after[after.len() - own..], before[before.len() - own..], "the app's own layers are the same");
    world.paas(&["releases:list", "a"]).success().prints("rebase").prints("Rebase onto revision 2 of mine");
    world.paas(&["apps:rebase", "--all"]).success().prints("Rebasing 1 apps").prints("b: v2 is live");
    world.paas(&["releases:rollback", "a"]).success();
    world.paas(&["stacks:report"]).success().prints("behind");
    world.paas(&["apps:rebase", "--all", "--stack", "debian-13"]).success().prints("Rebasing 0 apps");
    world.paas(&["apps:rebase", "a"]).success();

    // An update with which no app starts: the instances stay.
    base.change(&[("/usr/bin/bash", "no bash")]);
    world.paas(&["stacks:update", "mine"]).success();
    let serving = || {
        let instances = eventually("one instance of each app is left", || {
            let all = ["a", "b"].map(|app| world.instances(app));
            all.iter().all(|of_app| of_app.len() == 1).then_some(all)
        });
        instances.map(|of_app| of_app[0]["id"].clone())
    };
    let before = serving();
    world
        .paas(&["apps:rebase", "--all"])
        .failure()
        .prints("2 apps failed and keep their current release, 0 were not started");
    assert_eq!(serving(), before, "the instances are unchanged");
    assert_eq!(in_instance_of(&world, "a", "/etc/patched"), "yes");
    world.answers(&world.url("b"), "one files:note.txt");

    // An image is not rebased onto another version of the distribution.
    let release = base.file("/etc/os-release").replace("VERSION_ID=\"13\"", "VERSION_ID=\"14\"");
    base.change(&[("/usr/lib/os-release", &release), ("/etc/os-release", &release)]);
    world.paas(&["stacks:update", "mine"]).success();
    world.paas(&["apps:rebase", "a"]).failure().prints("it was built for debian 13, and mine is now debian 14");
    for app in ["a", "b"] {
        world.paas(&["apps:stack", app, "--default"]).success();
    }
    world.paas(&["stacks:remove", "mine"]).success();
    world.paas(&["stacks:remove", "debian-13"]).failure().prints("default stack");
    world.paas(&["apps:stack", "a", "nowhere"]).failure().prints("there is no stack nowhere");
    let wrong = "id = \"slim\"\nsuite = \"trixie\"\ndistro_name = \"debian\"\ndistro_version = \"13\"\nrun = [\"--evil\"]\nbuild = []\n";
    world.paas_with(&["stacks:create", "slim"], wrong).failure().prints("\"--evil\" is not a valid name of a package");
}

/// Contents of a file in an app's instance.
fn in_instance_of(world: &World, app: &str, path: &str) -> String {
    let name = world.running_containers("instance");
    let of_app = |name: &&String| {
        let label =
            run(Command::new("docker").args(["inspect", "--format", "{{index .Config.Labels \"paas.app\"}}", name]));
        label.out.trim() == app
    };
    let name = name.iter().find(of_app).expect("an instance runs");
    run(Command::new("docker").args(["exec", name, "cat", path])).success().out
}
