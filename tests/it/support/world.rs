//! A world for each test: a router, a server, a key and a folder; all of it is removed at the end.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU8, Ordering},
    },
};

use super::{
    command::{CommandOutput, lifecycle, repository_root, run, run_with},
    engine::other_socket,
    http::{free_port, get},
    images::Base,
    waiting::{before_deadline, eventually},
};

static WORLDS: AtomicU8 = AtomicU8::new(0);

/// Second number of the range 10.N.0.0/16 of the first world.
const FIRST_NETWORK: u8 = 20;

/// Whether a run that was killed left a bridge or packet filters with the range 10.N.0.0/16.
fn is_taken(network: u8) -> bool {
    static FILTERS: LazyLock<String> = LazyLock::new(|| run(&mut Command::new("iptables-save")).success().out);
    let routes = fs::read_to_string("/proc/net/route").unwrap();
    let destinations = routes.lines().skip(1).filter_map(|line| line.split('\t').nth(1));
    let mut addresses = destinations.map(|hex| u32::from_str_radix(hex, 16).unwrap().to_le_bytes());
    addresses.any(|[a, b, ..]| [a, b] == [10, network]) || FILTERS.contains(&format!(" 10.{network}.0."))
}

pub struct World {
    dir: PathBuf,
    pub ssh_port: u16,
    pub http_port: u16,
    router: Option<Child>,
    server: Option<Child>,
}

impl World {
    /// A running server with a registered admin key.
    pub fn new() -> Self {
        Self::with("")
    }

    /// The same with more configuration (TOML).
    pub fn with(more: &str) -> Self {
        let base = std::env::var_os("PAAS_TEST_DIR").map_or_else(|| "/var/cache/paas/tests".into(), PathBuf::from);
        Self::within(&base, more)
    }

    /// The same in this folder.
    pub fn within(base: &Path, more: &str) -> Self {
        let mut world = Self::prepared(base, more);
        world.start_router();
        world.start_server();
        world.paas_with(&["ssh-keys:add", "dev", "--admin"], &world.read("id_ed25519.pub")).success();
        world
    }

    /// Files and configuration, without processes.
    fn prepared(base: &Path, more: &str) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "the tests need root: they mount disks, filter packets and use the engine"
        );
        // Parallel runs on one machine, each with its own first number, do not collide.
        let first = std::env::var("IT_FIRST_WORLD").map_or(0, |n| n.parse().unwrap());
        let mut numbers = std::iter::repeat_with(|| first + WORLDS.fetch_add(1, Ordering::Relaxed));
        let n = numbers.find(|n| !is_taken(FIRST_NETWORK + n)).unwrap();
        fs::create_dir_all(base).unwrap();
        let dir = base.join(format!("{}-{n}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let (ssh_port, http_port) = (free_port(), free_port());
        let http = format!("[http]\nlisten = \"127.0.0.1:{http_port}\"\n");
        let (http, more) = if more.contains("[http]\n") {
            (String::new(), more.replace("[http]\n", &http))
        } else {
            (http, more.to_owned())
        };
        let first_port = 20_000 + u16::from(n) * 60;
        let ca = "/etc/ssl/certs/ca-certificates.crt";
        let engine = match other_socket() {
            Some(socket) if !more.contains("[engine]") => format!("[engine]\nsocket = \"{}\"\n", socket.display()),
            _ => String::new(),
        };
        let config = format!(
            "data_dir = \"{data}\"\nhostname = \"127.0.0.1\"\n\
             [ssh]\nlisten = \"127.0.0.1:{ssh_port}\"\n\
             [registry]\nlisten = \"127.0.0.1:{registry}\"\n\
             [router]\nlisten = [\"127.0.0.1\"]\nfirst_port = {first_port}\nlast_port = {last_port}\n\
             [network]\nrange = \"10.{network}.0.0/16\"\n\
             [assets]\nlifecycle = \"{lifecycle}\"\nbuildpacks = \"{buildpacks}\"\n\
             {http}{engine}[outbound]\nca_bundle = \"{ca}\"\n{more}",
            data = dir.join("data").display(),
            registry = free_port(),
            last_port = first_port + 59,
            network = FIRST_NETWORK + n,
            lifecycle = lifecycle().display(),
            buildpacks = repository_root().join("buildpacks").display(),
        );
        fs::write(dir.join("paas.toml"), config).unwrap();
        let key = dir.join("id_ed25519");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key)).success();
        Self { dir, ssh_port, http_port, router: None, server: None }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap()
    }

    fn binary(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paas"));
        command.arg("--config").arg(self.dir.join("paas.toml"));
        command.env_remove("PAAS_CONFIG").env_remove("PAAS_ENGINE_SOCKET");
        command.env("PAAS_TEST_PAUSES", self.dir.join("pauses"));
        command
    }

    fn daemon(&self, face: &str) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join(format!("{face}.log"))).unwrap();
        let mut command = self.binary();
        command.arg(face).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        command.spawn().unwrap()
    }

    pub fn start_router(&mut self) {
        self.router = Some(self.daemon("router"));
    }

    /// The processes of router and server.
    pub fn processes(&self) -> (u32, u32) {
        (self.router.as_ref().unwrap().id(), self.server.as_ref().unwrap().id())
    }

    /// Starts the server and waits until it answers.
    pub fn start_server(&mut self) {
        self.server = Some(self.daemon("server"));
        eventually("the server responds", || {
            if let Some(status) = self.server.as_mut().unwrap().try_wait().unwrap() {
                panic!("the server exited with {status}:\n{}", self.read("server.log"));
            }
            self.paas(&["version"]).ok.then_some(())
        });
    }

    /// `kill -9` of the server.
    pub fn kill_server(&mut self) {
        kill(&mut self.server);
    }

    /// Sends SIGTERM to the server and waits until it has exited.
    pub fn stop_server(&mut self) {
        let server = self.server.as_mut().unwrap();
        let pid = rustix::process::Pid::from_child(server);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(server.wait().unwrap().success(), "{}", self.read("server.log"));
        self.server = None;
    }

    /// Starts a second router, which takes over from the first.
    pub fn replace_router(&mut self) {
        let mut old = self.router.replace(self.daemon("router")).unwrap();
        eventually("the old router has handed over and exited", || old.try_wait().unwrap());
    }

    /// The server will pause at this point.
    pub fn pause(&self, point: &str) {
        fs::create_dir_all(self.dir.join("pauses")).unwrap();
        fs::write(self.dir.join("pauses").join(point), "").unwrap();
    }

    pub fn wait_for_pause(&self, point: &str) {
        let reached = self.dir.join("pauses").join(format!("{point}.reached"));
        eventually("the server reaches the pause point", || reached.exists().then_some(()));
    }

    /// The server continues from the point where it paused.
    pub fn go_on(&self, point: &str) {
        self.wait_for_pause(point);
        fs::remove_file(self.dir.join("pauses").join(format!("{point}.reached"))).unwrap();
    }

    /// `kill -9` of the router.
    pub fn kill_router(&mut self) {
        kill(&mut self.router);
    }

    /// A command on the server's own machine, not started yet.
    pub fn paas_command(&self, words: &[&str]) -> Command {
        let mut command = self.binary();
        command.args(words);
        command
    }

    /// A command on the server's own machine.
    pub fn paas(&self, words: &[&str]) -> CommandOutput {
        self.paas_with(words, "")
    }

    /// The same with something on its stdin.
    pub fn paas_with(&self, words: &[&str], stdin: &str) -> CommandOutput {
        run_with(self.binary().args(words), stdin)
    }

    /// Options with which OpenSSH logs in with this world's key.
    fn ssh_words(&self) -> Vec<String> {
        self.ssh_words_as(&self.dir.join("id_ed25519"))
    }

    fn ssh_words_as(&self, key: &Path) -> Vec<String> {
        let (dir, key) = (self.dir.display(), key.display());
        ["-F", "none", "-i"]
            .map(str::to_owned)
            .into_iter()
            .chain([key.to_string(), "-p".into(), self.ssh_port.to_string()])
            .chain(["-o".into(), format!("UserKnownHostsFile={dir}/known_hosts")])
            .chain(
                ["-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
                    .map(str::to_owned),
            )
            .collect()
    }

    /// A command over ssh.
    pub fn ssh(&self, words: &[&str]) -> CommandOutput {
        run(&mut self.ssh_command(words))
    }

    /// The same, not started yet.
    pub fn ssh_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.args(self.ssh_words()).arg("paas@127.0.0.1").args(words);
        command
    }

    /// The same with another key.
    pub fn ssh_as(&self, key: &Path, words: &[&str]) -> CommandOutput {
        run(&mut self.ssh_command_as(key, words))
    }

    /// The same, not started yet.
    pub fn ssh_command_as(&self, key: &Path, words: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.args(self.ssh_words_as(key)).arg("paas@127.0.0.1").args(words);
        command
    }

    /// A new SSH key: the path of its private part, and its public part.
    pub fn keygen(&self, name: &str) -> (PathBuf, String) {
        let key = self.dir.join(name);
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key)).success();
        let public = self.read(&format!("{name}.pub"));
        (key, public)
    }

    /// git with this world's key, without the settings of the user who runs the tests.
    pub fn git_command(&self, folder: &Path) -> Command {
        self.git_command_as(&self.dir.join("id_ed25519"), folder)
    }

    /// The same with another key.
    pub fn git_command_as(&self, key: &Path, folder: &Path) -> Command {
        let mut command = Command::new("git");
        command
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &self.dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_SSH_COMMAND", format!("ssh {}", self.ssh_words_as(key).join(" ")))
            .args(["-c", "user.name=Dev", "-c", "user.email=dev@example.org", "-c", "init.defaultBranch=main"]);
        command
    }

    pub fn git(&self, folder: &Path, words: &[&str]) -> CommandOutput {
        run(self.git_command(folder).args(words))
    }

    /// A repository with these files, one commit, and a remote named `paas`.
    pub fn repository(&self, app: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.dir.join("work").join(app);
        fs::create_dir_all(&folder).unwrap();
        self.git(&folder, &["init", "-q"]).success();
        self.git(&folder, &["remote", "add", "paas", &self.remote(app)]).success();
        self.commit(&folder, files);
        folder
    }

    pub fn remote(&self, app: &str) -> String {
        format!("ssh://paas@127.0.0.1:{}/{app}", self.ssh_port)
    }

    /// A repository with a copy of one of the samples.
    pub fn sample(&self, sample: &str, app: &str) -> PathBuf {
        let folder = self.repository(app, &[]);
        let from = repository_root().join("samples").join(sample);
        run(Command::new("cp").arg("-a").arg(from.join(".")).arg(&folder)).success();
        self.commit(&folder, &[]);
        folder
    }

    /// Writes files and commits everything; an empty commit is one too.
    pub fn commit(&self, folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.git(folder, &["add", "-A"]).success();
        self.git(folder, &["commit", "-q", "--allow-empty", "-m", "change"]).success();
    }

    /// Offers a base image to Dockerfiles.
    pub fn offer(&self, base: &Base) {
        self.paas(&["images:offer", &base.0]).success();
    }

    pub fn push(&self, folder: &Path) -> CommandOutput {
        self.git(folder, &["push", "paas", "main"])
    }

    /// A push of a commit that changes nothing.
    pub fn push_again(&self, folder: &Path) -> CommandOutput {
        self.commit(folder, &[]);
        self.push(folder)
    }

    pub fn push_as(&self, key: &Path, folder: &Path) -> CommandOutput {
        run(self.git_command_as(key, folder).args(["push", "paas", "main"]))
    }

    /// Address at which the instances of linked apps reach the router.
    pub fn router_address(&self) -> std::net::Ipv4Addr {
        let config = self.read("paas.toml");
        let range = config.lines().find_map(|line| line.strip_prefix("range = ")).unwrap().trim_matches('"');
        range.parse::<paas::model::AddressPlan>().unwrap().router_address()
    }

    /// The first URL of an app.
    pub fn url(&self, app: &str) -> String {
        self.paas(&["url", app]).success().out.lines().next().unwrap().trim().to_owned()
    }

    /// Status and body of a GET request.
    pub fn get(&self, url: &str) -> Result<(u16, String), String> {
        get(url)
    }

    /// Waits until the response of a URL contains this text.
    #[track_caller]
    pub fn answers(&self, url: &str, text: &str) {
        let mut last = String::new();
        let answered = before_deadline(|| match get(url) {
            Ok((200, body)) if body.contains(text) => Some(()),
            other => {
                last = format!("{other:?}");
                None
            }
        });
        assert!(answered.is_some(), "{url} does not respond with {text:?} but {last}\n{}", self.read("server.log"));
    }

    /// Instances of an app, as `ps:report` shows them.
    pub fn instances(&self, app: &str) -> Vec<serde_json::Value> {
        let report = self.paas(&["ps:report", app, "--format", "json"]).success().json();
        report.as_array().unwrap().clone()
    }

    /// Changes the configuration while the server is stopped.
    pub fn reconfigure(&mut self, from: &str, to: &str) {
        self.stop_server();
        let config = self.read("paas.toml");
        assert_eq!(config.matches(from).count(), 1, "{from:?} in {config}");
        fs::write(self.dir.join("paas.toml"), config.replace(from, to)).unwrap();
        self.start_server();
    }

    /// Id of this server in the labels on the engine.
    pub fn server_id(&self) -> String {
        server_id(&self.data())
    }

    /// Names of this server's containers of a kind, running or not.
    pub fn containers(&self, kind: &str) -> Vec<String> {
        self.list_containers(kind, &["--all"])
    }

    /// The same, running only.
    pub fn running_containers(&self, kind: &str) -> Vec<String> {
        self.list_containers(kind, &[])
    }

    fn list_containers(&self, kind: &str, options: &[&str]) -> Vec<String> {
        let labels = [format!("label=paas.server={}", self.server_id()), format!("label=paas.kind={kind}")];
        let mut command = Command::new("docker");
        command.args(["ps", "--format", "{{.Names}}", "--filter", &labels[0], "--filter", &labels[1]]).args(options);
        let out = run(&mut command).success().out;
        // The standby container is not one of a running build.
        let standby = format!("paas-{}-standby-", self.server_id());
        out.lines().filter(|name| !name.starts_with(&standby)).map(str::to_owned).collect()
    }

    /// The engine's tag of an app's newest release, which runs. Docker may have lost the image when another test removed the
    /// same one; the server restores it.
    pub fn image_of(&self, app: &str) -> String {
        let releases = self.paas(&["releases:list", app, "--format", "json"]).success().json();
        let newest = releases.as_array().unwrap().iter().map(|r| r["release"].as_u64().unwrap()).max().unwrap();
        let tag = format!("paas/{}/{app}:v{newest}", self.server_id());
        let found = || run(Command::new("docker").args(["image", "inspect", &tag])).ok.then_some(());
        eventually("the engine has the image of the release", found);
        tag
    }
}

impl Drop for World {
    fn drop(&mut self) {
        kill(&mut self.server);
        kill(&mut self.router);
        if std::thread::panicking() {
            for log in ["server.log", "router.log"] {
                eprintln!("--- {log}\n{}", fs::read_to_string(self.dir.join(log)).unwrap_or_default());
            }
        }
        let purged = CommandOutput::from(self.binary().arg("purge").output().unwrap());
        let removed = fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            assert!(purged.ok, "cannot purge: {}", purged.err);
            removed.unwrap();
        }
    }
}

fn kill(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Id of the server in the database of a data folder.
pub fn server_id(data: &Path) -> String {
    let database = rusqlite::Connection::open(data.join("paas.db")).unwrap();
    database.query_row("SELECT value FROM meta WHERE key = 'server_id'", [], |row| row.get(0)).unwrap()
}
