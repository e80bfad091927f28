//! What one client takes of the router, and what the kernel kills first.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use paas::router::{
    Link,
    protocol::{Listener, Protocol, Table},
};
use socket2::{Domain, Socket, Type};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::{apps::version, command::run, http::get, waiting::eventually, world::World};

/// Connects from this address, sends a part of a request, and returns the connection, or what refuses it.
fn hold(from: [u8; 4], to: SocketAddr) -> Result<TcpStream, String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n").unwrap();
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).unwrap();
    let answer = String::from_utf8_lossy(&bytes[..count]).into_owned();
    if answer.starts_with("HTTP/1.1 200 ") { Ok(stream) } else { Err(answer) }
}

/// A client that holds all connections that it gets is refused with the limit; others are served, and can deploy.
#[test]
fn a_client_with_its_share_of_connections_leaves_room_for_others() {
    let mut world = World::new();
    let folder = world.repository("crowded", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    let url = world.url("crowded");
    world.reconfigure("[router]\n", "[router]\nmax_connections = 40\n");
    world.kill_router();
    world.start_router();
    world.answers(&url, "version-1");
    let port: u16 = url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut held = Vec::new();
    let refused = loop {
        match hold([127, 0, 0, 2], address) {
            Ok(stream) => held.push(stream),
            Err(refused) => break refused,
        }
    };
    assert!((10..=20).contains(&held.len()), "{} connections", held.len());
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(
        refused.contains("the client 127.0.0.2 has ") && refused.contains("its share of the router's 40"),
        "{refused}"
    );
    for _ in 0..20 {
        assert_eq!(world.get(&url).unwrap().0, 200);
    }
    world.commit(&folder, &[("Procfile", &version(2))]);
    world.push(&folder).success();
    world.answers(&url, "version-2");
    let log = fs::read_to_string(world.dir().join("router.log")).unwrap();
    assert!(log.contains("refused: the client 127.0.0.2 has "), "{log}");
    drop(held);
    eventually("the client is served again", || hold([127, 0, 0, 2], address).ok());
}

/// A process that is killed at the end of the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A router process with at most so many descriptors.
fn router_with_descriptors(config: &Path, count: u32) -> Process {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={count}:{count}")).arg(env!("CARGO_BIN_EXE_paas")).arg("--config").arg(config);
    command.arg("router").env_remove("PAAS_CONFIG").stdin(Stdio::null()).stdout(Stdio::null());
    Process(command.spawn().unwrap())
}

/// A router opens the ports for which it has descriptors, serves them, and names the others; so does one that takes over with
/// fewer descriptors than ports are handed to it.
#[test]
fn ports_beyond_the_descriptors_are_named_and_the_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("paas.toml");
    fs::write(&config, format!("data_dir = \"{}\"\n[router]\nworkers = 2\n", dir.path().display())).unwrap();
    // An address of its own, where no other test has a port.
    let addresses: Vec<_> = (20_000..21_000).map(|port| SocketAddr::from(([127, 0, 8, 1], port))).collect();
    let listener = |address: &SocketAddr| Listener { address: *address, protocol: Protocol::Http, routes: Vec::new() };
    let table = Table { version: 1, listeners: addresses.iter().map(listener).collect(), services: Vec::new() };
    let served = || -> usize {
        let answers = |address: &&SocketAddr| get(&format!("http://{address}/")).is_ok_and(|(status, _)| status == 404);
        addresses.iter().filter(answers).count()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut first = router_with_descriptors(&config, 240);
    let link = runtime.block_on(async {
        let link = Link::start(dir.path().join("router.sock"), &TaskTracker::new(), CancellationToken::new());
        link.publish(table);
        link
    });
    let failed = |count: usize| {
        eventually("the table is in force", || {
            let failed = runtime.block_on(link.applied(1));
            (failed.len() == count).then_some(failed)
        })
    };
    // 80 descriptors are kept for everything else, and half of the others are for ports.
    let reasons = failed(1000 - 80);
    let expected = "the router has no file descriptor left for it: 80 ports are open, of 80 that its limit";
    assert!(reasons.iter().all(|(_, why)| why.starts_with(expected)), "{:?}", reasons[0]);
    assert_eq!(served(), 80);
    let _second = router_with_descriptors(&config, 48);
    eventually("the first router has handed over", || first.0.try_wait().unwrap());
    failed(1000 - 8);
    eventually("the ports that were taken over are served", || (served() == 8).then_some(()));
}

/// The kernel kills builds and instances before the server, and the router last.
#[test]
fn the_router_and_the_server_are_killed_last() {
    let world = World::new();
    let folder = world.repository("memory", &[("Procfile", &version(1))]);
    world.push(&folder).success();
    let score = |process: u32| -> i32 {
        fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap().trim().parse().unwrap()
    };
    let (router, server) = world.processes();
    for (process, name, expected) in [(router, "router", -950), (server, "server", -900)] {
        // A container without CAP_SYS_RESOURCE refuses it.
        let log = fs::read_to_string(world.dir().join(format!("{name}.log"))).unwrap();
        let refused = log.contains("cannot set oom_score_adj");
        assert!(refused || score(process) == expected, "{name}: {}", score(process));
    }
    let instance = world.containers("instance").remove(0);
    let inspect = ["inspect", "--format", "{{.State.Pid}} {{.HostConfig.OomScoreAdj}}", &instance];
    let printed = run(Command::new("docker").args(inspect)).success().out;
    let (process, configured) = printed.trim().split_once(' ').unwrap();
    assert_eq!((configured, score(process.parse().unwrap())), ("300", 300));
}
