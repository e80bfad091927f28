//! An engine for one test: its own server id and addresses, and a small image; dropping it removes everything.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use paas::{
    config::Config,
    engine::{BuildNetwork, BuildSpec, ContainerSpec, Engine, EngineError, ImageId, Input, Kind, OwnerGroup},
    model::{PartialSize, Size},
};

use super::images::import_busybox;

pub struct TestEngine {
    pub engine: Engine,
    pub config: Config,
    pub image: ImageId,
    /// Data folder, if the test has no other.
    _data: Arc<tempfile::TempDir>,
}

/// Socket of the engine that the tests use, if it is not the machine's own: see `tests/engines`.
pub fn other_socket() -> Option<PathBuf> {
    std::env::var_os("PAAS_ENGINE_SOCKET").map(PathBuf::from)
}

/// Second number of the range 10.x.0.0/16 of the next test.
static NEXT_RANGE: AtomicU8 = AtomicU8::new(220);

impl TestEngine {
    pub async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(mut config: Config) -> Self {
        let data = Arc::new(tempfile::tempdir().unwrap());
        if config.data_dir == Config::default().data_dir {
            config.data_dir = data.path().to_owned();
        }
        config.engine.socket = other_socket().unwrap_or(config.engine.socket);
        loop {
            config.network.range = format!("10.{}.0.0/16", NEXT_RANGE.fetch_add(1, Ordering::Relaxed));
            let engine = Engine::connect(&config, &format!("t{:08x}", rand::random::<u32>())).await.unwrap();
            // The guard exists before the objects that it removes.
            let image = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
            let mut test = Self { engine, config: config.clone(), image, _data: Arc::clone(&data) };
            let bridges = async {
                test.engine.containers.ensure_app_bridge(0).await?;
                test.engine.builds.ensure_build_bridge().await
            };
            match bridges.await {
                Ok(_) => {}
                Err(EngineError::AddressesTaken { .. }) => continue,
                Err(e) => panic!("{e}"),
            }
            let tag = test.engine.images.own_tag("busybox", "1");
            let socket = test.config.engine.socket.clone();
            let import = tag.clone();
            tokio::task::spawn_blocking(move || import_busybox(&socket, &import)).await.unwrap();
            test.image = test.engine.images.image_id(&tag).await.unwrap().expect("imported");
            return test;
        }
    }

    /// An instance in slot `slot` that runs a shell script.
    pub fn instance(&self, slot: u32, script: &str) -> ContainerSpec {
        ContainerSpec {
            name: format!("i{:016x}", rand::random::<u64>()),
            kind: Kind::Instance,
            app: "hello".parse().unwrap(),
            process: "web".into(),
            release: 7,
            image: self.image.clone(),
            address: self.config.address_plan().unwrap().instance(0, slot),
            entrypoint: vec!["/bin/sh".into(), "-c".into()],
            cmd: vec![script.into()],
            env: vec!["PORT=8080".into()],
            limit: Size { cpu: "0.5".parse().unwrap(), memory: "32m".parse().unwrap() },
            reserve: PartialSize::default(),
            group: OwnerGroup { name: "admins".to_owned(), memory_mib: None },
            pids: 32,
            log_mib: 3,
            disk_mib: 1024,
            stop_grace: Duration::from_secs(1),
            own_user: false,
            input: Input::None,
            launcher_is_init: false,
            names: Vec::new(),
            launcher: None,
            mounts: Vec::new(),
        }
    }

    /// A build container that runs a shell script.
    pub fn build(&self, script: &str) -> BuildSpec {
        BuildSpec {
            app: Some("hello".parse().unwrap()),
            image: self.image.clone(),
            mounts: Vec::new(),
            env: vec!["A=b".into()],
            entrypoint: vec!["/bin/sh".into(), "-c".into()],
            cmd: vec![script.into()],
            cpu_millis: 1000,
            memory_mib: 64,
            pids: 64,
            namespaces: false,
            network: BuildNetwork::Builds,
        }
    }
}

impl Drop for TestEngine {
    fn drop(&mut self) {
        let engine = self.engine.clone();
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(engine.remove_all())
        });
        let removed = removed.join();
        if !std::thread::panicking() {
            removed.expect("cleaning up").expect("nothing is left");
        }
    }
}
