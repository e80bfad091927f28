use super::*;
use crate::model::RegistryHost;

fn login(host: &str, username: &str, password: &str) -> RegistryLogin {
    RegistryLogin { host: host.parse().unwrap(), username: username.into(), password: Secret::new(password) }
}

fn hosts(logins: &[RegistryLogin]) -> Vec<(&str, &str)> {
    logins.iter().map(|login| (login.host.as_str(), login.username.as_str())).collect()
}

#[tokio::test]
async fn an_apps_login_wins_over_the_servers_at_the_same_registry() {
    let f = fixture();
    let (one, two) = (f.app("one").await.id, f.app("two").await.id);
    let set = async |app, login| f.store.set_registry_login(app, login).await.unwrap();
    set(None, login("ghcr.io", "company", "of-the-server")).await;
    set(None, login("docker.io", "company", "hub")).await;
    set(Some(one), login("ghcr.io", "team", "first")).await;
    set(Some(one), login("ghcr.io", "team", "of-the-app")).await;
    set(Some(one), login("quay.io", "team", "quay")).await;

    let of_one = f.store.registry_logins(one).await.unwrap();
    assert_eq!(
        of_one,
        [
            login("docker.io", "company", "hub"),
            login("ghcr.io", "team", "of-the-app"),
            login("quay.io", "team", "quay")
        ]
    );
    let of_two = f.store.registry_logins(two).await.unwrap();
    assert_eq!(hosts(&of_two), [("docker.io", "company"), ("ghcr.io", "company")]);
    let rows = async |app| {
        let rows = f.store.registry_login_rows(app).await.unwrap();
        rows.into_iter().map(|row| (row.host.to_string(), row.app)).collect::<Vec<_>>()
    };
    let own = |host: &str, app| (host.to_owned(), app);
    assert_eq!(rows(None).await, [own("docker.io", None), own("ghcr.io", None)]);
    assert_eq!(rows(Some(one)).await, [own("docker.io", None), own("ghcr.io", Some(one)), own("quay.io", Some(one))]);

    let ghcr: RegistryHost = "ghcr.io".parse().unwrap();
    assert!(f.store.remove_registry_login(Some(one), ghcr.clone()).await.unwrap());
    assert!(!f.store.remove_registry_login(Some(one), ghcr.clone()).await.unwrap(), "the server's stays");
    let of_one = f.store.registry_logins(one).await.unwrap();
    assert_eq!(hosts(&of_one), [("docker.io", "company"), ("ghcr.io", "company"), ("quay.io", "team")]);

    f.store.forget_app(one).await.unwrap();
    assert_eq!(hosts(&f.store.registry_logins(one).await.unwrap()), hosts(&of_two), "an app takes its logins along");
    assert!(f.store.remove_registry_login(None, ghcr).await.unwrap());
}

#[tokio::test]
async fn a_password_is_in_no_file_and_belongs_to_one_app_and_registry() {
    let f = fixture();
    let (one, two) = (f.app("one").await.id, f.app("two").await.id);
    let secret = login("ghcr.io", "team", "hunter2-plain");
    assert!(!format!("{secret:?}").contains("hunter2"));
    f.store.set_registry_login(Some(one), secret.clone()).await.unwrap();
    for file in std::fs::read_dir(f.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(13).any(|window| window == b"hunter2-plain"));
    }
    assert_eq!(f.store.registry_logins(one).await.unwrap(), [secret]);
    let moved = async |sql: &'static str| {
        f.store.transact(move |t, _| Ok(t.execute(sql, [])?)).await.unwrap();
        f.store.registry_logins(two).await
    };
    assert!(matches!(moved("UPDATE registry_logins SET app = 2").await, Err(StoreError::Secret)));
    assert!(matches!(moved("UPDATE registry_logins SET app = NULL").await, Err(StoreError::Secret)));
}
