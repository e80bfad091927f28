//! A reconciler on the real engine, with an image whose processes run the script in a config var.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use paas::{
    config::Config,
    images::ImageStore,
    instances::{Instances, RolloutError, StartedInstances},
    model::{
        AppJson, Digest, Exposure, HealthCheck, Line, Probe, Process, ProcessType, ReleaseManifest, ReleaseNumber,
        Secret,
    },
    periodic::Driver,
    progress::Progress,
    router::Link,
    store::{App, ConfigVars, NewRelease, Placement, ProcessSpec, ReleaseKind, Store},
    workload::{Local, Openings, Runtime, Volumes},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    command::lifecycle,
    engine::TestEngine,
    images::{Blobs, process_image},
    streams::lines_of,
};

/// A web process that responds with its name and release.
pub const SERVE: &str = r#"echo "$PAAS_PROCESS $PAAS_RELEASE" > /tmp/index.html; echo "serving as $PAAS_PROCESS"; exec httpd -f -p $PORT -h /tmp"#;

static FIXTURES: AtomicU8 = AtomicU8::new(1);

pub struct Server {
    pub instances: Instances,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Server {
    /// Shuts down as a server does.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.tracker.close();
        tokio::time::timeout(Duration::from_secs(10), self.tracker.wait()).await.expect("all tasks end");
    }
}

pub struct Fixture {
    pub test: TestEngine,
    pub config: Arc<Config>,
    pub store: Store,
    pub image: Digest,
    images: ImageStore,
    registry: tokio::task::JoinHandle<()>,
    router: Option<std::thread::JoinHandle<()>>,
    stop_router: CancellationToken,
    dir: tempfile::TempDir,
}

impl Fixture {
    pub async fn new() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::default();
        config.registry.listen = listener.local_addr().unwrap();
        let test = TestEngine::with(config).await;
        let dir = tempfile::tempdir().unwrap();
        let (blobs, image) = process_image();
        let images = ImageStore::open(dir.path()).unwrap();
        for (_, bytes) in blobs.values() {
            images.blobs().put_bytes(bytes).unwrap();
        }
        let mut config = test.config.clone();
        config.data_dir = dir.path().to_owned();
        config.assets.lifecycle = Some(lifecycle());
        // An address of its own, so that the routers of parallel tests do not collide.
        let octet = FIXTURES.fetch_add(1, Ordering::Relaxed);
        config.router.listen = vec![[127, 77, 0, octet].into()];
        config.router.workers = 1;
        config.instances.memory_mib = 32;
        config.instances.stop_grace_seconds = 1;
        config.instances.drain_seconds = 2;
        let registry = Router::new().fallback(serve_blob).with_state(Arc::new(blobs));
        let registry = tokio::spawn(async move { axum::serve(listener, registry).await.unwrap() });
        let store = Store::open_for(&config).unwrap();
        let config = Arc::new(config);
        let stop_router = CancellationToken::new();
        let (of_router, stop) = (Arc::clone(&config), stop_router.clone());
        let router = Some(std::thread::spawn(move || paas::router::run(&of_router, stop).unwrap()));
        Self { test, config, store, image, images, registry, router, stop_router, dir }
    }

    pub async fn server(&self) -> Server {
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let socket = self.config.data_dir.join("router.sock");
        let link = Link::start(socket, &tracker, shutdown.clone());
        let host = self.test.engine.host.clone();
        let openings = Openings::new(self.store.clone(), host, self.config.address_plan().unwrap());
        let images = self.images.clone();
        let config = Arc::clone(&self.config);
        let engine = &self.test.engine;
        let volumes = Volumes::new(Arc::clone(&config), self.store.clone(), engine.containers.clone(), images.clone());
        let local = Local::new(config, engine, images, openings, volumes, Secret::new(TOKEN)).unwrap();
        let runtime = Runtime::Local(local);
        let driver = Driver::new(tracker.clone(), shutdown.clone());
        let instances = Instances::start(
            Arc::clone(&self.config),
            self.store.clone(),
            runtime,
            link,
            &driver,
            &tracker,
            shutdown.clone(),
        );
        Server { instances: instances.await.unwrap(), tracker, shutdown }
    }

    pub async fn app(&self) -> App {
        self.store.create_app("hello".parse().unwrap(), None, 10_000..=10_999, vec![]).await.unwrap()
    }

    /// A release whose processes run these shell scripts.
    pub async fn release(&self, app: &App, processes: &[(&str, &str, HealthCheck, u32)]) -> ReleaseNumber {
        let config: ConfigVars = processes
            .iter()
            .map(|(name, script, ..)| (format!("RUN_{name}").parse().unwrap(), Secret::new(*script)))
            .collect();
        let processes = processes.iter().map(|(name, _, health_check, quantity)| ProcessSpec {
            process: Process {
                process_type: name.parse().unwrap(),
                command: vec![],
                args: vec![],
                direct: false,
                default: false,
                working_dir: None,
            },
            health_checks: vec![health_check.clone().into()],
            default_quantity: *quantity,
            port: 8080,
            exposes: Exposure::by_convention(&name.parse().unwrap()),
            own_user: false,
        });
        let new = NewRelease {
            kind: ReleaseKind::Push,
            image: self.image.clone(),
            branch: None,
            commit: Some("1".repeat(40).parse().unwrap()),
            build: None,
            config,
            bindings: paas::model::Bindings::new(),
            processes: processes.collect(),
            manifest: ReleaseManifest::default(),
            description: "test".into(),
            created_by: "me".into(),
        };
        self.store.create_release(app.id, new, Vec::new(), Placement::AtStart).await.unwrap().0.number
    }

    pub async fn scale(&self, app: &App, quantities: &[(&str, u32)]) {
        let quantities: BTreeMap<ProcessType, u32> = quantities.iter().map(|(t, n)| (t.parse().unwrap(), *n)).collect();
        self.store.scale(app.id, quantities).await.unwrap();
    }

    /// Changes the database without the store.
    pub fn sql(&self, statement: &str) {
        let database = rusqlite::Connection::open(self.dir.path().join("paas.db")).unwrap();
        database.execute_batch(statement).unwrap();
    }

    pub fn log_folder(&self, app: &App) -> std::path::PathBuf {
        self.dir.path().join("logs").join(app.id.0.to_string())
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.registry.abort();
        self.stop_router.cancel();
        if let Some(router) = self.router.take() {
            let _ = router.join();
        }
    }
}

/// A health check that fails soon.
pub fn quick() -> HealthCheck {
    HealthCheck {
        attempts: 30,
        wait: Duration::from_millis(100),
        timeout: Duration::from_secs(1),
        ..HealthCheck::default_for(Exposure::PortMappings)
    }
}

pub fn uptime() -> HealthCheck {
    HealthCheck { probe: Probe::Uptime(Duration::from_millis(200)), ..HealthCheck::default_for(Exposure::Nothing) }
}

pub async fn rollout(server: &Server, app: &App, release: ReleaseNumber) -> (Result<(), RolloutError>, Vec<Line>) {
    let (progress, lines) = Progress::channel();
    let result = server.instances.rollout(app.id, release, &progress, &CancellationToken::new()).await;
    drop(progress);
    (result, lines_of(lines).await)
}

/// Waits as a caller that started all instances.
pub async fn settle(server: &Server, app: &App) -> Result<(), RolloutError> {
    let (progress, _lines) = Progress::channel();
    let all = ["web", "worker"].map(|process_type| (process_type.parse().unwrap(), AppJson::MAX_INSTANCES));
    let started = StartedInstances::all(&all.into());
    server.instances.settle(app.id, started, &progress, &CancellationToken::new()).await
}

/// Response of the instance at this address.
pub async fn ask(address: IpAddr) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(SocketAddr::new(address, 8080)).await?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned())
}

const TOKEN: &str = "test-token";

async fn serve_blob(State(blobs): State<Arc<Blobs>>, headers: HeaderMap, uri: Uri) -> Response {
    let path = uri.path();
    use base64::Engine as _;
    let expected = base64::engine::general_purpose::STANDARD.encode(format!("paas:{TOKEN}"));
    if headers.get(header::AUTHORIZATION).is_none_or(|h| h.as_bytes() != format!("Basic {expected}").as_bytes()) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"test\"")]).into_response();
    }
    if path.trim_matches('/') == "v2" {
        return StatusCode::OK.into_response();
    }
    let digest = path.rsplit('/').next().unwrap_or_default().to_owned();
    let Some((kind, bytes)) = blobs.get(&digest) else { return StatusCode::NOT_FOUND.into_response() };
    (
        [
            (header::CONTENT_TYPE, (*kind).to_owned()),
            (header::HeaderName::from_static("docker-content-digest"), digest),
        ],
        bytes.clone(),
    )
        .into_response()
}
