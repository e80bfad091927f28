use super::*;

#[tokio::test]
async fn users_are_read_back_by_name() {
    let f = fixture();
    let bob = f.store.add_user("bob".parse().unwrap(), false).await.unwrap();
    let alice = f.store.add_user("alice".parse().unwrap(), true).await.unwrap();
    assert_eq!((alice.admin, alice.machine, bob.admin), (true, false, false));
    assert_eq!(f.store.users().await.unwrap(), [alice.clone(), bob]);
    assert_eq!(f.store.user("alice".parse().unwrap()).await.unwrap(), Some(alice.clone()));
    assert_eq!(f.store.user_named("alice".parse().unwrap()).await.unwrap(), alice);
    assert_eq!(f.store.user("carol".parse().unwrap()).await.unwrap(), None);
    let error = f.store.user_named("carol".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)));
    let expected = "there is no user named carol; users:list lists all, ssh-keys:add carol adds one";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn the_name_of_a_user_is_unique() {
    let f = fixture();
    f.user("bob").await;
    let error = f.store.add_user("bob".parse().unwrap(), true).await.unwrap_err();
    assert!(matches!(error, StoreError::Taken(_)));
    assert!(error.to_string().starts_with("there is a user named bob already; "), "{error}");
}

#[tokio::test]
async fn the_last_admin_remains_an_admin() {
    let f = fixture();
    let alice = f.store.add_user("alice".parse().unwrap(), true).await.unwrap();
    let bob = f.user("bob").await;
    let error = f.store.set_admin(alice.id, false).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)));
    assert!(error.to_string().starts_with("alice is the last admin; "), "{error}");
    let error = f.store.remove_user(alice.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)));
    assert!(error.to_string().starts_with("alice is the last admin; "), "{error}");

    f.store.set_admin(bob.id, false).await.unwrap();
    f.store.set_admin(bob.id, true).await.unwrap();
    f.store.set_admin(alice.id, false).await.unwrap();
    let admins: Vec<_> = f.store.users().await.unwrap().iter().map(|u| (u.name.to_string(), u.admin)).collect();
    assert_eq!(admins, [("alice".to_owned(), false), ("bob".to_owned(), true)]);
    f.store.remove_user(alice.id).await.unwrap();
    assert!(matches!(f.store.set_admin(alice.id, true).await, Err(StoreError::NotFound(_))), "she is removed");
    assert!(matches!(f.store.remove_user(alice.id).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn the_only_owner_of_an_app_cannot_be_removed() {
    let f = fixture();
    let (alice, bob) = (f.user("alice").await, f.user("bob").await);
    for name in ["shop", "api"] {
        f.owned_app(name, &bob).await;
    }
    let doomed = f.owned_app("doomed", &bob).await;
    f.store.mark_destroying(doomed.id).await.unwrap();
    let error = f.store.remove_user(bob.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)));
    let expected = "bob is the only owner of api, shop; access:transfer api USER gives api to another user";
    assert_eq!(error.to_string(), expected);
    let shop = f.store.app_named("shop".parse().unwrap()).await.unwrap().id;
    let api = f.store.app_named("api".parse().unwrap()).await.unwrap().id;
    f.store.set_member(shop, alice.id, Role::Operator, ADMIN).await.unwrap();
    f.store.transfer(api, alice.id, ADMIN).await.unwrap();
    let error = f.store.remove_user(bob.id).await.unwrap_err().to_string();
    assert!(error.starts_with("bob is the only owner of shop; "), "an operator is no owner: {error}");
    f.store.set_member(shop, alice.id, Role::Owner, ADMIN).await.unwrap();
    f.store.remove_user(bob.id).await.unwrap();
}

#[tokio::test]
async fn the_keys_and_memberships_of_a_removed_user_are_removed() {
    let f = fixture();
    let (alice, bob) = (f.user("alice").await, f.user("bob").await);
    let app = f.owned_app("shop", &alice).await.id;
    f.store.set_member(app, bob.id, Role::Deployer, ADMIN).await.unwrap();
    f.store.add_key(new_key("bob", "SHA256:x")).await.unwrap();
    f.store.remove_user(bob.id).await.unwrap();
    assert_eq!(f.store.key_by_fingerprint("SHA256:x".into()).await.unwrap(), None);
    assert_eq!(f.store.role(app, bob.id).await.unwrap(), None);
    let again = f.user("bob").await;
    assert_ne!(again.id, bob.id);
    assert_eq!(f.store.roles_of(again.id).await.unwrap(), BTreeMap::new());
}
