//! Base images of Dockerfiles from registries: one that stands for a public one, with and without a login.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::support::{
    command::run,
    elsewhere::Elsewhere,
    http::free_port,
    images::{Base, load_buildpack},
    waiting::eventually,
    world::World,
};

/// Debian's `docker-registry`.
struct Registry(Child);

impl Registry {
    /// Starts it, as this command or below it, with more configuration.
    fn start(mut command: Command, config: &Path, files: &Path, more: &str) -> Self {
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n{more}",
            files.display()
        );
        fs::write(config, text).unwrap();
        command.args(["docker-registry", "serve"]).arg(config);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two registries of the images `base:1` and `buildpacks/one:1` on another machine, with TLS; the second wants the login `ann`, `tell-nobody`.
struct Registries {
    elsewhere: Elsewhere,
    open: String,
    closed: String,
    /// The authorities that a server must trust.
    authorities: PathBuf,
    _running: [Registry; 2],
}

impl Registries {
    fn start(world: &World, base: &Base) -> Self {
        let elsewhere = Elsewhere::new();
        let at = |name: &str| world.dir().join(name);
        let files = at("registry");
        let buildpack = load_buildpack(world, "one");
        let images = [(base.0.as_str(), "base:1"), (buildpack.as_str(), "buildpacks/one:1")];
        fill(&files, &at("filling.yml"), &images);
        run(Command::new("docker").args(["rmi", &buildpack]));
        let shell = |script: &str| run(Command::new("sh").current_dir(world.dir()).args(["-ec", script])).success().out;
        shell(&format!(
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -keyout ca.key -out ca.pem 2>/dev/null
             openssl req -newkey rsa:2048 -nodes -subj /CN=registry -keyout tls.key -out tls.csr 2>/dev/null
             echo subjectAltName=IP:{} > tls.ext
             openssl x509 -req -days 2 -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile tls.ext -out tls.pem 2>/dev/null
             cat ca.pem /etc/ssl/certs/ca-certificates.crt > authorities.pem",
            elsewhere.public
        ));
        let script = "import crypt; print(crypt.crypt('tell-nobody', crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))";
        let hash = run(Command::new("/usr/bin/python3").args(["-W", "ignore", "-c", script])).success().out;
        fs::write(at("htpasswd"), format!("ann:{hash}")).unwrap();
        let login = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", at("htpasswd").display());
        let start = |port: u16, more: &str| {
            let (cert, key) = (at("tls.pem"), at("tls.key"));
            let tls = format!(
                "http:\n  addr: {}:{port}\n  tls:\n    certificate: {}\n    key: {}\n",
                elsewhere.public,
                cert.display(),
                key.display()
            );
            let config = at(&format!("registry-{port}.yml"));
            (
                format!("{}:{port}", elsewhere.public),
                Registry::start(elsewhere.command(), &config, &files, &format!("{tls}{more}")),
            )
        };
        let ((open, first), (closed, second)) = (start(5443, ""), start(5444, &login));
        for address in [&open, &closed] {
            let url = format!("https://{address}/v2/");
            eventually("the registry responds", || {
                run(Command::new("curl").args(["-s", "--cacert"]).arg(at("ca.pem")).arg(&url)).ok.then_some(())
            });
        }
        Self { open, closed, authorities: at("authorities.pem"), _running: [first, second], elsewhere }
    }
}

/// Fills the storage of a registry with images.
fn fill(files: &Path, config: &Path, images: &[(&str, &str)]) {
    let address = format!("127.0.0.1:{}", free_port());
    let _registry = Registry::start(Command::new("env"), config, files, &format!("http:\n  addr: {address}\n"));
    eventually("the registry responds", || crate::support::http::get(&format!("http://{address}/v2/")).ok());
    for (image, name) in images {
        let reference = format!("{address}/{name}");
        run(Command::new("docker").args(["tag", image, &reference])).success();
        run(Command::new("docker").args(["push", "-q", &reference])).success();
        run(Command::new("docker").args(["rmi", &reference])).success();
    }
}

/// A base image is pulled in the build container: from a public registry, with a login if it wants one, but not from a
/// registry on a private network. So is the image of a buildpack that a developer names.
#[test]
#[ignore = "slow"]
fn base_images_come_from_registries() {
    let base = Base::new();
    let mut world = World::new();
    let registries = Registries::start(&world, &base);
    let (open, closed) = (&registries.open, &registries.closed);
    world.reconfigure("/etc/ssl/certs/ca-certificates.crt", &registries.authorities.display().to_string());
    let text = |image: &str| {
        format!("ARG FROM={image}\nFROM $FROM\nRUN echo built > /index.html\nCMD exec httpd -f -p $PORT -h /\n")
    };
    let folder = world.repository("based", &[("Dockerfile", &text(&format!("{open}/base:1")))]);
    let push = |image: &str| {
        world.commit(&folder, &[("Dockerfile", &text(image))]);
        world.push(&folder)
    };

    world.push(&folder).success().prints(&format!("Pulling {open}/base:1"));
    world.answers(&world.url("based"), "built");
    push(&format!("{open}/base:2"))
        .failure()
        .prints(&format!("Dockerfile line 2, FROM {open}/base:2: its registry has no such image or tag"));
    let lan = format!("{}:5443/base:1", registries.elsewhere.lan);
    push(&lan).failure().prints("its registry cannot be reached (connection refused)");

    let (key, public) = world.keygen("dev");
    world.paas_with(&["ssh-keys:add", "somebody"], &public).success();
    world.ssh_as(&key, &["apps:create", "packed"]).success();
    let pack = format!("docker://{open}/buildpacks/one:1");
    world.ssh_as(&key, &["buildpacks:add", "packed", &pack]).success();
    world.push(&world.repository("packed", &[("note.txt", "x")])).success().prints("-----> one builds");
    let gone = format!("docker://{open}/buildpacks/two:1");
    world.ssh_as(&key, &["buildpacks:add", "packed", &gone]).failure().prints("has no such image or tag");

    let wants_login = format!("{closed}/base:1");
    push(&wants_login)
        .failure()
        .prints("its registry does not give it out: correct the name, or log in (registry:login)");
    let log_in = |password: &str| {
        world.paas_with(&["registry:login", closed, "--username", "ann", "--app", "based"], password).success();
    };
    log_in("wrong");
    push(&wants_login).failure().prints(&format!("{closed} refuses the login"));
    log_in("tell-nobody");
    let printed = push(&wants_login).success().prints(&format!("Pulling {wants_login} with the login of {closed}"));
    assert!(!printed.all().contains("tell-nobody"), "{}", printed.all());
    world.paas(&["ps:rebuild", "based"]).success().prints(&format!("Pulling {wants_login} with the login of {closed}"));

    // While commands of a Dockerfile run, the login is not even in the memory of their container, and they cannot look there.
    let waiting = format!("FROM {wants_login}\nRUN busybox chroot / true || echo cannot leave; sleep 1000\nCMD x\n");
    world.commit(&folder, &[("Dockerfile", &waiting)]);
    let push = world.git_command(&folder).args(["push", "paas", "main"]).stderr(Stdio::piped()).spawn().unwrap();
    let in_build = |words: &[&str]| {
        let container = world.running_containers("build").pop()?;
        let output = run(Command::new("docker").args(["exec", &container]).args(words));
        output.ok.then_some((container, output.out))
    };
    eventually("the command runs", || {
        let list = "for file in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$file; echo; done";
        let (_, found) = in_build(&["sh", "-c", list])?;
        found.lines().any(|line| line.trim() == "sleep 1000").then_some(())
    });
    let (container, files) = in_build(&["ls", "-A", "/run/paas"]).expect("the build runs");
    assert!(files.contains("arguments") && !files.contains("auth"), "{files}");
    run(Command::new("docker").args(["kill", &container])).success();
    let printed = String::from_utf8_lossy(&push.wait_with_output().unwrap().stderr).into_owned();
    assert!(printed.contains("       cannot leave"), "{printed}");
}
