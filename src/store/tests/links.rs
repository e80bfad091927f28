use super::*;
use crate::model::{AddressPlan, Destination, Opening, Protocol, TaskCommand, TaskKind};

fn plan() -> AddressPlan {
    "10.210.0.0/16".parse().unwrap()
}

fn task(app: &App) -> NewTask {
    NewTask {
        id: format!("of-{}", app.name).parse().unwrap(),
        app: app.id,
        kind: TaskKind::Run,
        job: None,
        release: 1,
        command: TaskCommand::Script("true".into()),
        attached: false,
        limit_seconds: 60,
        created_by: "ann".into(),
    }
}

/// Source and port of each opening, which all lead to the router.
async fn openings(store: &Store) -> Vec<(String, u16)> {
    let opening = |Opening { source, destination, protocol, port }: Opening| {
        assert_eq!(destination, Destination::Block(std::net::IpAddr::from([10, 210, 0, 1]).into()));
        assert_eq!(protocol, Some(Protocol::Tcp));
        (source.to_string(), port.unwrap())
    };
    store.openings(plan()).await.unwrap().into_iter().map(opening).collect()
}

#[tokio::test]
async fn a_link_opens_the_ports_of_one_app_to_the_addresses_of_another() {
    let Fixture { store, dir: _dir } = &fixture();
    let app = |name: &str, port: u16| store.create_app(name.parse().unwrap(), None, port..=port, vec![]);
    let (shop, api, other) =
        (app("shop", 10_000).await.unwrap(), app("api", 10_001).await.unwrap(), app("other", 10_002).await.unwrap());
    for app in [&shop, &other] {
        store.add_task(task(app), Placement::Local(plan())).await.unwrap();
    }
    assert_eq!(openings(store).await, []);
    assert!(store.link_apps(shop.id, api.id, "bob".into()).await.unwrap());
    assert!(!store.link_apps(shop.id, api.id, "eve".into()).await.unwrap(), "it exists");
    assert_eq!(openings(store).await, [("10.210.0.2".to_owned(), 10_001)]);
    let mapping = |scheme, host_port| PortMapping { scheme, host_port, container_port: 5000 };
    let mappings = vec![mapping(PortScheme::Http, 7000), mapping(PortScheme::Tcp, 7001)];
    store.set_port_mappings(api.id, mappings).await.unwrap();
    assert_eq!(openings(store).await, [("10.210.0.2".to_owned(), 7000), ("10.210.0.2".to_owned(), 7001)]);
    assert_eq!(store.routing_state().await.unwrap().linked, [api.id].into());
    assert_eq!(store.linked_names("shop".parse().unwrap()).await.unwrap(), ["api".parse().unwrap()]);
    assert_eq!(store.linked_names("api".parse().unwrap()).await.unwrap(), []);

    let (links, seen_from_api) = (store.links(shop.id).await.unwrap(), store.links(api.id).await.unwrap());
    assert_eq!((links.to[0].app, links.to[0].created_by.as_str(), links.from.len()), (api.id, "bob", 0));
    assert_eq!((seen_from_api.from[0].name.as_str(), seen_from_api.to.len()), ("shop", 0));

    assert!(store.unlink_apps(shop.id, api.id).await.unwrap());
    assert!(!store.unlink_apps(shop.id, api.id).await.unwrap());
    assert_eq!(openings(store).await, []);
}

#[tokio::test]
async fn an_app_that_is_being_destroyed_has_no_links() {
    for destroyed in ["shop", "api"] {
        let Fixture { store, dir: _dir } = &fixture();
        let app = |name: &str, port: u16| store.create_app(name.parse().unwrap(), None, port..=port, vec![]);
        let (shop, api) = (app("shop", 10_000).await.unwrap(), app("api", 10_001).await.unwrap());
        store.add_task(task(&shop), Placement::Local(plan())).await.unwrap();
        store.link_apps(shop.id, api.id, "bob".into()).await.unwrap();
        let id = if destroyed == "shop" { shop.id } else { api.id };
        store.mark_destroying(id).await.unwrap();
        assert_eq!(openings(store).await, [], "{destroyed}");
        assert_eq!(store.linked_names("shop".parse().unwrap()).await.unwrap(), [], "{destroyed}");
    }
}
