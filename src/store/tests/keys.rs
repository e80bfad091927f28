use super::*;

#[tokio::test]
async fn a_first_key_creates_its_user_and_removing_it_keeps_the_user() {
    let f = fixture();
    let added = f.store.add_key(NewKey { admin: true, ..new_key("bob", "SHA256:x") }).await.unwrap();
    assert!(added.user_created && !added.promoted);
    let key = added.key;
    assert_eq!((key.user_name.as_str(), key.name.as_str(), key.admin, key.machine), ("bob", "bob", true, false));
    assert_eq!((key.fingerprint.as_str(), key.public_key.as_str()), ("SHA256:x", "public"));
    assert_eq!(f.store.key_by_fingerprint("SHA256:x".into()).await.unwrap(), Some(key.clone()));
    assert_eq!(f.store.key_by_fingerprint("SHA256:y".into()).await.unwrap(), None);

    assert_eq!(f.store.remove_key("bob".into()).await.unwrap(), key);
    assert_eq!(f.store.keys().await.unwrap(), []);
    assert_eq!(f.store.users().await.unwrap()[0].id, key.user);
    let error = f.store.remove_key("bob".into()).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)));
    assert_eq!(error.to_string(), "there is no key named bob; ssh-keys:list shows all");
    let again = f.store.add_key(new_key("bob", "SHA256:x")).await.unwrap();
    assert!(!again.user_created);
    assert_ne!(again.key.id, key.id);
    assert_eq!(f.store.remove_key("SHA256:x".into()).await.unwrap(), again.key);
}

#[tokio::test]
async fn a_key_without_a_name_gets_the_first_free_one() {
    let f = fixture();
    let named = |name: &str| NewKey { name: Some(name.parse().unwrap()), ..new_key("alice", name) };
    f.store.add_key(named("bob-2")).await.unwrap();
    f.store.add_key(named("a")).await.unwrap();
    for (fingerprint, expected) in [("SHA256:1", "bob"), ("SHA256:2", "bob-3"), ("SHA256:3", "bob-4")] {
        let added = f.store.add_key(new_key("bob", fingerprint)).await.unwrap();
        assert_eq!(added.key.name.as_str(), expected);
    }
    let keys: Vec<_> = f.store.keys().await.unwrap().iter().map(|k| format!("{}/{}", k.user_name, k.name)).collect();
    assert_eq!(keys, ["alice/a", "alice/bob-2", "bob/bob", "bob/bob-3", "bob/bob-4"]);

    let long = "x".repeat(64);
    f.store.add_key(new_key(&long, "SHA256:4")).await.unwrap();
    let second = f.store.add_key(new_key(&long, "SHA256:5")).await.unwrap();
    assert_eq!(second.key.name.as_str(), format!("{}-2", "x".repeat(62)));
}

#[tokio::test]
async fn keys_and_their_names_are_unique() {
    let f = fixture();
    f.store.add_key(new_key("bob", "SHA256:x")).await.unwrap();
    let error = f.store.add_key(new_key("eve", "SHA256:x")).await.unwrap_err();
    assert!(matches!(error, StoreError::Taken(_)));
    let expected = "this key is registered already, as bob; remove that with ssh-keys:remove bob first";
    assert_eq!(error.to_string(), expected);
    let taken = NewKey { name: Some("bob".parse().unwrap()), ..new_key("eve", "SHA256:y") };
    let error = f.store.add_key(taken).await.unwrap_err();
    assert!(matches!(error, StoreError::Taken(_)));
    assert!(error.to_string().starts_with("there is a key named bob already; "), "{error}");
    assert_eq!(f.store.user("eve".parse().unwrap()).await.unwrap(), None, "nothing is left of what was refused");
}

#[tokio::test]
async fn a_key_promotes_an_existing_user_but_takes_no_right_away() {
    let f = fixture();
    f.user("bob").await;
    let admin = f.store.add_key(NewKey { admin: true, ..new_key("bob", "SHA256:x") }).await.unwrap();
    assert!(admin.promoted && admin.key.admin && !admin.user_created);
    let second = f.store.add_key(new_key("bob", "SHA256:y")).await.unwrap();
    assert!(!second.promoted && second.key.admin);
}

#[tokio::test]
async fn a_user_created_for_one_app_is_a_machine_and_its_member() {
    let f = fixture();
    let (alice, bob) = (f.user("alice").await, f.user("bob").await);
    let app = f.owned_app("shop", &alice).await.id;
    let for_app =
        |user: &str, fingerprint: &str, role| NewKey { membership: Some((app, role)), ..new_key(user, fingerprint) };
    let added = f.store.add_key(for_app("ci", "SHA256:1", Role::Deployer)).await.unwrap();
    assert!(added.key.machine && added.user_created && !added.key.admin);
    assert_eq!(f.store.role(app, added.key.user).await.unwrap(), Some(Role::Deployer));
    let raised = f.store.add_key(for_app("ci", "SHA256:2", Role::Operator)).await.unwrap();
    assert_eq!(f.store.role(app, raised.key.user).await.unwrap(), Some(Role::Operator));
    let person = f.store.add_key(for_app("bob", "SHA256:3", Role::Viewer)).await.unwrap();
    assert!(!person.key.machine, "bob existed before");
    assert_eq!(f.store.role(app, bob.id).await.unwrap(), Some(Role::Viewer));

    for (user, role) in [("alice", Role::Owner), ("ci", Role::Operator)] {
        let error = f.store.add_key(for_app(user, "SHA256:4", Role::Deployer)).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)));
        assert!(error.to_string().starts_with(&format!("{user} is {role} of shop already")), "{error}");
    }
    assert_eq!(f.store.key_by_fingerprint("SHA256:4".into()).await.unwrap(), None);
    assert_eq!(f.store.role(app, alice.id).await.unwrap(), Some(Role::Owner));
}
