use std::time::Duration;

use super::*;

#[tokio::test]
async fn packages_and_chosen_buildpacks_are_read_back() {
    let f = fixture();
    let app = f.app("a").await.id;
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    f.store.add_package(one.clone(), "https://one.example".into(), true).await.unwrap();
    f.store.add_package(two.clone(), "https://two.example".into(), false).await.unwrap();
    let chosen = [
        ChosenBuildpack { source: "docker://registry.example/two:1".parse().unwrap(), package: Some(two.clone()) },
        ChosenBuildpack { source: "https://user:s3cret@one.example/x?token=t#v1:a".parse().unwrap(), package: None },
        ChosenBuildpack { source: "nodejs".parse().unwrap(), package: None },
    ];
    let change = chosen.to_vec();
    f.store.change_app_buildpacks(app, |_| Ok(change)).await.unwrap();
    assert_eq!(f.store.app_buildpacks(app).await.unwrap(), chosen);
    let refused = f
        .store
        .change_app_buildpacks(app, |_| Err(StoreError::NotFound("no such buildpack".into())))
        .await
        .unwrap_err();
    assert_eq!(refused.to_string(), "no such buildpack");

    f.store.uninstall_package(one.clone()).await.unwrap();
    let (at_once, hour) = (Duration::ZERO, Duration::from_hours(1));
    assert_eq!(f.store.unused_packages(hour, true).await.unwrap(), [], "it is young");
    let unused = f.store.unused_packages(at_once, false).await.unwrap();
    assert_eq!(unused, std::slice::from_ref(&one), "the other is chosen");
    assert_eq!(f.store.unused_packages(at_once, true).await.unwrap(), [one]);
    assert_eq!(f.store.unused_packages(at_once, true).await.unwrap(), []);
    let left = PackageRow { digest: two, source: Address::new("https://two.example"), installed: false };
    assert_eq!(f.store.packages().await.unwrap(), [left]);
}
