//! Random kills under load: `make chaos N=200`. Two owners have two apps each, and change one thing in every app while something
//! is killed. Then all that was acknowledged must be declared and run, and nothing else. A round follows from the seed and its number
//! alone: `SEED=7 FROM=31 N=1` repeats one. On an engine of the tests' own (`tests/engines chaos`), that is killed, too. `ONLY=engine`
//! chooses among the victims.

mod engine;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use self::engine::OwnEngine;
use crate::support::{
    command::{kill_group, run},
    http::get,
    waiting::{before_deadline, eventually},
    world::World,
};

/// Longest time between the beginning of the changes and the kill.
const MAX_DELAY: Duration = Duration::from_millis(2500);

/// Interval between two requests of the load.
const PACE: Duration = Duration::from_millis(10);

/// Requests that an instance may have in flight when it is killed, and until the router knows of it.
const MAX_FAILED_WITH_INSTANCE: usize = 10;

/// What is killed in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Server,
    Router,
    ServerAndRouter,
    ServerAndInstance,
    Hook,
    Build,
    Instance,
    Client,
    /// dockerd, containerd and all shims at once. What runs in containers goes on, and the engine finds that when it is started.
    Engine,
    /// The same, and the server.
    EngineAndServer,
    /// The same as `Engine`, and all that runs in containers.
    EngineAndContainers,
    /// All of these, and the router; what is not on a disk is lost.
    EngineAndMachine,
}

const VICTIMS: [Victim; 8] = [
    Victim::Server,
    Victim::Router,
    Victim::ServerAndRouter,
    Victim::ServerAndInstance,
    Victim::Hook,
    Victim::Build,
    Victim::Instance,
    Victim::Client,
];

/// Those that need an engine of the tests' own.
const VICTIMS_OF_ENGINE: [Victim; 4] =
    [Victim::Engine, Victim::EngineAndServer, Victim::EngineAndContainers, Victim::EngineAndMachine];

impl Victim {
    fn has_server(self) -> bool {
        matches!(
            self,
            Self::Server
                | Self::ServerAndRouter
                | Self::ServerAndInstance
                | Self::EngineAndServer
                | Self::EngineAndMachine
        )
    }

    fn has_router(self) -> bool {
        matches!(self, Self::Router | Self::ServerAndRouter | Self::EngineAndMachine)
    }

    fn has_engine(self) -> bool {
        VICTIMS_OF_ENGINE.contains(&self)
    }

    fn has_instance(self) -> bool {
        matches!(self, Self::Instance | Self::ServerAndInstance)
    }
}

/// A sequence of random numbers that is the same on all machines (SplitMix64).
struct Random(u64);

impl Random {
    fn of_round(seed: u64, round: u32) -> Self {
        let mut random = Self(seed.wrapping_add(u64::from(round).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        // The sequences of two rounds would else be the same but for their beginning.
        Self(random.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// What is declared of an app, as far as this test changes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Declared {
    /// Round in which what runs was pushed.
    version: u32,
    /// Round in which the config var was set.
    greeting: u32,
    instances: u64,
}

/// A change of one app.
#[derive(Debug, Clone, Copy)]
enum Change {
    Push,
    Scale(u64),
    Config,
    /// To the release before the current one.
    Rollback,
    /// A command, which changes nothing.
    Run,
}

struct App {
    name: &'static str,
    key: PathBuf,
    folder: PathBuf,
    url: String,
    declared: Declared,
    /// What each release runs.
    releases: BTreeMap<u64, (u32, u32)>,
    /// What was pushed in each round.
    commits: BTreeMap<u32, String>,
}

fn procfile(app: &str, version: u32) -> String {
    format!(
        "web: mkdir -p /tmp/s && echo \"{app} version=$VERSION greeting=$GREETING.\" > /tmp/s/index.html && exec python3 -m \
         http.server --directory /tmp/s $PORT\n"
    )
    .replace("$VERSION", &version.to_string())
}

impl App {
    /// Pushes the first version.
    fn new(world: &World, name: &'static str, key: &Path) -> Self {
        let folder = world.repository(name, &[("Procfile", &procfile(name, 0))]);
        world.push_as(key, &folder).success();
        world.ssh_as(key, &["config:set", name, "GREETING=0"]).success();
        let mut app = Self {
            name,
            key: key.to_owned(),
            url: world.url(name),
            declared: Declared { version: 0, greeting: 0, instances: 1 },
            releases: BTreeMap::new(),
            commits: BTreeMap::new(),
            folder,
        };
        app.commits.insert(0, app.head(world));
        app
    }

    fn head(&self, world: &World) -> String {
        world.git(&self.folder, &["rev-parse", "HEAD"]).success().out.trim().to_owned()
    }

    /// What the app declares once the change is made.
    fn after(&self, change: Change, round: u32) -> Declared {
        let declared = self.declared.clone();
        match change {
            Change::Push => Declared { version: round, ..declared },
            Change::Scale(instances) => Declared { instances, ..declared },
            Change::Config => Declared { greeting: round, ..declared },
            Change::Rollback => {
                let mut before = self.releases.iter().rev().skip(1);
                let (version, greeting) =
                    before.next().map_or((declared.version, declared.greeting), |(_, runs)| *runs);
                Declared { version, greeting, ..declared }
            }
            Change::Run => declared,
        }
    }

    /// The client that asks for the change, in a process group of its own.
    fn start(&mut self, world: &World, change: Change, round: u32) -> Child {
        let greeting = format!("GREETING={round}");
        let web = |n: u64| format!("web={n}");
        let ssh = |words: &[&str]| world.ssh_command_as(&self.key, words);
        let mut command = match change {
            Change::Push => {
                world.commit(&self.folder, &[("Procfile", &procfile(self.name, round))]);
                let mut command = world.git_command_as(&self.key, &self.folder);
                command.args(["push", "paas", "main"]);
                command
            }
            Change::Scale(n) => ssh(&["ps:scale", self.name, &web(n)]),
            Change::Config => ssh(&["config:set", self.name, &greeting]),
            Change::Rollback => match self.releases.keys().rev().nth(1) {
                Some(release) => ssh(&["releases:rollback", self.name, &format!("v{release}")]),
                None => ssh(&["apps:info", self.name]),
            },
            Change::Run => ssh(&["run", self.name, "echo", "done"]),
        };
        if matches!(change, Change::Push) {
            self.commits.insert(round, self.head(world));
        }
        let log = fs::File::create(world.dir().join(format!("{}.client", self.name))).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0).spawn().unwrap()
    }

    /// What is declared, if that is one of these and everything is as it says.
    fn observed(&mut self, world: &World, allowed: &[Declared]) -> Result<Declared, String> {
        let json = |words: &[&str]| {
            let output = world.paas(&[words, &["--format", "json"]].concat());
            if output.ok { Ok(output.json()) } else { Err(format!("{words:?}: {}", output.err.trim())) }
        };
        let instances = json(&["ps:scale", self.name])?["formation"]["web"].as_u64().ok_or("no formation")?;
        let prefix = format!("{}-", self.name);
        let own = |names: Vec<String>| names.into_iter().filter(|name| name.starts_with(&prefix)).count() as u64;
        let (all, running) = (own(world.containers("instance")), own(world.running_containers("instance")));
        if (all, running) != (instances, instances) {
            return Err(format!("{running} of {all} containers run, {instances} are declared"));
        }
        let mut bodies = BTreeSet::new();
        for _ in 0..instances * 3 {
            bodies.insert(get(&self.url)?);
        }
        let Some((200, body)) = bodies.pop_first() else { return Err("no 200".to_owned()) };
        if !bodies.is_empty() {
            return Err(format!("instances differ: {body:?} and {bodies:?}"));
        }
        let of = |declared: &&Declared| {
            let Declared { version, greeting, instances: n } = declared;
            *n == instances && body == format!("{} version={version} greeting={greeting}.\n", self.name)
        };
        let found = allowed.iter().find(of).cloned();
        let found = found.ok_or_else(|| format!("{instances} instances answer {body:?}, allowed are {allowed:?}"))?;
        let releases = json(&["releases:list", self.name, "-n", "50"])?;
        let releases = releases.as_array().ok_or("no releases")?;
        let released = |row: &&serde_json::Value| row["state"] == "released";
        let current =
            releases.iter().filter(released).find(|row| row["current"] == true).ok_or("no current release")?;
        let number = current["release"].as_u64().ok_or("no number")?;
        // The newest pushed release is that of the deploy branch.
        let pushed = releases.iter().filter(released).filter(|row| row["kind"] == "push");
        let pushed = pushed.max_by_key(|row| row["release"].as_u64()).ok_or("no pushed release")?;
        let output = world.git(&self.folder, &["ls-remote", "paas", "refs/heads/main"]);
        let id = output.out.split_whitespace().next().unwrap_or_default().to_owned();
        if pushed["commit"] != id.as_str() {
            return Err(format!("the ref is {id}, the newest pushed release {}", pushed["commit"]));
        }
        if current["commit"].as_str() != self.commits.get(&found.version).map(String::as_str) {
            return Err(format!("release {number} is not of the commit of round {}", found.version));
        }
        self.releases.insert(number, (found.version, found.greeting));
        self.releases = std::mem::take(&mut self.releases).into_iter().rev().take(4).collect();
        Ok(found)
    }
}

/// Requests to all apps, one after the other.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    fn on(apps: &[App]) -> Self {
        let (stop, answered, failed) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<String>>>::default());
        let urls: Vec<_> = apps.iter().map(|app| (app.name, app.url.clone())).collect();
        let (stopped, count, failures) = (Arc::clone(&stop), Arc::clone(&answered), Arc::clone(&failed));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for (name, url) in &urls {
                    match get(url) {
                        Ok((200, body)) if body.starts_with(&format!("{name} ")) => {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        other => failures.lock().unwrap().push(format!("{name}: {other:?}")),
                    }
                    std::thread::sleep(PACE);
                }
            }
        });
        Self { stop, answered, failed, thread: Some(thread) }
    }

    /// Number of requests that were answered, and those that were not, since the last call.
    fn taken(&self) -> (u64, Vec<String>) {
        (self.answered.swap(0, Ordering::Relaxed), std::mem::take(&mut *self.failed.lock().unwrap()))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Processes of the hook of this world.
fn hooks(world: &World) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_hook = |pid: &i32| {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let data = world.data();
        let has = |text: Vec<u8>, part: &str| text.windows(part.len()).any(|window| window == part.as_bytes());
        has(read("cmdline"), "\0hook\0") && has(read("environ"), data.to_str().unwrap())
    };
    pids.filter(is_hook).collect()
}

fn docker_kill(names: &[String]) {
    for name in names {
        run(Command::new("docker").args(["kill", name]));
    }
}

/// Kills once the delay is over and there is something to be killed, as long as a client runs. Returns the client that was
/// killed, and whether something was.
fn kill(
    world: &mut World,
    engine: Option<&OwnEngine>,
    victim: Victim,
    clients: &mut [Child],
    delay: Duration,
    random: &mut Random,
) -> (Option<usize>, bool) {
    std::thread::sleep(delay);
    let run_on = |clients: &mut [Child]| clients.iter_mut().any(|client| client.try_wait().unwrap().is_none());
    if victim.has_instance() {
        let running = world.running_containers("instance");
        docker_kill(&running[random.below(running.len())..][..1]);
    }
    let engine = || engine.expect("only an engine of the tests' own is killed");
    match victim {
        Victim::Server | Victim::ServerAndInstance => world.kill_server(),
        Victim::Router => world.kill_router(),
        Victim::ServerAndRouter => {
            world.kill_server();
            world.kill_router();
        }
        Victim::Instance => {}
        Victim::Engine => engine().kill(),
        Victim::EngineAndServer => {
            engine().kill();
            world.kill_server();
        }
        Victim::EngineAndContainers => {
            engine().kill();
            engine().kill_containers();
        }
        Victim::EngineAndMachine => {
            world.kill_server();
            world.kill_router();
            engine().kill();
            engine().kill_containers();
            engine().reset_machine(world);
        }
        Victim::Client => {
            let running: Vec<_> = (0..clients.len()).filter(|at| clients[*at].try_wait().unwrap().is_none()).collect();
            if running.is_empty() {
                return (None, false);
            }
            let chosen = running[random.below(running.len())];
            kill_group(clients[chosen].id().cast_signed());
            return (Some(chosen), true);
        }
        Victim::Hook => {
            let found = before_deadline(|| {
                let found = hooks(world);
                (!found.is_empty() || !run_on(clients)).then_some(found)
            });
            let found = found.unwrap_or_default();
            for pid in &found {
                let pid = rustix::process::Pid::from_raw(*pid).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            return (None, !found.is_empty());
        }
        Victim::Build => {
            let found = before_deadline(|| {
                let found = world.running_containers("build");
                (!found.is_empty() || !run_on(clients)).then_some(found)
            });
            let found = found.unwrap_or_default();
            docker_kill(&found);
            return (None, !found.is_empty());
        }
    }
    (None, true)
}

/// The names of this server's objects of a kind on the engine.
fn on_engine(world: &World, words: &[&str]) -> Vec<String> {
    let filter = format!("label=paas.server={}", world.server_id());
    let out = run(Command::new("docker").args(words).args(["--filter", &filter])).success().out;
    out.lines().map(str::to_owned).collect()
}

/// What must be true of the whole server once all apps are as they are declared.
fn left_over(world: &World, engine: Option<&OwnEngine>, apps: &[App], networks: &[String]) -> Result<(), String> {
    let events = world.paas(&["events", "-n", "100", "--format", "json"]);
    if events.out.contains("\"internal\"") {
        return Err(format!("an operation failed for an internal reason: {}", events.out));
    }
    let builds = world.containers("build");
    if !builds.is_empty() {
        return Err(format!("a build is left: {builds:?}"));
    }
    let expected: u64 = apps.iter().map(|app| app.declared.instances).sum();
    let containers = on_engine(world, &["ps", "--all", "--format", "{{.Names}}"]);
    let containers: Vec<_> = containers.into_iter().filter(|name| !name.contains("-standby-")).collect();
    if containers.len() as u64 != expected {
        return Err(format!("{expected} containers are declared, there are {containers:?}"));
    }
    let now = on_engine(world, &["network", "ls", "--format", "{{.Name}}"]);
    if now != networks {
        return Err(format!("the networks were {networks:?}, and are {now:?}"));
    }
    if let Some(engine) = engine {
        let running = run(Command::new("docker").args(["ps", "--quiet", "--no-trunc"])).success().out;
        let orphans = engine.orphans(world, &running.lines().map(str::to_owned).collect());
        if !orphans.is_empty() {
            return Err(format!("these are left: {orphans:#?}"));
        }
    }
    let database = rusqlite::Connection::open(world.data().join("paas.db")).map_err(|e| e.to_string())?;
    let check: String =
        database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(|e| e.to_string())?;
    if check != "ok" {
        return Err(format!("the database is damaged: {check}"));
    }
    for log in ["server.log", "router.log"] {
        let text = fs::read_to_string(world.dir().join(log)).unwrap_or_default();
        if let Some(line) = text.lines().find(|line| line.contains("panicked")) {
            return Err(format!("{log}: {line}"));
        }
    }
    Ok(())
}

/// Tries until it is true; fails with the last reason.
fn in_the_end<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let (begun, mut last) = (Instant::now(), String::new());
    let found = before_deadline(|| match check() {
        Ok(found) => Some(found),
        Err(reason) => {
            last = reason;
            None
        }
    });
    if begun.elapsed() > Duration::from_secs(20) {
        eprintln!("{what}: for {} s: {last}", begun.elapsed().as_secs());
    }
    found.unwrap_or_else(|| panic!("{what}: {last}"))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().filter(|text| !text.is_empty()).map(|text| text.parse().expect(variable))
}

fn say(line: &str) {
    // Not captured, so that the progress of a long run is seen.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
#[ignore = "long: make chaos N=200"]
fn whatever_is_killed_all_that_was_acknowledged_is_there() {
    let rounds = number("N").unwrap_or(10) as u32;
    let first = number("FROM").unwrap_or(1) as u32;
    let seed = number("SEED").unwrap_or_else(rand::random);
    let engine = OwnEngine::of_this_run();
    let of_engine = if engine.is_some() { &VICTIMS_OF_ENGINE[..] } else { &[] };
    let only = std::env::var("ONLY").unwrap_or_default().to_lowercase();
    let has_name = |victim: &&Victim| format!("{victim:?}").to_lowercase().starts_with(&only);
    let victims: Vec<_> = VICTIMS.iter().chain(of_engine).filter(has_name).copied().collect();
    assert!(!victims.is_empty(), "no victim's name begins with {only:?}: {VICTIMS:?}, {of_engine:?}");
    say(&format!("SEED={seed} FROM={first} N={rounds} ONLY={only}"));
    let mut world = World::new();
    let users = ["ann", "bob"].map(|name| {
        let (key, public) = world.keygen(name);
        world.paas_with(&["ssh-keys:add", name], &public).success();
        key
    });
    let mut apps: Vec<_> = [("ann-one", 0), ("ann-two", 0), ("bob-one", 1), ("bob-two", 1)]
        .map(|(name, user): (_, usize)| App::new(&world, name, &users[user]))
        .into();
    for app in &mut apps {
        let declared = app.declared.clone();
        in_the_end(app.name, || app.observed(&world, std::slice::from_ref(&declared)));
    }
    let networks = on_engine(&world, &["network", "ls", "--format", "{{.Name}}"]);
    let load = Load::on(&apps);
    let begun = Instant::now();
    let (mut kills, mut acknowledged, mut requests) = (0, 0, 0);
    for round in first..first + rounds {
        let since = Instant::now();
        let mut random = Random::of_round(seed, round);
        let victim = victims[random.below(victims.len())];
        let changes: Vec<_> = apps
            .iter()
            .enumerate()
            .map(|(at, _)| match random.below(7) {
                // These two need a push.
                _ if at == 0 && matches!(victim, Victim::Hook | Victim::Build) => Change::Push,
                0..=2 => Change::Push,
                3 => Change::Scale(1 + random.below(3) as u64),
                4 => Change::Config,
                5 => Change::Rollback,
                _ => Change::Run,
            })
            .collect();
        let delay = MAX_DELAY.mul_f64(random.below(1000) as f64 / 1000.0);
        let what = format!("SEED={seed} FROM={round} N=1 ONLY={only}: {victim:?} after {delay:?}, {changes:?}");
        load.taken();
        let instances: Vec<_> = apps.iter().map(|app| app.declared.instances).collect();
        let after: Vec<_> = apps.iter().zip(&changes).map(|(app, change)| app.after(*change, round)).collect();
        let mut clients: Vec<_> =
            apps.iter_mut().zip(&changes).map(|(app, change)| app.start(&world, *change, round)).collect();
        let (killed_client, killed) = kill(&mut world, engine.as_ref(), victim, &mut clients, delay, &mut random);
        if victim.has_router() {
            world.start_router();
        }
        if let Some(engine) = engine.as_ref().filter(|_| victim.has_engine()) {
            engine.start();
        }
        if victim.has_server() {
            world.start_server();
        }
        let ended: Vec<_> = clients
            .iter_mut()
            .map(|client| eventually(&format!("{what}: the clients end"), || client.try_wait().unwrap()).success())
            .collect();
        // What goes on without its client has ended, too.
        in_the_end(&what, || {
            let events = world.paas(&["events", "-n", "20", "--format", "json"]);
            let runs = events.out.contains("\"ended_at\":null") || events.out.contains("\"ended_at\": null");
            if events.ok && !runs { Ok(()) } else { Err(format!("{}{}", events.out, events.err)) }
        });
        for (at, app) in apps.iter_mut().enumerate() {
            let mut allowed = vec![after[at].clone()];
            if !ended[at] {
                allowed.push(app.declared.clone());
            }
            let client = fs::read_to_string(world.dir().join(format!("{}.client", app.name))).unwrap_or_default();
            let what =
                format!("{what}\n{} was {:?}, its client ended with {}:\n{client}", app.name, app.declared, ended[at]);
            app.declared = in_the_end(&what, || app.observed(&world, &allowed));
        }
        in_the_end(&what, || left_over(&world, engine.as_ref(), &apps, &networks));
        let (answered, mut failed) = load.taken();
        assert!(!failed.iter().any(|one| one.contains("Ok((200")), "{what}\nanother app answered: {failed:#?}");
        if victim.has_instance() {
            // An app that has one instance cannot answer until it has started again.
            let had_one = |at: usize| instances[at].min(apps[at].declared.instances) == 1;
            failed.retain(|one| {
                (0..apps.len()).all(|at| !had_one(at) || !one.starts_with(&format!("{}: ", apps[at].name)))
            });
        }
        let max_failed = match victim {
            // The containers end with the engine, or when it is started again.
            _ if victim.has_router() || victim.has_engine() => usize::MAX,
            _ if victim.has_instance() => MAX_FAILED_WITH_INSTANCE,
            _ => 0,
        };
        assert!(failed.len() <= max_failed, "{what}\n{} of {answered} requests failed: {failed:#?}", failed.len());
        let all_but_killed = ended.iter().enumerate().filter(|(at, ok)| !**ok && Some(*at) != killed_client).count();
        kills += u32::from(killed);
        acknowledged += ended.iter().filter(|ok| **ok).count();
        requests += answered;
        say(&format!(
            "round {round}: {victim:?}{} after {} ms; {} of 4 changes acknowledged, {all_but_killed} refused; {answered} requests, \
             {} failed; {:.1} s",
            if killed { "" } else { " (none ran)" },
            delay.as_millis(),
            ended.iter().filter(|ok| **ok).count(),
            failed.len(),
            since.elapsed().as_secs_f32(),
        ));
    }
    drop(load);
    say(&format!(
        "SEED={seed}: {rounds} rounds in {:.0} s, {kills} kills, {acknowledged} of {} changes acknowledged and kept, {requests} requests",
        begun.elapsed().as_secs_f32(),
        rounds * 4,
    ));
}
