//! The build stage with build containers that misbehave: a shell script takes the place of the lifecycle.

use std::{io::Cursor, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use paas::{
    build::{BuildBudget, BuildError, BuildInput, BuildSettings, Builder, Recipe},
    config::Config,
    engine::Kind,
    images::{ImageError, ImageStore, Registry, Stack},
    model::{Digest, Secret},
    progress::Progress,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{
    engine::TestEngine,
    images::stack,
    streams::lines_of,
    waiting::{DEADLINE, until},
};

/// A shell function that writes a frame of the protocol between build container and server.
const FRAMES: &str = r#"#!/bin/sh
frame() {
  n=${#2}
  printf "$1\\000\\000\\$(printf %03o $((n / 256)))\\$(printf %03o $((n % 256)))"
  printf %s "$2"
}
"#;

struct Fixture {
    test: TestEngine,
    config: Arc<Config>,
    images: ImageStore,
    builder: Builder,
    stack: Stack,
    dir: tempfile::TempDir,
    _registry: tokio_util::sync::DropGuard,
}

impl Fixture {
    async fn new(script: &str, adjust: impl FnOnce(&mut Config)) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::default();
        config.registry.listen = listener.local_addr().unwrap();
        let test = TestEngine::with(config).await;
        let dir = tempfile::tempdir().unwrap();
        let mut config = test.config.clone();
        config.data_dir = dir.path().join("data");
        config.build.memory_mib = 64;
        config.build.disk_mib = 64;
        config.build.pids = 64;
        config.build.timeout_seconds = 60;
        config.build.standby = false;
        std::fs::create_dir(&config.data_dir).unwrap();
        let lifecycle = dir.path().join("lifecycle");
        std::fs::write(&lifecycle, format!("{FRAMES}{script}")).unwrap();
        std::fs::set_permissions(&lifecycle, std::fs::Permissions::from_mode(0o755)).unwrap();
        let buildpack = dir.path().join("buildpacks/hello");
        std::fs::create_dir_all(&buildpack).unwrap();
        std::fs::write(
            buildpack.join("buildpack.toml"),
            "api = \"0.10\"\n[buildpack]\nid = \"paas/hello\"\nversion = \"1\"\n",
        )
        .unwrap();
        std::fs::create_dir(buildpack.join("bin")).unwrap();
        for name in ["bin/detect", "bin/build"] {
            std::fs::write(buildpack.join(name), "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(buildpack.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let order = "[[order]]\n[[order.group]]\nid = \"paas/hello\"\n";
        std::fs::write(dir.path().join("buildpacks/order.toml"), order).unwrap();
        config.assets.lifecycle = Some(lifecycle);
        config.assets.buildpacks = Some(dir.path().join("buildpacks"));
        adjust(&mut config);
        let config = Arc::new(config);

        let images = ImageStore::open(&config.data_dir).unwrap();
        let stack = stack(&images);
        let (engine, token, shutdown) = (test.engine.clone(), Secret::new("token"), CancellationToken::new());
        tokio::spawn(Registry::new(images.clone(), &token).serve(listener, shutdown.clone()));
        let builder = Builder::new(config.clone(), engine.builds, engine.images, images.clone(), token).await.unwrap();
        Self { test, config, images, builder, stack, dir, _registry: shutdown.drop_guard() }
    }

    fn input(app: &str) -> BuildInput {
        BuildInput {
            app: app.parse().unwrap(),
            source: Box::new(Cursor::new(b"source".to_vec())),
            disk: app.to_owned(),
            budget: BuildBudget::default(),
            previous: None,
            project: json!({}),
        }
    }

    fn recipe(&self) -> Recipe {
        self.builder.recipe(BuildSettings::default(), self.stack.clone()).unwrap()
    }

    async fn build(&self) -> (Result<Digest, BuildError>, Vec<String>) {
        let (progress, lines) = Progress::channel();
        let build = self.builder.build(self.recipe(), Self::input("hello"), &progress, CancellationToken::new());
        let outcome = tokio::time::timeout(DEADLINE, build).await.expect("the build ends");
        drop(progress);
        (outcome.map(|built| built.image), lines_of(lines).await.iter().map(ToString::to_string).collect())
    }

    /// No build container is left, and nothing is mounted.
    async fn is_tidy(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        !mounts.contains(&*self.dir.path().to_string_lossy())
            && self.test.engine.containers.list(Some(Kind::Build)).await.unwrap().is_empty()
    }

    fn disk(&self) -> PathBuf {
        self.config.data_dir.join("disks/hello.ext4")
    }
}

fn blob(content: &str) -> String {
    let header = json!({ "digest": Digest::of(content.as_bytes()), "size": content.len() });
    format!("frame B '{header}'; frame D '{content}'\n")
}

fn built(layer: &Digest) -> String {
    let built = json!({
        "outcome": "built", "layers": [{ "digest": layer, "size": 5, "created_by": "test" }], "env": ["A=b"], "path": [],
        "entrypoint": ["/x"], "working_dir": "/workspace", "labels": {}, "processes": [], "buildpacks": [],
        "timings": [["build", 5]],
    });
    format!("frame Z '{built}'; cat >/dev/null")
}

#[tokio::test(flavor = "multi_thread")]
async fn building_twice_gives_the_same_image_and_shows_the_output() {
    let layer = Digest::of(b"layer");
    // The engine keeps no order between the two streams, and what comes after the result is not waited for.
    let script = format!(
        "echo from stderr >&2; frame L '{{\"kind\":\"step\",\"text\":\"a \\u001b[1mstep\"}}'\n\
         ls -d /cnb/buildpacks/paas_hello/1 >&2; id -u >&2; sleep 1; {}{}",
        blob("layer"),
        built(&layer)
    );
    let fixture = Fixture::new(&script, |_| {}).await;
    let (image, printed) = fixture.build().await;
    let image = image.unwrap();
    for line in ["-----> a step", "       from stderr", "       /cnb/buildpacks/paas_hello/1", "       1000"] {
        assert!(printed.iter().any(|l| l == line), "{line:?} is not in {printed:?}");
    }
    assert!(fixture.images.layers(&image).unwrap().contains(&layer));
    until("the build is cleaned up", || fixture.is_tidy()).await;
    assert_eq!(fixture.build().await.0.unwrap(), image);
    assert!(fixture.disk().exists());
    fixture.builder.remove_disk("hello").await.unwrap();
    fixture.builder.remove_disk("hello").await.unwrap();
    assert!(!fixture.disk().exists());

    let pulled = fixture.test.engine.images.tagged_images().await.unwrap();
    let pulled = pulled.iter().find(|image| image.tags[0].contains("/own/build:")).unwrap();
    fixture.test.engine.images.remove_image_tag(&pulled.tags[0]).await.unwrap();
    assert_eq!(fixture.test.engine.images.image_id(pulled.id.as_str()).await.unwrap(), None, "no tag keeps the image");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_of_a_build_container_are_verified() {
    type Check = fn(&BuildError) -> bool;
    let wrong = json!({ "digest": Digest::of(b"x"), "size": 5 });
    let short = json!({ "digest": Digest::of(b"layer"), "size": 9 });
    let huge = json!({ "digest": Digest::of(b"x"), "size": 1u64 << 60 });
    let cases: [(String, Check); 9] = [
        (format!("frame B '{wrong}'; frame D layer"), |e| matches!(e, BuildError::Images(ImageError::Mismatch { .. }))),
        (format!("frame B '{short}'; frame D layer\n{}", blob("x")), |e| matches!(e, BuildError::Protocol(_))),
        (format!("frame B '{short}'; frame D layer-and-more"), |e| matches!(e, BuildError::Protocol(_))),
        (format!("frame B '{huge}'"), |e| matches!(e, BuildError::DiskFull(_))),
        // A layer of another app: it is in the blob store, but this build did not send it.
        (built(&Digest::of(b"secret")), |e| e.to_string().contains("was not sent")),
        ("frame D x".into(), |e| matches!(e, BuildError::Protocol(_))),
        ("frame R x".into(), |e| matches!(e, BuildError::Protocol(_))),
        ("echo Lots of text that is no frame".into(), |e| matches!(e, BuildError::Protocol(_))),
        ("frame Z '{\"outcome\":\"wonderful\"}'".into(), |e| matches!(e, BuildError::Protocol(_))),
    ];
    // One fixture for all cases: each container reads the script again.
    let fixture = Fixture::new("exec /bin/sh /tmp/none", |_| {}).await;
    fixture.images.blobs().put_bytes(b"secret").unwrap();
    for (script, expected) in cases {
        std::fs::write(fixture.dir.path().join("lifecycle"), format!("{FRAMES}{script}\ncat >/dev/null")).unwrap();
        let (outcome, _) = fixture.build().await;
        let error = outcome.expect_err(&script);
        assert!(expected(&error), "{script}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    assert!(fixture.is_tidy().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_build_reports_why() {
    let failed = "frame Z '{\"outcome\":\"failed\",\"phase\":\"detect\",\"message\":\"no buildpack\\nfits\"}'";
    let fixture = Fixture::new(failed, |_| {}).await;
    let (outcome, _) = fixture.build().await;
    assert_eq!(outcome.unwrap_err().to_string(), "no buildpack fits");

    let lifecycle = fixture.dir.path().join("lifecycle");
    std::fs::write(&lifecycle, "#!/bin/sh\necho cannot go on >&2; exit 7").unwrap();
    let (outcome, printed) = fixture.build().await;
    let error = outcome.unwrap_err();
    assert!(matches!(&error, BuildError::Died { code: 7, last } if last == "cannot go on"), "{error}");
    assert_eq!(printed, ["       cannot go on"]);

    std::fs::write(&lifecycle, "#!/bin/sh\ntail /dev/zero").unwrap();
    let error = fixture.build().await.0.unwrap_err();
    assert!(error.to_string().contains("resource:limit hello --builds"), "{error}");

    std::fs::write(&lifecycle, "#!/bin/sh\ndd if=/dev/zero of=/layers/big bs=1M").unwrap();
    let error = fixture.build().await.0.unwrap_err();
    assert!(error.to_string().contains("build.disk_mib"), "{error}");
    assert!(!fixture.disk().exists(), "the next build begins with an empty disk");

    std::fs::write(&lifecycle, "#!/bin/sh\ncat /dev/zero >&2").unwrap();
    let (progress, lines) = Progress::channel();
    drop(lines);
    let error = fixture
        .builder
        .build(fixture.recipe(), Fixture::input("hello"), &progress, CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(error, BuildError::TooMuchOutput(_)), "{error}");
    assert!(fixture.is_tidy().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_stopped_at_its_time_limit() {
    let fixture = Fixture::new("trap '' TERM; sleep 1000", |config| config.build.timeout_seconds = 2).await;
    let error = fixture.build().await.0.unwrap_err();
    assert!(error.to_string().contains("build.timeout_seconds"), "{error}");
    assert!(fixture.is_tidy().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_build_cleans_up_and_starts_the_queued_one() {
    let fixture =
        Fixture::new("frame L '{\"kind\":\"step\",\"text\":\"up\"}'; sleep 1000", |c| c.build.concurrency = 1).await;
    let (progress, mut lines) = Progress::channel();
    let cancel = CancellationToken::new();
    let running = tokio::spawn({
        let (builder, input, cancel) = (fixture.builder.clone(), Fixture::input("hello"), cancel.clone());
        let recipe = fixture.recipe();
        async move { builder.build(recipe, input, &progress, cancel).await }
    });
    while lines.recv().await.unwrap().to_string() != "-----> up" {}

    let (progress, mut queued_lines) = Progress::channel();
    let queued = tokio::spawn({
        let (builder, input) = (fixture.builder.clone(), Fixture::input("other"));
        let recipe = fixture.recipe();
        async move { builder.build(recipe, input, &progress, CancellationToken::new()).await }
    });
    let waiting = queued_lines.recv().await.unwrap().to_string();
    assert_eq!(waiting, "-----> Waiting for 1 build to end before this one");

    cancel.cancel();
    assert!(matches!(running.await.unwrap(), Err(BuildError::Cancelled)));
    assert_eq!(queued_lines.recv().await.unwrap().to_string(), "-----> up");
    // A caller whose task ends without cancelling has the same effect.
    queued.abort();
    assert!(queued.await.unwrap_err().is_cancelled());
    until("nothing is left", || fixture.is_tidy()).await;
    fixture.builder.close().await;
    let (progress, _lines) = Progress::channel();
    let late =
        fixture.builder.build(fixture.recipe(), Fixture::input("hello"), &progress, CancellationToken::new()).await;
    assert!(matches!(late, Err(BuildError::ShuttingDown)));
}
