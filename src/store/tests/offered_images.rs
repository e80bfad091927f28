use super::*;
use crate::model::ImageName;

#[tokio::test]
async fn an_image_is_offered_once_by_whatever_name() {
    let f = fixture();
    let put = async |name: &str, image: &[u8]| {
        let (name, digest): (ImageName, _) = (name.parse().unwrap(), Digest::of(image));
        f.store.put_offered_image(name, digest, 7, "ann".into()).await.unwrap()
    };
    put("docker.io/library/base:1", b"old").await;
    let new = put("base:1", b"new").await;
    let other = put("ghcr.io/a/b", b"other").await;
    assert_eq!(f.store.offered_images().await.unwrap(), [new.clone(), other]);
    assert_eq!((new.name.to_string().as_str(), new.size, new.created_by.as_str()), ("base:1", 7, "ann"));

    let removed = async |name: &str| f.store.remove_offered_image(name.parse().unwrap()).await.unwrap();
    assert!(removed("index.docker.io/base:1").await);
    assert!(!removed("base:1").await);
    assert_eq!(f.store.offered_images().await.unwrap().len(), 1);
}
