use std::{collections::BTreeMap, io::Write as _, time::Duration};

use super::{
    environment::DEFAULT_PATH,
    labels::{BUILD_METADATA, LIFECYCLE_METADATA},
    manifest::ImageConfig,
    *,
};
use crate::{
    lifecycle::protocol::{Built, BuiltLayer, Target},
    model::{Digest, Secret},
};

fn store() -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    (dir, store)
}

fn stack(store: &ImageStore) -> Stack {
    let layer = store.blobs().put_bytes(b"base layer").unwrap();
    let labels =
        BTreeMap::from([("io.buildpacks.base.id", "debian-13"), ("x", "y")].map(|(n, v)| (n.into(), v.into())));
    let Image { manifest, config } = store.put_stack_image("amd64", layer.clone(), labels).unwrap();
    let image = StackImage { manifest, config, layer };
    let target = Target { os: "linux".into(), arch: "amd64".into(), ..Target::default() };
    Stack { id: "debian-13".into(), run: image.clone(), build: image, target }
}

fn built(store: &ImageStore) -> Built {
    let digest = store.blobs().put_bytes(b"app layer").unwrap();
    let metadata = r#"{"processes":[{"type":"web","command":["node"],"args":["x.js"],"direct":true},
        {"type":"t","command":["t"],"exec-env":["test"]},{"type":"all","command":["a"],"exec-env":["*"]}]}"#;
    Built {
        layers: vec![BuiltLayer { digest, size: 9, created_by: "app".into() }],
        path: vec!["/cnb/process".into()],
        env: vec!["CNB_APP_DIR=/workspace".into()],
        entrypoint: vec!["/cnb/process/web".into()],
        working_dir: "/workspace".into(),
        labels: BTreeMap::from([
            (BUILD_METADATA.to_owned(), metadata.to_owned()),
            (LIFECYCLE_METADATA.to_owned(), r#"{"app":[]}"#.to_owned()),
            ("paas.server".to_owned(), "forged".to_owned()),
            ("org.opencontainers.image.title".to_owned(), "t".to_owned()),
            ("io.buildpacks.own".to_owned(), "o".to_owned()),
        ]),
        processes: vec![],
        buildpacks: vec![],
        timings: vec![],
    }
}

#[test]
fn a_blob_appears_only_complete_and_verified() {
    let (dir, store) = store();
    let digest = Digest::of(b"hello");
    let mut writer = store.blobs().writer().unwrap();
    writer.write_all(b"hel").unwrap();
    assert!(matches!(writer.finish(&digest, 3), Err(ImageError::Mismatch { .. })));
    assert!(!store.blobs().has(&digest));
    let mut writer = store.blobs().writer().unwrap();
    writer.write_all(b"hello").unwrap();
    assert!(matches!(writer.finish(&digest, 6), Err(ImageError::Mismatch { .. })), "the announced size counts too");
    std::fs::write(dir.path().join("blobs/unfinished/torn"), b"x").unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    store.blobs().remove_unfinished().unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("blobs/unfinished")).unwrap().count(), 0);
    assert_eq!(store.blobs().put_bytes(b"hello").unwrap(), digest);
    assert_eq!(store.blobs().read_bytes(&digest).unwrap(), b"hello");
}

#[test]
fn the_same_parts_make_the_same_image() {
    let (_dir, one) = store();
    let (_dir2, two) = store();
    let image = one.assemble(&stack(&one), &built(&one)).unwrap();
    assert_eq!(image, two.assemble(&stack(&two), &built(&two)).unwrap());
    assert!(one.complete(&image.manifest).unwrap());
    assert_eq!(one.layers(&image.manifest).unwrap().len(), 2);
    let processes = one.processes(&image.manifest).unwrap();
    assert_eq!(processes[0].command, ["node"]);
    assert!(processes[0].default && !processes[1].default);
    let types: Vec<_> = processes.iter().map(|process| process.process_type.as_str()).collect();
    assert_eq!(types, ["web", "all"], "a process for tests is not one of the app");
    let labels = one.labels(&image.manifest).unwrap();
    assert!(labels[LIFECYCLE_METADATA].contains("topLayer"), "{labels:?}");
    assert_eq!(labels["io.buildpacks.base.id"], "debian-13");
    assert!(!labels.contains_key("paas.server") && !labels.contains_key("x"), "{labels:?}");
    assert_eq!((&*labels["org.opencontainers.image.title"], &*labels["io.buildpacks.own"]), ("t", "o"));
    let told = not_kept_of_build(built(&one).labels.keys()).unwrap();
    assert!(told.starts_with("the label paas.server is not kept"), "{told}");
    let config: ImageConfig = one.read(&image.config, "configuration").unwrap();
    assert_eq!(config.config.entrypoint, ["/cnb/process/web"]);
    assert_eq!(config.config.env[0], format!("PATH=/cnb/process:{DEFAULT_PATH}"));
    assert!(config.config.env.contains(&"CNB_APP_DIR=/workspace".to_owned()), "{:?}", config.config.env);
    let mut lacking = built(&one);
    lacking.layers[0].digest = Digest::of(b"not here");
    assert!(matches!(one.assemble(&stack(&one), &lacking), Err(ImageError::Missing(_))));
}

#[test]
fn a_sweep_removes_only_blobs_that_no_kept_image_needs() {
    let (_dir, store) = store();
    let image = store.assemble(&stack(&store), &built(&store)).unwrap();
    let stray = store.blobs().put_bytes(b"stray").unwrap();
    assert_eq!(store.sweep(std::slice::from_ref(&image.manifest), Duration::from_hours(1)).unwrap(), 0, "too young");
    store.sweep(std::slice::from_ref(&image.manifest), Duration::ZERO).unwrap();
    assert!(!store.blobs().has(&stray));
    assert!(store.complete(&image.manifest).unwrap());
}

#[test]
fn blobs_of_a_failed_build_go_unless_something_else_uses_them() {
    let (_dir, store) = store();
    let blobs = store.blobs();
    let send = |text: &str| {
        let mut writer = blobs.writer().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish(&Digest::of(text.as_bytes()), text.len() as u64).unwrap()
    };
    let known = blobs.put_bytes(b"known").unwrap();
    assert_eq!(send("known"), None, "it was there before");
    let new: Vec<_> = ["alone", "sent again", "used", "put"].iter().map(|text| send(text).unwrap()).collect();
    assert_eq!(send("sent again"), None);
    assert!(blobs.use_again(&Digest::of(b"used")).unwrap());
    blobs.put_bytes(b"put").unwrap();
    blobs.remove_new(&new).unwrap();
    let left = ["alone", "sent again", "used", "put"].map(|text| blobs.has(&Digest::of(text.as_bytes())));
    assert_eq!(left, [false, true, true, true]);
    assert!(blobs.has(&known));
    blobs.remove_new(&new).unwrap();
}

#[test]
fn what_is_used_again_is_not_swept() {
    let (dir, store) = store();
    let image = store.assemble(&stack(&store), &built(&store)).unwrap();
    let age = |hours: u64| {
        for blob in std::fs::read_dir(dir.path().join("blobs/sha256")).unwrap() {
            let modified = std::time::SystemTime::now() - Duration::from_hours(hours);
            std::fs::File::open(blob.unwrap().path()).unwrap().set_modified(modified).unwrap();
        }
    };
    age(7);
    let found = store.unused(&[], Duration::from_hours(6)).unwrap();
    assert!(found.len() >= 4, "{found:?}");
    assert!(store.complete(&image.manifest).unwrap());
    for blob in &found {
        // What was found a moment ago is looked at again.
        store.blobs().remove_unused(blob, Duration::from_hours(6)).unwrap();
    }
    assert!(store.complete(&image.manifest).unwrap());
    age(7);
    // A file that a cached stack is linked to is as old as the cache.
    let cached = dir.path().join("cached.tar");
    std::fs::write(&cached, "layer").unwrap();
    std::fs::File::open(&cached).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    store.blobs().adopt(&cached, &Digest::of(b"layer")).unwrap();
    store.sweep(&[], Duration::from_hours(6)).unwrap();
    assert!(store.blobs().has(&Digest::of(b"layer")) && !store.complete(&image.manifest).unwrap());
}

#[tokio::test]
async fn the_registry_serves_digests_and_ranges_to_clients_with_the_token() {
    let (_dir, store) = store();
    let image = store.assemble(&stack(&store), &built(&store)).unwrap();
    let layer = Digest::of(b"app layer");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn(Registry::new(store, &Secret::new("t0ken")).serve(listener, stop.clone()));
    let requests = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let token = "Basic cGFhczp0MGtlbg==";
        let ask = |path: &str, token: &str, range: Option<&str>| {
            let mut request = agent.get(format!("http://{address}/v2/{path}")).header("Authorization", token);
            if let Some(range) = range {
                request = request.header("Range", range);
            }
            let mut answer = request.call().unwrap();
            (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
        };
        assert_eq!(ask("", "Basic eDp5", None).0, 401);
        assert_eq!(ask("", token, None).0, 200);
        let manifest = ask(&format!("any/name/manifests/{}", image.manifest), token, None);
        assert!(manifest.0 == 200 && manifest.1.contains(layer.as_str()), "{manifest:?}");
        let blob = format!("any/blobs/{layer}");
        assert_eq!(ask(&blob, token, None), (200, "app layer".into()));
        assert_eq!(ask(&blob, token, Some("bytes=4-")), (206, "layer".into()));
        assert_eq!(ask(&blob, token, Some("bytes=0-2")), (206, "app".into()));
        assert_eq!(ask(&blob, token, Some("bytes=9-")).0, 416);
        assert_eq!(ask("any/blobs/sha256:..%2f..%2fsecret.key", token, None).0, 404);
        assert_eq!(ask("any/manifests/latest", token, None).0, 404);
    };
    tokio::task::spawn_blocking(requests).await.unwrap();
    stop.cancel();
    serving.await.unwrap();
}
