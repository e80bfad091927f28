//! What one client or one app takes, others still have.

use super::kit::*;
use crate::{
    config,
    router::protocol::{Protocol, Service, Table},
};

/// A router that lets clients have so many connections.
fn few(max_connections: usize) -> config::Router {
    config::Router { max_connections, ..config::Router::default() }
}

/// A table with an HTTP listener for each of these apps.
fn apps(apps: &[(&str, std::net::SocketAddr, &Instance)]) -> Table {
    let listeners = apps.iter().map(|(key, address, _)| listener(*address, Protocol::Http, &[("*", "/", key)]));
    let service = |key: &str, one: &Instance| Service { key: key.parse().unwrap(), targets: vec![one.target()] };
    let services = apps.iter().map(|(key, _, instance)| service(key, instance));
    Table { version: 1, listeners: listeners.collect(), services: services.collect() }
}

/// Whether a new connection is admitted, and if it is not, what the page says.
async fn ask(n: u8, address: std::net::SocketAddr) -> Result<Peer, String> {
    let mut client = Peer::connect_from(n, address).await;
    // A refused connection may be closed before.
    let _ = client.try_send(GET).await;
    match client.message().await {
        Some(answer) if answer.status() == 200 => Ok(client),
        Some(answer) => {
            assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("1")));
            assert_eq!(client.rest().await, "");
            Err(answer.text().to_owned())
        }
        None => Err(String::new()),
    }
}

/// The connections that this client gets.
async fn hold(n: u8, address: std::net::SocketAddr) -> Vec<Peer> {
    let mut held = Vec::new();
    while let Ok(one) = ask(n, address).await {
        held.push(one);
    }
    held
}

#[tokio::test]
async fn a_client_with_its_share_is_refused_and_others_are_served() {
    let echo = Instance::echo("one").await;
    let (_router, address) = Router::serving_with(few(16), &[&echo]).await;
    let mut held = hold(2, address).await;
    assert_eq!(held.len(), 8);
    let refused = ask(2, address).await.err().unwrap();
    assert!(
        refused.contains("the client 127.0.0.2 has 8 connections, which is its share of the router's 16"),
        "{refused}"
    );
    let mut other = ask(3, address).await.unwrap();
    for client in held.iter_mut().chain([&mut other]) {
        assert_eq!(client.request(GET).await.status(), 200, "what is open stays");
    }
    drop(held.pop());
    soon("the place is free", async { while ask(2, address).await.is_err() {} }).await;
}

#[tokio::test]
async fn an_app_with_its_share_is_refused_and_others_are_served() {
    let (crowded, quiet) = (Instance::echo("crowded").await, Instance::echo("quiet").await);
    let router = Router::start_with(few(16));
    let (at, other) = (free(), free());
    router.put(apps(&[("crowded/web/8080", at, &crowded), ("quiet/web/8080", other, &quiet)])).await;
    let mut held = Vec::new();
    let mut refused = String::new();
    for n in 2..40 {
        match ask(n, at).await {
            Ok(client) => held.push(client),
            Err(page) => refused = page,
        }
    }
    assert_eq!(held.len(), 12);
    assert!(refused.contains("the app crowded has 12 connections, which is its share of the router's 16"), "{refused}");
    let mut client = ask(2, other).await.unwrap();
    assert!(client.request(GET).await.text().starts_with("quiet"));
}

#[tokio::test]
async fn the_idle_connections_of_the_client_that_has_most_make_room() {
    let mut slow = Instance::by_hand("slow").await;
    let echo = Instance::echo("echo").await;
    let router = Router::start_with(few(8));
    let (at, other) = (free(), free());
    router.put(apps(&[("slow/web/8080", at, &slow), ("echo/web/8080", other, &echo)])).await;
    // Four connections of one client, one of them with a request in flight.
    let mut busy = Peer::connect_from(2, at).await;
    busy.send(GET).await;
    let mut upstream = slow.connection().await;
    upstream.message().await.unwrap();
    let mut idle = hold(2, other).await;
    assert_eq!(idle.len(), 3);
    let mut others = Vec::new();
    for n in 3..12 {
        others.extend(
            soon("room for a new client", async {
                loop {
                    if let Ok(client) = ask(n, other).await {
                        break Some(client);
                    }
                }
            })
            .await,
        );
    }
    for client in &mut idle {
        assert_eq!(client.rest().await, "", "closed between two requests");
    }
    upstream.send(OK).await;
    assert_eq!(busy.message().await.unwrap().text(), "ok");
}

#[tokio::test]
async fn an_app_with_its_share_of_requests_in_flight_gets_503_and_others_are_served() {
    let (mut slow, quiet) = (Instance::by_hand("slow").await, Instance::echo("quiet").await);
    let (reporter, _reports) = crate::router::unanswered::FailureReporter::new();
    let budget = crate::router::descriptors::DescriptorBudget::new(200, 1, 0);
    let state = crate::router::routes::RouterState::new(&config::Router::default(), budget, reporter);
    state.apply(apps(&[("slow/web/8080", free(), &slow), ("quiet/web/8080", free(), &quiet)]));
    let in_flight = budget.connections(2).in_flight;
    let worker = crate::router::thread_state::ThreadState::new(std::sync::Arc::new(state), 1);
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let send = |key: &'static str| {
                let worker = std::rc::Rc::clone(&worker);
                let mut request = hyper::Request::new(());
                request.headers_mut().insert("host", hyper::header::HeaderValue::from_static("a"));
                async move { crate::router::dispatch::dispatch(&worker, &key.parse().unwrap(), request, None).await }
            };
            let mut upstreams = Vec::new();
            let mut sent = Vec::new();
            // Until the app has three times as many as are free.
            for n in 0..in_flight {
                if n >= 3 * (in_flight - n) {
                    break;
                }
                sent.push(tokio::task::spawn_local(send("slow/web/8080")));
                upstreams.push(slow.connection().await);
            }
            let Err(refused) = send("slow/web/8080").await else { panic!("the app has its share") };
            assert_eq!(refused.error.status(), 503);
            assert!(matches!(refused.error, crate::router::error_page::ErrorPage::AppBusy));
            assert_eq!(send("quiet/web/8080").await.ok().unwrap().response.status(), 200);
            upstreams[0].message().await.unwrap();
            upstreams[0].send(OK).await;
            drop(sent.remove(0).await.unwrap());
            let again = tokio::task::spawn_local(send("slow/web/8080"));
            let mut upstream = slow.connection().await;
            upstream.message().await.unwrap();
            upstream.send(OK).await;
            assert!(again.await.unwrap().is_ok(), "one has ended");
        })
        .await;
}
