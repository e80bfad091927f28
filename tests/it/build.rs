//! The build stage against build containers that misbehave in each way there is: in place of the lifecycle runs a
//! shell script that says what it likes.

use std::{
    io::Cursor,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use paas::{
    build::{BuildError, BuildInput, BuildSettings, Builder, Recipe},
    config::Config,
    engine::Kind,
    images::{ImageError, ImageStore, Registry, Stack},
    model::{Digest, Secret},
    progress::Progress,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{engine::TestEngine, images::stack, streams::lines_of, waiting::until};

/// A shell's words for frames.
const FRAMES: &str = r#"#!/bin/sh
frame() {
  n=${#2}
  printf "$1\\000\\000\\$(printf %03o $((n / 256)))\\$(printf %03o $((n % 256)))"
  printf %s "$2"
}
"#;

struct Site {
    test: TestEngine,
    config: Arc<Config>,
    images: ImageStore,
    builder: Builder,
    stack: Stack,
    dir: tempfile::TempDir,
    _registry: tokio_util::sync::DropGuard,
}

impl Site {
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
        let builder = Builder::new(config.clone(), engine, images.clone(), token).await.unwrap();
        Self { test, config, images, builder, stack, dir, _registry: shutdown.drop_guard() }
    }

    fn input(app: &str) -> BuildInput {
        BuildInput {
            app: app.parse().unwrap(),
            source: Box::new(Cursor::new(b"source".to_vec())),
            disk: app.to_owned(),
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
        let outcome = tokio::time::timeout(Duration::from_mins(1), build).await.expect("the build ends");
        drop(progress);
        (outcome.map(|(image, _)| image), lines_of(lines).await.iter().map(ToString::to_string).collect())
    }

    /// Nothing runs, nothing is mounted.
    async fn is_tidy(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        !mounts.contains(&*self.dir.path().to_string_lossy())
            && self.test.engine.list(Some(Kind::Build)).await.unwrap().is_empty()
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
async fn a_build_gives_the_same_image_twice_and_says_what_it_does() {
    let layer = Digest::of(b"layer");
    let script = format!(
        "echo from stderr >&2; frame L '{{\"kind\":\"step\",\"text\":\"a \\u001b[1mstep\"}}'\n\
         ls -d /cnb/buildpacks/paas_hello/1 >&2; id -u >&2; {}{}",
        blob("layer"),
        built(&layer)
    );
    let site = Site::new(&script, |_| {}).await;
    let (image, said) = site.build().await;
    let image = image.unwrap();
    for line in ["-----> a step", "       from stderr", "       /cnb/buildpacks/paas_hello/1", "       1000"] {
        assert!(said.iter().any(|l| l == line), "{line:?} is not in {said:?}");
    }
    assert!(site.images.layers(&image).unwrap().contains(&layer));
    until("all is put away", || site.is_tidy()).await;
    assert_eq!(site.build().await.0.unwrap(), image);
    assert!(site.disk().exists());
    site.builder.remove_disk("hello").await.unwrap();
    site.builder.remove_disk("hello").await.unwrap();
    assert!(!site.disk().exists());

    let pulled = site.test.engine.tagged_images().await.unwrap();
    let pulled = pulled.iter().find(|image| image.tags[0].contains("/own/build:")).unwrap();
    site.test.engine.remove_image_tag(&pulled.tags[0]).await.unwrap();
    assert_eq!(site.test.engine.image_id(pulled.id.as_str()).await.unwrap(), None, "no name keeps it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_claims_is_verified() {
    type Check = fn(&BuildError) -> bool;
    let wrong = json!({ "digest": Digest::of(b"x"), "size": 5 });
    let short = json!({ "digest": Digest::of(b"layer"), "size": 9 });
    let huge = json!({ "digest": Digest::of(b"x"), "size": 1u64 << 60 });
    let cases: [(String, Check); 9] = [
        (format!("frame B '{wrong}'; frame D layer"), |e| matches!(e, BuildError::Images(ImageError::Mismatch { .. }))),
        (format!("frame B '{short}'; frame D layer\n{}", blob("x")), |e| matches!(e, BuildError::Protocol(_))),
        (format!("frame B '{short}'; frame D layer-and-more"), |e| matches!(e, BuildError::Protocol(_))),
        (format!("frame B '{huge}'"), |e| matches!(e, BuildError::DiskFull(_))),
        // Another app's layer: it is in the store, and nobody sent it.
        (built(&Digest::of(b"secret")), |e| e.to_string().contains("was not sent")),
        ("frame D x".into(), |e| matches!(e, BuildError::Protocol(_))),
        ("frame R x".into(), |e| matches!(e, BuildError::Protocol(_))),
        ("echo Lots of text that is no frame".into(), |e| matches!(e, BuildError::Protocol(_))),
        ("frame Z '{\"outcome\":\"wonderful\"}'".into(), |e| matches!(e, BuildError::Protocol(_))),
    ];
    // One engine for all: the script is read anew by each container.
    let site = Site::new("exec /bin/sh /tmp/none", |_| {}).await;
    site.images.blobs().put_bytes(b"secret").unwrap();
    for (script, expected) in cases {
        std::fs::write(site.dir.path().join("lifecycle"), format!("{FRAMES}{script}\ncat >/dev/null")).unwrap();
        let (outcome, _) = site.build().await;
        let error = outcome.expect_err(&script);
        assert!(expected(&error), "{script}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    assert!(site.is_tidy().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails_says_why() {
    let failed = "frame Z '{\"outcome\":\"failed\",\"phase\":\"detect\",\"message\":\"no buildpack\\nfits\"}'";
    let site = Site::new(failed, |_| {}).await;
    let (outcome, _) = site.build().await;
    assert_eq!(outcome.unwrap_err().to_string(), "no buildpackfits");

    let lifecycle = site.dir.path().join("lifecycle");
    std::fs::write(&lifecycle, "#!/bin/sh\necho cannot go on >&2; exit 7").unwrap();
    let (outcome, said) = site.build().await;
    let error = outcome.unwrap_err();
    assert!(matches!(&error, BuildError::Died { code: 7, last } if last == "cannot go on"), "{error}");
    assert_eq!(said, ["       cannot go on"]);

    std::fs::write(&lifecycle, "#!/bin/sh\ntail /dev/zero").unwrap();
    let error = site.build().await.0.unwrap_err();
    assert!(error.to_string().contains("build.memory_mib"), "{error}");

    std::fs::write(&lifecycle, "#!/bin/sh\ndd if=/dev/zero of=/layers/big bs=1M").unwrap();
    let error = site.build().await.0.unwrap_err();
    assert!(error.to_string().contains("build.disk_mib"), "{error}");
    assert!(!site.disk().exists(), "the next build begins with an empty disk");

    std::fs::write(&lifecycle, "#!/bin/sh\ncat /dev/zero >&2").unwrap();
    let (progress, lines) = Progress::channel();
    drop(lines);
    let error =
        site.builder.build(site.recipe(), Site::input("hello"), &progress, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, BuildError::TooMuchOutput(_)), "{error}");
    assert!(site.is_tidy().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_never_ends_is_ended() {
    let site = Site::new("trap '' TERM; sleep 1000", |config| config.build.timeout_seconds = 2).await;
    let begun = Instant::now();
    let error = site.build().await.0.unwrap_err();
    assert!(error.to_string().contains("build.timeout_seconds"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(site.is_tidy().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_build_leaves_nothing_and_a_queued_one_moves_up() {
    let site =
        Site::new("frame L '{\"kind\":\"step\",\"text\":\"up\"}'; sleep 1000", |c| c.build.concurrency = 1).await;
    let (progress, mut lines) = Progress::channel();
    let cancel = CancellationToken::new();
    let running = tokio::spawn({
        let (builder, input, cancel) = (site.builder.clone(), Site::input("hello"), cancel.clone());
        let recipe = site.recipe();
        async move { builder.build(recipe, input, &progress, cancel).await }
    });
    while lines.recv().await.unwrap().to_string() != "-----> up" {}

    let (progress, mut queued_lines) = Progress::channel();
    let queued = tokio::spawn({
        let (builder, input) = (site.builder.clone(), Site::input("other"));
        let recipe = site.recipe();
        async move { builder.build(recipe, input, &progress, CancellationToken::new()).await }
    });
    let waiting = queued_lines.recv().await.unwrap().to_string();
    assert_eq!(waiting, "-----> Waiting for 1 build to end before this one");

    cancel.cancel();
    assert!(matches!(running.await.unwrap(), Err(BuildError::Cancelled)));
    assert_eq!(queued_lines.recv().await.unwrap().to_string(), "-----> up");
    // A caller that is gone without a word is as good as one that cancels.
    queued.abort();
    assert!(queued.await.unwrap_err().is_cancelled());
    until("nothing is left", || site.is_tidy()).await;
    site.builder.close().await;
    let (progress, _lines) = Progress::channel();
    let late = site.builder.build(site.recipe(), Site::input("hello"), &progress, CancellationToken::new()).await;
    assert!(matches!(late, Err(BuildError::ShuttingDown)));
}
