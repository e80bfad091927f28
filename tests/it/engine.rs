//! Instances on the real engine: ownership, addresses, who can connect to them, and reports of their exit.

use std::{net::SocketAddr, time::Duration};

use futures_util::{StreamExt, TryStreamExt};
use paas::engine::{Act, ContainerId, ContainerState, Engine, EngineError, Kind, ListeningSocket, LogOptions, label};

use crate::support::{
    engine::TestEngine,
    waiting::{DEADLINE, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_created_started_stopped_and_removed() {
    let test = TestEngine::new().await;
    let engine = &test.engine;
    engine.ping().await.unwrap();
    assert!(!engine.version().await.unwrap().engine.is_empty());
    let spec = test.instance(5, "id -u; echo oops >&2; trap 'exit 3' TERM; while :; do sleep 0.1; done");
    let id = engine.containers.create_workload(&spec).await.unwrap();
    assert_eq!(engine.containers.create_workload(&spec).await.unwrap(), id, "a second call returns the same container");
    let made = engine.containers.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!((made.state, made.exit_code, made.started_at), (ContainerState::Created, None, None));
    for (name, value) in [
        (label::SERVER, engine.server_id()),
        (label::KIND, "instance"),
        (label::APP, "hello"),
        (label::INSTANCE, spec.name.as_str()),
        (label::RELEASE, "7"),
        (label::PROCESS, "web"),
    ] {
        assert_eq!(made.label(name), Some(value));
    }

    engine.containers.start(&id).await.unwrap();
    engine.containers.start(&id).await.unwrap();
    let running = engine.containers.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!((running.state, running.address), (ContainerState::Running, Some(spec.address.into())));
    assert!(running.started_at.is_some() && running.pid.is_some());
    until("both lines are in the log", || async { lines(engine, &id).await.len() == 2 }).await;
    let mut printed = lines(engine, &id).await;
    printed.sort();
    assert_eq!(printed, [(false, "1000".to_owned()), (true, "oops".to_owned())]);

    engine.containers.stop(&id, Duration::from_secs(10)).await.unwrap();
    let stopped = engine.containers.list(Some(Kind::Instance)).await.unwrap().pop().unwrap();
    assert_eq!((stopped.state, stopped.exit_code, stopped.oom_killed), (ContainerState::Exited, Some(3), false));
    assert!(stopped.finished_at >= stopped.started_at);
    engine.containers.kill(&id).await.unwrap();
    engine.containers.remove(&id).await.unwrap();
    assert!(engine.containers.inspect(&spec.name).await.unwrap().is_none());
    for again in [
        engine.containers.remove(&id).await,
        engine.containers.kill(&id).await,
        engine.containers.stop(&id, Duration::ZERO).await,
    ] {
        again.unwrap();
    }
    assert!(matches!(engine.containers.start(&id).await, Err(EngineError::ContainerMissing(_))));

    // The address is free at once for the next instance.
    let next = test.instance(5, "sleep 60");
    let next_id = engine.containers.create_workload(&next).await.unwrap();
    engine.containers.start(&next_id).await.unwrap();
    assert_eq!(engine.containers.inspect(&next.name).await.unwrap().unwrap().address, Some(spec.address.into()));
}

async fn lines(engine: &Engine, id: &ContainerId) -> Vec<(bool, String)> {
    engine
        .containers
        .logs(id, LogOptions::default())
        .map_ok(|line| (line.stderr, line.text))
        .try_collect()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_another_server_are_not_touched() {
    let test = TestEngine::new().await;
    let other = Engine::connect(&test.config, &format!("{}-x", test.engine.server_id())).await.unwrap();
    let spec = test.instance(0, "sleep 60");
    let id = test.engine.containers.create_workload(&spec).await.unwrap();
    test.engine.containers.start(&id).await.unwrap();
    for refused in [
        other.containers.remove(&id).await,
        other.containers.kill(&id).await,
        other.containers.stop(&id, Duration::ZERO).await,
        other.containers.start(&id).await,
        other.images.remove_image_tag(&test.engine.images.own_tag("busybox", "1")).await,
        other.images.tag(&test.image, "debian:13").await,
    ] {
        assert!(matches!(refused, Err(EngineError::NotOurs(_))), "{refused:?}");
    }
    assert!(other.containers.list(None).await.unwrap().is_empty());
    other.remove_all().await.unwrap();
    assert_eq!(test.engine.containers.inspect(&spec.name).await.unwrap().unwrap().state, ContainerState::Running);

    let overlap = other.containers.ensure_app_bridge(0).await.unwrap_err();
    assert!(overlap.to_string().starts_with("network.range: "), "{overlap}");
    other.remove_all().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_tagged_and_missing_ones_are_reported() {
    let test = TestEngine::new().await;
    let tag = test.engine.images.release_tag(&"hello".parse().unwrap(), 1);
    test.engine.images.tag(&test.image, &tag).await.unwrap();
    assert_eq!(test.engine.images.image_id(&tag).await.unwrap().as_ref(), Some(&test.image));
    assert_eq!(test.engine.images.tagged_images().await.unwrap()[0].tags.len(), 2);
    test.engine.images.remove_image_tag(&tag).await.unwrap();
    test.engine.images.remove_image_tag(&tag).await.unwrap();
    assert_eq!(test.engine.images.image_id(&tag).await.unwrap(), None);

    let mut spec = test.instance(0, "true");
    spec.image = format!("sha256:{}", "1".repeat(64)).parse().unwrap();
    let missing = test.engine.containers.create_workload(&spec).await.unwrap_err();
    assert!(matches!(missing, EngineError::ImageMissing { .. }), "{missing}");
    let refused = test.engine.images.pull(&format!("127.0.0.1:9/x@{}", spec.image), "token").await.unwrap_err();
    assert!(matches!(refused, EngineError::Docker { act: Act::Pull, .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_exit_is_reported() {
    let test = TestEngine::new().await;
    let mut exits = test.engine.containers.exits(Kind::Instance);
    let mut expected = Vec::new();
    for code in 0..3 {
        let spec = test.instance(code, &format!("exit {code}"));
        let id = test.engine.containers.create_workload(&spec).await.unwrap();
        test.engine.containers.start(&id).await.unwrap();
        expected.push((spec.name.clone(), i64::from(code)));
    }
    // The stream is read only now: it has the exits since it was made.
    let mut reported = Vec::new();
    while reported.len() < expected.len() {
        let exit = tokio::time::timeout(DEADLINE, exits.next()).await.unwrap().unwrap();
        assert_eq!(exit.labels[label::INSTANCE], exit.name);
        reported.push((exit.name, exit.exit_code));
    }
    assert_eq!(reported, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_reaches_instances_and_they_do_not_reach_each_other() {
    let test = TestEngine::new().await;
    let engine = &test.engine;
    let server = test.instance(0, "httpd -f -p 8080 & httpd -f -p 127.0.0.1:3000");
    let id = engine.containers.create_workload(&server).await.unwrap();
    engine.containers.start(&id).await.unwrap();
    let listens = || async {
        let listeners = engine.containers.listening_ports(&id).await.unwrap();
        let listens =
            |ListeningSocket { port, loopback, waiting, ipv6: _ }: &ListeningSocket| (*port, *loopback, *waiting);
        listeners.iter().map(listens).collect::<Vec<_>>() == [(3000, true, 0), (8080, false, 0)]
    };
    until("both servers listen", listens).await;
    let address = SocketAddr::from((server.address, 8080));
    tokio::time::timeout(DEADLINE, tokio::net::TcpStream::connect(address)).await.unwrap().unwrap();

    // It connects to itself first, which shows that its attempt would succeed.
    let script = format!(
        "httpd -p 9000; nc -w 60 127.0.0.1 9000 </dev/null || exit 3; nc -w 2 {} 8080 </dev/null && exit 4; exit 5",
        server.address
    );
    let peer = test.instance(1, &script);
    let mut exits = engine.containers.exits(Kind::Instance);
    let peer_id = engine.containers.create_workload(&peer).await.unwrap();
    engine.containers.start(&peer_id).await.unwrap();
    let exit = tokio::time::timeout(DEADLINE, exits.next()).await.unwrap().unwrap();
    assert_eq!(exit.id, peer_id);
    assert_eq!(exit.exit_code, 5, "3: cannot connect to itself, 4: reached the other instance");
}
