use super::*;

impl Fixture {
    async fn set_since(&self, user: UserId, since: Millis) {
        let sql = "UPDATE members SET since = ?2 WHERE user = ?1";
        self.store.transact(move |t, _| Ok(t.execute(sql, (user.0, since))?)).await.unwrap();
    }
}

fn names(members: &[Member]) -> Vec<(&str, Role)> {
    members.iter().map(|member| (member.user.as_str(), member.role)).collect()
}

#[tokio::test]
async fn members_are_listed_by_role_then_by_name() {
    let f = fixture();
    let alice = f.user("alice").await;
    let app = f.owned_app("shop", &alice).await.id;
    for (name, role) in
        [("zoe", Role::Owner), ("bob", Role::Viewer), ("carol", Role::Operator), ("adam", Role::Operator)]
    {
        let user = f.user(name).await;
        f.store.set_member(app, user.id, role).await.unwrap();
        assert_eq!(f.store.role(app, user.id).await.unwrap(), Some(role));
        assert_eq!(f.store.roles_of(user.id).await.unwrap(), BTreeMap::from([(app, role)]));
    }
    let expected = [
        ("alice", Role::Owner),
        ("zoe", Role::Owner),
        ("adam", Role::Operator),
        ("carol", Role::Operator),
        ("bob", Role::Viewer),
    ];
    assert_eq!(names(&f.store.members(app).await.unwrap()), expected);
    let other = f.app("other").await.id;
    assert_eq!(f.store.members(other).await.unwrap(), []);
    assert_eq!(f.store.role(other, alice.id).await.unwrap(), None);
    assert_eq!(f.store.owners().await.unwrap().keys().collect::<Vec<_>>(), [&app]);
}

#[tokio::test]
async fn the_last_owner_keeps_the_role() {
    let f = fixture();
    let (alice, bob) = (f.user("alice").await, f.user("bob").await);
    let app = f.owned_app("shop", &alice).await.id;
    f.store.set_member(app, bob.id, Role::Operator).await.unwrap();
    let expected = "alice is the only owner of shop; access:transfer shop USER gives it to another user first";
    let error = f.store.set_member(app, alice.id, Role::Operator).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)));
    assert_eq!(error.to_string(), expected);
    let error = f.store.remove_member(app, alice.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)));
    assert_eq!(error.to_string(), expected);

    f.store.set_member(app, alice.id, Role::Owner).await.unwrap();
    f.store.set_member(app, bob.id, Role::Owner).await.unwrap();
    f.store.set_member(app, alice.id, Role::Viewer).await.unwrap();
    f.store.remove_member(app, alice.id).await.unwrap();
    assert_eq!(names(&f.store.members(app).await.unwrap()), [("bob", Role::Owner)]);
    let error = f.store.remove_member(app, alice.id).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)));
    assert!(error.to_string().starts_with("alice is not a member of shop; "), "{error}");
}

#[tokio::test]
async fn a_transfer_makes_one_owner_of_all() {
    let f = fixture();
    let (alice, bob, carol) = (f.user("alice").await, f.user("bob").await, f.user("carol").await);
    let app = f.owned_app("shop", &alice).await.id;
    f.store.set_member(app, bob.id, Role::Owner).await.unwrap();
    f.store.set_member(app, carol.id, Role::Viewer).await.unwrap();
    f.store.transfer(app, carol.id).await.unwrap();
    let expected = [("carol", Role::Owner), ("alice", Role::Operator), ("bob", Role::Operator)];
    assert_eq!(names(&f.store.members(app).await.unwrap()), expected);
    f.store.transfer(app, carol.id).await.unwrap();
    assert_eq!(names(&f.store.members(app).await.unwrap()), expected);

    let unowned = f.app("unowned").await.id;
    f.store.transfer(unowned, bob.id).await.unwrap();
    assert_eq!(names(&f.store.members(unowned).await.unwrap()), [("bob", Role::Owner)]);
}

#[tokio::test]
async fn the_owner_of_an_app_is_the_one_who_became_it_first() {
    let f = fixture();
    let (zoe, bob) = (f.user("zoe").await, f.user("bob").await);
    let app = f.owned_app("shop", &zoe).await.id;
    // Bob was a member long before he became an owner.
    f.store.set_member(app, bob.id, Role::Operator).await.unwrap();
    f.set_since(bob.id, 1).await;
    f.set_since(zoe.id, 2).await;
    f.store.set_member(app, bob.id, Role::Owner).await.unwrap();
    assert_eq!(f.store.owners().await.unwrap()[&app].as_str(), "zoe");
    f.store.set_member(app, zoe.id, Role::Owner).await.unwrap();
    assert_eq!(f.store.owners().await.unwrap()[&app].as_str(), "zoe", "the same role again changes nothing");
    f.set_since(bob.id, 1).await;
    assert_eq!(f.store.owners().await.unwrap()[&app].as_str(), "bob");
}

#[tokio::test]
async fn members_must_exist_and_go_with_their_app() {
    let f = fixture();
    let alice = f.user("alice").await;
    let app = f.owned_app("shop", &alice).await.id;
    let error = f.store.set_member(app, UserId(99), Role::Viewer).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)), "{error}");
    let error = f.store.set_member(AppId(99), alice.id, Role::Viewer).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)), "{error}");
    let unknown = f.store.create_app("api".parse().unwrap(), Some(UserId(99)), 10_000..=10_009, vec![]).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))));
    assert_eq!(f.store.find_app("api".parse().unwrap()).await.unwrap(), None, "nothing is left of what was refused");
    f.store.forget_app(app).await.unwrap();
    assert_eq!(f.store.roles_of(alice.id).await.unwrap(), BTreeMap::new());
}
