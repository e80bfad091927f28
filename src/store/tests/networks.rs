use super::*;
use crate::model::{AddressPlan, Destination, NetworkTarget, Opening};

fn target(text: &str) -> NetworkTarget {
    text.parse().unwrap()
}

/// Adds an instance of the app; returns its address.
async fn instance(f: &Fixture, app: AppId, id: &str, plan: AddressPlan) -> String {
    let new = NewInstance {
        id: id.parse().unwrap(),
        app,
        generation: 1,
        release: 1,
        process_type: ProcessType::web(),
        ordinal: 1,
        restarts: 0,
        not_before: 0,
        port: 8080,
        last_failure: None,
    };
    f.store.add_instance(new, Placement::Local(plan)).await.unwrap().endpoint.unwrap().to_string()
}

#[tokio::test]
async fn an_opening_follows_the_addresses_of_its_app() {
    let f = fixture();
    let plan: AddressPlan = "10.210.0.0/16".parse().unwrap();
    let (shop, other) = (
        f.app("shop").await,
        f.store.create_app("other".parse().unwrap(), None, 10_002..=10_003, vec![]).await.unwrap(),
    );
    let instances = [instance(&f, shop.id, "a", plan).await, instance(&f, shop.id, "b", plan).await];
    instance(&f, other.id, "c", plan).await;
    assert!(f.store.openings(plan).await.unwrap().is_empty());

    let allow = |target: NetworkTarget, addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        f.store.allow_target(shop.id, target, addresses, "ann".into())
    };
    assert!(allow(target("host:5432"), &[]).await.unwrap());
    assert!(!allow(target("host:5432"), &[]).await.unwrap(), "it is there already");
    assert!(allow(target("db.example:1"), &["10.0.0.7"]).await.unwrap());
    let opened = |found: Vec<Opening>| {
        let mut found: Vec<_> = found.into_iter().map(|o| (o.source.to_string(), o.destination, o.port)).collect();
        found.sort();
        found
    };
    let resolved = |address: &str| Destination::Resolved(address.parse().unwrap());
    let expected = |resolved: Destination| {
        let of = |address: &String| {
            [(address.clone(), Destination::ThisMachine, Some(5432)), (address.clone(), resolved, Some(1))]
        };
        instances.iter().flat_map(of).collect::<Vec<_>>()
    };
    assert_eq!(opened(f.store.openings(plan).await.unwrap()), expected(resolved("10.0.0.7")));

    let names = f.store.named_targets().await.unwrap();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), [(target("db.example:1"), vec!["10.0.0.7".parse().unwrap()])]);
    f.store.set_target_addresses(target("db.example:1"), vec!["10.0.0.8".parse().unwrap()]).await.unwrap();
    assert_eq!(opened(f.store.openings(plan).await.unwrap()), expected(resolved("10.0.0.8")));

    f.store.remove_instance("a".parse().unwrap()).await.unwrap();
    assert!(f.store.deny_target(shop.id, target("db.example:1")).await.unwrap());
    assert!(!f.store.deny_target(shop.id, target("db.example:1")).await.unwrap());
    let left = opened(f.store.openings(plan).await.unwrap());
    assert_eq!(left, [(instances[1].clone(), Destination::ThisMachine, Some(5432))]);
    let listed = f.store.allowed_targets(shop.id).await.unwrap();
    assert_eq!((listed.len(), listed[0].created_by.as_str()), (1, "ann"));
    assert!(f.store.allowed_targets(other.id).await.unwrap().is_empty());
}
