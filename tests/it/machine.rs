//! The death of Docker and of the machine, on an engine of the test's own in a network namespace of its own.

use std::{
    fs,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal};

use crate::support::{
    apps::version,
    command::{CommandOutput, run},
    waiting::eventually,
    world::World,
};

/// A network namespace for this thread and the processes that it starts.
struct Namespace(String);

impl Namespace {
    fn enter(name: &str) -> Self {
        let name = format!("paas-{name}-{}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name])).success();
        let namespace = Self(name);
        let file = fs::File::open(format!("/run/netns/{}", namespace.0)).unwrap();
        let network = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(file.as_fd(), network).unwrap();
        run(Command::new("ip").args(["link", "set", "lo", "up"])).success();
        // Connections to the Internet fail at once.
        run(Command::new("ip").args(["route", "add", "unreachable", "default"])).success();
        namespace
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run(Command::new("ip").args(["netns", "del", &self.0]));
    }
}

/// A Docker daemon in a process namespace of its own, in which all processes die at once, as in a machine that loses its
/// power.
struct Dockerd {
    dir: PathBuf,
    /// `unshare`, whose only child is the first process of the namespace.
    machine: Option<Child>,
    /// `nsenter`, whose only child is the daemon.
    daemon: Option<Child>,
}

impl Dockerd {
    fn power_on(dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).unwrap();
        // Mounts that the server makes in this folder must be visible in the machine's mount namespace.
        run(Command::new("mount").arg("--bind").args([&dir, &dir])).success();
        run(Command::new("mount").arg("--make-rshared").arg(&dir)).success();
        let mut dockerd = Self { dir, machine: None, daemon: None };
        dockerd.boot();
        dockerd
    }

    fn boot(&mut self) {
        // A reboot clears these.
        let _ = fs::remove_dir_all(self.dir.join("exec"));
        let _ = fs::remove_file(self.dir.join("pid"));
        let mut machine = Command::new("unshare");
        machine.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "slave"]);
        // The first process reaps zombies, as every init does.
        machine.args(["bash", "-c", "while sleep 1; do :; done"]);
        self.machine = Some(machine.process_group(0).spawn().unwrap());
        self.start_daemon();
    }

    fn start_daemon(&mut self) {
        let first = eventually("the machine runs", || only_child(self.machine.as_ref().unwrap()));
        let at = |name: &str| self.dir.join(name);
        let log = fs::OpenOptions::new().create(true).append(true).open(at("dockerd.log")).unwrap();
        let mut command = Command::new("nsenter");
        command.args(["--target", &first.to_string(), "--pid", "--mount", "dockerd"]);
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        command.arg("--data-root").arg(at("root")).arg("--exec-root").arg(at("exec")).arg("--pidfile").arg(at("pid"));
        command.args(["--bip", "172.31.255.1/24", "--userland-proxy=false"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        self.daemon = Some(command.spawn().unwrap());
        eventually("the engine answers", || self.docker(&["version"]).ok.then_some(()));
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    fn docker(&self, words: &[&str]) -> CommandOutput {
        run(Command::new("docker").arg("--host").arg(format!("unix://{}", self.socket().display())).args(words))
    }

    /// Kills the daemon, its containerd and every container at once.
    fn power_off(&mut self) {
        for child in [&mut self.machine, &mut self.daemon] {
            if let Some(mut child) = child.take() {
                let _ = child.kill();
                child.wait().unwrap();
            }
        }
    }

    /// Kills the daemon alone; its containers run until the next daemon stops them.
    fn kill_daemon(&mut self) {
        let mut entered = self.daemon.take().unwrap();
        let daemon = Pid::from_raw(only_child(&entered).unwrap()).unwrap();
        rustix::process::kill_process(daemon, Signal::KILL).unwrap();
        entered.wait().unwrap();
    }
}

fn only_child(parent: &Child) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", parent.id())).ok()?;
    children.trim().parse().ok()
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.power_off();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.dir.join("dockerd.log")).unwrap_or_default());
        }
        eventually("the folder can be removed, once all processes are dead", || {
            run(Command::new("umount").arg("--recursive").arg(&self.dir));
            fs::remove_dir_all(&self.dir).is_ok().then_some(())
        });
    }
}

/// After the death of the engine, and of the machine, the declared instances of every app run again, and no app responds for
/// another.
#[test]
fn apps_come_back_after_the_death_of_docker_and_of_the_machine() {
    let _namespace = Namespace::enter("machine");
    let mut engine = Dockerd::power_on(PathBuf::from(format!("/var/cache/paas/tests/machine-{}", std::process::id())));
    let mut world =
        World::within(&engine.dir.join("world"), &format!("[engine]\nsocket = \"{}\"\n", engine.socket().display()));
    let mut urls = Vec::new();
    for (n, app) in ["left", "right"].iter().enumerate() {
        let folder = world.repository(app, &[("Procfile", &version(n as u32 + 1))]);
        world.push(&folder).success();
        world.ssh(&["ps:scale", app, "web=2"]).success();
        urls.push(world.url(app));
    }
    let all_back = |world: &World, engine: &Dockerd| {
        for (n, app) in ["left", "right"].iter().enumerate() {
            world.answers(&urls[n], &format!("version-{}", n + 1));
            eventually("both instances are healthy, and run by the engine's report", || {
                let label = format!("label=paas.app={app}");
                let list = ["ps", "--format", "{{.Names}}", "--filter", "label=paas.kind=instance", "--filter", &label];
                let running = engine.docker(&list).success().out;
                let instances = world.instances(app);
                let both = instances.len() == 2 && running.lines().count() == 2;
                let healthy = |one: &serde_json::Value| {
                    one["state"] == "healthy" && running.lines().any(|name| one["id"] == name)
                };
                (both && instances.iter().all(healthy)).then_some(())
            });
            for _ in 0..20 {
                let (status, body) = world.get(&urls[n]).unwrap();
                assert!(status == 200 && body.contains(&format!("version-{}", n + 1)), "{app}: {status} {body}");
            }
        }
    };
    all_back(&world, &engine);

    // Another program flushes the packet filters, also Docker's, which sets its own again when it starts.
    let id = paas::model::Digest::of(world.server_id().as_bytes()).hex()[..8].to_owned();
    let filtered = |parent: &str| {
        eventually("the packet filters of the server are set", || {
            let rules = run(Command::new("iptables").args(["-w", "10", "-S"])).success().out;
            let jump = |parent: &str, chain: &str| format!("-A {parent} -i pa-{id}-+ -j PAAS-{id}-{chain}\n");
            let set = rules.contains(&jump("INPUT", "IN")) && rules.contains(&jump(parent, "FWD"));
            (set && rules.contains(&format!("-A PAAS-{id}-CLOSED -p tcp"))).then_some(())
        });
    };
    filtered("DOCKER-USER");
    run(Command::new("iptables").args(["-w", "10", "-F"])).success();
    filtered("FORWARD");
    engine.kill_daemon();
    engine.start_daemon();
    filtered("DOCKER-USER");
    all_back(&world, &engine);

    world.kill_server();
    world.kill_router();
    engine.power_off();
    engine.boot();
    world.start_router();
    world.start_server();
    all_back(&world, &engine);
    let left = engine.docker(&["ps", "--all", "--quiet"]).success().out;
    assert_eq!(left.lines().count(), 4, "{left}");
    drop(world);
    assert_eq!(engine.docker(&["ps", "--all", "--quiet"]).success().out, "");
}
