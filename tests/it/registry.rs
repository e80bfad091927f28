//! Buildpacks and images of stacks from an image registry.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use crate::support::{command::run, http::free_port, images::load_buildpack, waiting::eventually, world::World};

/// Debian's `docker-registry` on loopback, with its storage in the world's folder.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(world: &World) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let (config, files) = (world.dir().join("registry.yml"), world.dir().join("registry"));
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            files.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self { process: command.spawn().unwrap(), address };
        eventually("the registry responds", || world.get(&format!("http://{}/v2/", registry.address)).ok());
        registry
    }

    /// Moves an image from the engine to the registry; returns its reference.
    fn take(&self, image: &str, name: &str) -> String {
        let reference = format!("{}/{name}", self.address);
        run(Command::new("docker").args(["tag", image, &reference])).success();
        run(Command::new("docker").args(["push", "-q", &reference])).success();
        run(Command::new("docker").args(["rmi", &reference])).success();
        // An id, which a containerd image store no longer knows after its last tag.
        run(Command::new("docker").args(["rmi", image]));
        reference
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Images of the engine, tagged or not, that came from this registry.
fn on_the_engine(registry: &Registry) -> String {
    let list = ["images", "--all", "--digests", "--format", "{{.Repository}}:{{.Tag}}@{{.Digest}}"];
    let images = run(Command::new("docker").args(list)).success().out;
    images.lines().filter(|line| line.contains(&registry.address)).collect()
}

/// A packaged buildpack is pushed to a registry like any image, and a server builds with it; so are the images of a stack.
/// The engine keeps neither.
#[test]
fn buildpacks_and_stacks_come_from_a_registry() {
    let world = World::new();
    let registry = Registry::start(&world);
    let loaded = load_buildpack(&world, "one");
    let reference = registry.take(&loaded, "buildpacks/one:1");
    assert_eq!(on_the_engine(&registry), "");

    world.paas(&["buildpacks:install", &format!("docker://{reference}")]).success().prints("test/one@1.0.0 (sha256:");
    world.paas(&["buildpacks:installed"]).success().prints(&reference);
    assert_eq!(on_the_engine(&registry), "", "the engine keeps the image of a buildpack");
    let missing = format!("docker://{}/buildpacks/none:1", registry.address);
    world.paas(&["buildpacks:install", &missing]).failure().prints("cannot get the buildpack").prints("not found");

    let tar = fs::read_dir("/var/cache/paas/stacks").unwrap().map(|entry| entry.unwrap().path().join("run.tar"));
    let tar = tar.into_iter().find(|tar| tar.is_file()).expect("the default stack exists");
    let base = format!("paas-test/registry:{:08x}", rand::random::<u32>());
    run(Command::new("docker").args(["import", "--change", "USER 1000:1000"]).arg(tar).arg(&base)).success();
    let image = registry.take(&base, "stacks/run:13");
    world
        .paas(&["stacks:create", "pulled", "--run-image", &image, "--build-image", &image])
        .success()
        .prints("debian 13");
    let app = world.repository("app", &[("note.txt", "x")]);
    world.paas(&["apps:create", "app"]).success();
    world.paas(&["apps:stack", "app", "pulled"]).success();
    world.paas(&["buildpacks:set", "app", "test/one"]).success();
    world.push(&app).success().prints("-----> one builds");
    world.answers(&world.url("app"), "one files:note.txt");
    // Docker's containerd image store cannot save an image whose layers it has of an app.
    world.paas(&["stacks:update", "pulled"]).success().prints("nothing changed");
    assert_eq!(on_the_engine(&registry), "", "the engine keeps an image of a stack");
}

/// Only an admin key may name buildpacks that the server's own machine or its containers serve.
#[test]
fn a_developer_key_may_not_name_buildpacks_on_the_servers_machine() {
    let world = World::new();
    let key = world.dir().join("guest");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key)).success();
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    world.paas_with(&["ssh-keys:add", "guest"], &public).success();
    world.ssh_as(&key, &["apps:create", "mine"]).success();
    let config: toml::Table = toml::from_str(&fs::read_to_string(world.dir().join("paas.toml")).unwrap()).unwrap();
    let neighbour = format!("http://{}/x.git", config["network"]["range"].as_str().unwrap().replace("0.0/16", "0.9"));
    for source in ["docker://127.0.0.1:1/x:1", "https://localhost/x.git", "http://169.254.169.254/x.git", &neighbour] {
        world.ssh_as(&key, &["buildpacks:add", "mine", source]).failure().prints("only an admin may name");
    }
}
