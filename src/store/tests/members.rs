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
        f.store.set_member(app, user.id, role, ADMIN).await.unwrap();
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
    f.store.set_member(app, bob.id, Role::Operator, ADMIN).await.unwrap();
    let expected = "alice is the only owner of shop; make another user an owner first (access:add shop USER owner), who then takes \
                    it with access:transfer shop USER";
    let error = f.store.set_member(app, alice.id, Role::Operator, ADMIN).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)));
    assert_eq!(error.to_string(), expected);
    let error = f.store.remove_member(app, alice.id, ADMIN).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)));
    assert_eq!(error.to_string(), expected);

    f.store.set_member(app, alice.id, Role::Owner, ADMIN).await.unwrap();
    f.store.set_member(app, bob.id, Role::Owner, ADMIN).await.unwrap();
    f.store.set_member(app, alice.id, Role::Viewer, ADMIN).await.unwrap();
    f.store.remove_member(app, alice.id, ADMIN).await.unwrap();
    assert_eq!(names(&f.store.members(app).await.unwrap()), [("bob", Role::Owner)]);
    let error = f.store.remove_member(app, alice.id, ADMIN).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)));
    assert!(error.to_string().starts_with("alice is not a member of shop; "), "{error}");
}

#[tokio::test]
async fn a_transfer_makes_one_owner_of_all() {
    let f = fixture();
    let (alice, bob, carol) = (f.user("alice").await, f.user("bob").await, f.user("carol").await);
    let app = f.owned_app("shop", &alice).await.id;
    f.store.set_member(app, bob.id, Role::Owner, ADMIN).await.unwrap();
    f.store.set_member(app, carol.id, Role::Viewer, ADMIN).await.unwrap();
    f.store.transfer(app, carol.id, ADMIN).await.unwrap();
    let expected = [("carol", Role::Owner), ("alice", Role::Operator), ("bob", Role::Operator)];
    assert_eq!(names(&f.store.members(app).await.unwrap()), expected);
    f.store.transfer(app, carol.id, ADMIN).await.unwrap();
    assert_eq!(names(&f.store.members(app).await.unwrap()), expected);

    let unowned = f.app("unowned").await.id;
    f.store.transfer(unowned, bob.id, ADMIN).await.unwrap();
    assert_eq!(names(&f.store.members(unowned).await.unwrap()), [("bob", Role::Owner)]);
}

fn refused(result: Result<()>) -> String {
    match result {
        Err(StoreError::Refused(message)) => message,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn an_app_is_taken_by_its_next_owner_or_given_by_an_admin() {
    let f = fixture();
    let (eve, bob, carol) = (f.user("eve").await, f.user("bob").await, f.user("carol").await);
    let by = |user: &User| Changer { user: Some(user.id), admin: false };
    let app = f.owned_app("shop", &eve).await.id;
    let owner = async || f.store.owners().await.unwrap().remove(&app).unwrap().to_string();
    let what = "shop would count against bob, and only bob or an admin may do that; ";
    assert_eq!(
        refused(f.store.transfer(app, bob.id, by(&eve)).await),
        format!("{what}make bob an owner (access:add shop bob owner), who then takes it with access:transfer shop bob")
    );
    assert_eq!(names(&f.store.members(app).await.unwrap()), [("eve", Role::Owner)], "nothing has changed");
    let nobody = Changer { user: None, admin: false };
    assert!(refused(f.store.transfer(app, bob.id, nobody).await).starts_with(what));

    f.store.set_member(app, bob.id, Role::Owner, by(&eve)).await.unwrap();
    f.store.set_member(app, carol.id, Role::Owner, by(&eve)).await.unwrap();
    f.set_since(bob.id, now() + 1).await;
    f.set_since(carol.id, now() + 2).await;
    let takes = format!("{what}bob takes it with access:transfer shop bob");
    for other in [&eve, &carol] {
        assert_eq!(refused(f.store.transfer(app, bob.id, by(other)).await), takes);
        assert_eq!(refused(f.store.remove_member(app, eve.id, by(other)).await), takes);
        assert_eq!(refused(f.store.set_member(app, eve.id, Role::Viewer, by(other)).await), takes);
    }
    assert_eq!(owner().await, "eve");
    f.store.remove_member(app, carol.id, by(&eve)).await.unwrap();
    f.store.transfer(app, bob.id, by(&bob)).await.unwrap();
    assert_eq!(names(&f.store.members(app).await.unwrap()), [("bob", Role::Owner), ("eve", Role::Operator)]);

    f.store.set_member(app, carol.id, Role::Owner, by(&bob)).await.unwrap();
    f.store.remove_member(app, bob.id, by(&carol)).await.unwrap();
    assert_eq!(owner().await, "carol", "her own act");
    f.store.transfer(app, eve.id, ADMIN).await.unwrap();
    assert_eq!(owner().await, "eve");
}

#[tokio::test]
async fn the_owner_of_an_app_is_the_one_who_became_it_first() {
    let f = fixture();
    let (zoe, bob) = (f.user("zoe").await, f.user("bob").await);
    let app = f.owned_app("shop", &zoe).await.id;
    // Bob was a member long before he became an owner.
    f.store.set_member(app, bob.id, Role::Operator, ADMIN).await.unwrap();
    f.set_since(bob.id, 1).await;
    f.set_since(zoe.id, 2).await;
    f.store.set_member(app, bob.id, Role::Owner, ADMIN).await.unwrap();
    assert_eq!(f.store.owners().await.unwrap()[&app].as_str(), "zoe");
    f.store.set_member(app, zoe.id, Role::Owner, ADMIN).await.unwrap();
    assert_eq!(f.store.owners().await.unwrap()[&app].as_str(), "zoe", "the same role again changes nothing");
    f.set_since(bob.id, 1).await;
    assert_eq!(f.store.owners().await.unwrap()[&app].as_str(), "bob");
}

#[tokio::test]
async fn the_owner_after_a_change_is_known_before_it() {
    let f = fixture();
    let (zoe, bob, carol) = (f.user("zoe").await, f.user("bob").await, f.user("carol").await);
    let app = f.owned_app("shop", &zoe).await.id;
    let after = async |app, user: &User, role| f.store.owner_after(app, user.id, role).await.unwrap();
    assert_eq!(after(app, &zoe, None).await, None);
    assert_eq!(after(app, &bob, Some(Role::Owner)).await, Some(zoe.id));
    f.store.set_member(app, bob.id, Role::Owner, ADMIN).await.unwrap();
    f.store.set_member(app, carol.id, Role::Owner, ADMIN).await.unwrap();
    let later = now() + 1;
    f.set_since(bob.id, later + 1).await;
    f.set_since(carol.id, later).await;
    assert_eq!(after(app, &zoe, Some(Role::Operator)).await, Some(carol.id));
    assert_eq!(after(app, &carol, None).await, Some(zoe.id));
    assert_eq!(after(app, &zoe, Some(Role::Owner)).await, Some(zoe.id));
    f.store.remove_member(app, zoe.id, ADMIN).await.unwrap();
    assert_eq!(f.store.owners().await.unwrap()[&app].as_str(), "carol", "as told");

    let unowned = f.app("unowned").await.id;
    assert_eq!(after(unowned, &bob, Some(Role::Owner)).await, Some(bob.id));
    assert_eq!(after(unowned, &bob, Some(Role::Viewer)).await, None);
}

#[tokio::test]
async fn members_must_exist_and_go_with_their_app() {
    let f = fixture();
    let alice = f.user("alice").await;
    let app = f.owned_app("shop", &alice).await.id;
    let error = f.store.set_member(app, UserId(99), Role::Viewer, ADMIN).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)), "{error}");
    let error = f.store.set_member(AppId(99), alice.id, Role::Viewer, ADMIN).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)), "{error}");
    let unknown = f.store.create_app("api".parse().unwrap(), Some(UserId(99)), 10_000..=10_009, vec![]).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))));
    assert_eq!(f.store.find_app("api".parse().unwrap()).await.unwrap(), None, "nothing is left of what was refused");
    f.store.forget_app(app).await.unwrap();
    assert_eq!(f.store.roles_of(alice.id).await.unwrap(), BTreeMap::new());
}
