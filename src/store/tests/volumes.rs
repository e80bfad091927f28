use super::*;
use crate::model::Resource;

impl Fixture {
    async fn volume(&self, app: AppId, name: &str, mib: u64) -> Result<Volume> {
        let (name, size) = (name.parse().unwrap(), mib.try_into().unwrap());
        self.store.create_volume(app, name, size, "ann".into()).await
    }
}

fn of_volume(volume: &Volume, target: &str, process_type: Option<&str>) -> Mount {
    Mount {
        source: MountSource::Volume(volume.id, volume.name.clone()),
        target: target.parse().unwrap(),
        read_only: false,
        process_type: process_type.map(|name| name.parse().unwrap()),
    }
}

#[tokio::test]
async fn a_mount_belongs_to_an_app_and_goes_with_it() {
    let f = fixture();
    let app = f.app("a").await;
    let data = f.volume(app.id, "data", 16).await.unwrap();
    assert!(!data.ready);
    f.store.set_volume_ready(data.id).await.unwrap();
    let error = f.volume(app.id, "data", 16).await.unwrap_err().to_string();
    assert!(error.contains("has a volume data already"), "{error}");

    let (inner, outer) = (of_volume(&data, "/data/files", None), of_volume(&data, "/data", Some("worker")));
    f.store.add_mount(app.id, inner.clone(), "ann".into()).await.unwrap();
    f.store.add_mount(app.id, outer.clone(), "ann".into()).await.unwrap();
    let error = f.store.add_mount(app.id, outer.clone(), "ann".into()).await.unwrap_err().to_string();
    assert!(error.contains("something is mounted at /data already; "), "{error}");
    let now = f.store.app(app.id).await.unwrap().unwrap();
    assert_eq!(now.mounts, [outer, inner.clone()], "a folder before what is below it");
    assert_eq!(now.mounts_of(&ProcessType::web()).collect::<Vec<_>>(), [&inner]);
    assert_eq!(now.mounts_of(&"worker".parse().unwrap()).count(), 2);

    assert!(f.store.remove_mount(app.id, "/data".parse().unwrap()).await.unwrap());
    assert!(!f.store.remove_mount(app.id, "/data".parse().unwrap()).await.unwrap());
    f.store.forget_app(app.id).await.unwrap();
    assert!(f.store.volumes(app.id).await.unwrap().is_empty());
    let other = f.app("b").await;
    let next = f.volume(other.id, "data", 16).await.unwrap();
    assert!(next.id > data.id, "the file of a volume is never another one's");
}

#[tokio::test]
async fn an_app_has_few_mounts() {
    let f = fixture();
    let app = f.app("a").await;
    let data = f.volume(app.id, "data", 16).await.unwrap();
    let add = |n: u32| f.store.add_mount(app.id, of_volume(&data, &format!("/data/{n}"), None), "ann".into());
    for n in 0..30 {
        add(n).await.unwrap();
    }
    let error = add(30).await.unwrap_err();
    assert!(matches!(error, StoreError::Exhausted(_)));
    assert!(error.to_string().starts_with("an app may have 30 mounts, and this would make it 31; "), "{error}");
    f.store.remove_mount(app.id, "/data/3".parse().unwrap()).await.unwrap();
    add(30).await.unwrap();
}

#[tokio::test]
async fn what_the_apps_of_one_owner_have_together_is_limited() {
    let f = fixture();
    let (ann, bob) = (f.user("ann").await, f.user("bob").await);
    for user in [&ann, &bob] {
        f.store.set_quotas(user.id, BTreeMap::from([(Resource::Volumes, Some(100))])).await.unwrap();
    }
    let (ownerless, other) = (f.app("ownerless").await, f.owned_app("other", &bob).await);
    let (one, two) = (f.owned_app("one", &ann).await, f.owned_app("two", &ann).await);
    let data = f.volume(one.id, "data", 60).await.unwrap();
    let error = f.volume(two.id, "data", 50).await.unwrap_err();
    assert!(matches!(error, StoreError::Exhausted(_)));
    let text = error.to_string();
    assert!(text.starts_with("ann may have 100 MiB of volumes, and this would make it 110; quota shows"), "{text}");
    f.volume(two.id, "data", 40).await.unwrap();
    f.volume(other.id, "data", 100).await.unwrap();
    f.volume(ownerless.id, "data", 1000).await.unwrap();

    let resize = |mib: u64| f.store.resize_volume(data.id, mib.try_into().unwrap());
    let check = |mib: u64| f.store.check_volume_size(data.id, mib.try_into().unwrap());
    let refused = resize(61).await.unwrap_err().to_string();
    assert!(refused.contains("and this would make it 101"), "{refused}");
    assert_eq!(check(61).await.unwrap_err().to_string(), refused);
    check(60).await.unwrap();
    resize(30).await.unwrap();
    resize(60).await.unwrap();
    f.store.forget_volume(data.id).await.unwrap();
    assert!(matches!(resize(20).await, Err(StoreError::NotFound(_))));
}
