use std::net::IpAddr;

use super::*;
use crate::{model::AddressPlan, store::Placement};

#[tokio::test]
async fn the_address_that_was_free_the_longest_is_used_first() {
    let f = fixture();
    let app = f.app("a").await.id;
    let new = |n: u32| NewInstance {
        id: format!("i{n}").parse().unwrap(),
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
    let plan: AddressPlan = "10.210.0.0/16".parse().unwrap();
    let mut seen = Vec::new();
    for n in 0..1002 {
        let made = f.store.add_instance(new(n), Placement::Local(plan)).await.unwrap();
        seen.push(made.endpoint.unwrap());
        f.store.remove_instance(made.id).await.unwrap();
    }
    assert_eq!(seen[999], plan.instance(0, 999));
    let first_bridge = plan.instance(0, 0)..plan.instance(0, 999);
    for address in &seen[1000..] {
        let IpAddr::V4(address) = address else { panic!("{address}") };
        assert!(first_bridge.contains(address), "all addresses of a bridge are used first, the one freed last is not");
    }
}
