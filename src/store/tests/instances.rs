use super::*;

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
    };
    let mut seen = Vec::new();
    for n in 0..1002 {
        let made = f.store.add_instance(new(n)).await.unwrap();
        seen.push((made.bridge, made.slot));
        f.store.remove_instance(made.id).await.unwrap();
    }
    assert_eq!(seen[999], (0, 999));
    assert_eq!(seen[1000].0, 0, "all addresses of a bridge are used before the next bridge");
    assert!(seen[1000].1 < 999, "the address freed last is not used first");
}
