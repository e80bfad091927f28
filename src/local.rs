//! Builds without a server, for a laptop, for CI, and for authors of buildpacks: the same builder, engine and image
//! store as the server's, in a folder of their own.

mod package;
mod report;
mod scaffold;
mod source;
mod tidy;
mod trial;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use package::package;
pub use report::print;
pub use scaffold::new_buildpack;
pub use trial::Trial;

use crate::{
    build::{BuildError, BuildInput, Builder, BuildpacksError, DockerfileInput, Package, Wanted, Wishes},
    config::Config,
    engine::{Engine, EngineError, ImageId, Kind},
    git::{GitError, Repositories},
    images::{ImageError, ImageStore, Registry, Stack, StackDefinition},
    lifecycle::{descriptor::Descriptor, protocol::Place},
    model::{
        AppName, BuildpackSource, Digest, InvalidProjectToml, Procfile, ProcfileError, ProjectBuildpack, ProjectToml,
        Secret, dockerfile,
    },
    progress::Progress,
    store::{Store, StoreError},
};

/// Where addresses of local builds are looked for: second numbers of ranges 10.N.0.0/16 that no server has by default.
const RANGES: std::ops::RangeInclusive<u8> = 180..=209;
/// What the ids of local builds begin with: no server's does.
const LOCAL: &str = "local-";

/// Held while somebody builds; tells the folder of local builds from others.
const LOCK: &str = "local.lock";

/// Why something local fails.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else is at it.
    #[error("another paas build runs in {0}: wait for it, or build in another folder (XDG_CACHE_HOME)")]
    Running(PathBuf),
    /// It was told to stop.
    #[error("interrupted")]
    Interrupted,
    /// Something is not as it should be; what, and what to do.
    #[error("{0}")]
    Wrong(String),
    /// The project descriptor.
    #[error(transparent)]
    Project(#[from] InvalidProjectToml),
    /// The `Procfile`.
    #[error(transparent)]
    Procfile(#[from] ProcfileError),
    /// Buildpacks.
    #[error(transparent)]
    Buildpacks(#[from] BuildpacksError),
    /// The build.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The image store.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// git.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Result<T, E = LocalError> = std::result::Result<T, E>;

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LocalError {
    let path = path.to_owned();
    move |source| LocalError::File { act, path, source }
}

/// What is to be built.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// The app's folder.
    pub folder: PathBuf,
    /// The buildpacks, in order; none to leave it to the app.
    pub buildpacks: Vec<BuildpackSource>,
    /// Variables of the build, besides those of `project.toml`.
    pub env: BTreeMap<String, String>,
}

/// Everything that a build needs, until it is closed.
pub struct Site {
    pub(crate) engine: Engine,
    pub(crate) images: ImageStore,
    pub(crate) config: Arc<Config>,
    builder: Builder,
    repositories: Repositories,
    stack: Stack,
    token: Secret,
    tracker: TaskTracker,
    stopped: CancellationToken,
    _lock: File,
}

impl Site {
    /// Opens the folder of local builds, and the engine.
    pub async fn open(config: &Config, progress: &Progress) -> Result<Self> {
        let mut config = config.clone();
        config.data_dir = data_dir()?;
        let lock = lock(&config.data_dir)?;
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed("listen on", Path::new("127.0.0.1")))?;
        config.registry.listen = listener.local_addr().map_err(failed("listen on", Path::new("127.0.0.1")))?;
        // Nothing waits for a next build.
        config.build.standby = false;
        let server_id = server_id(&config.data_dir).await?;
        let engine = engine(&mut config, &server_id).await?;
        let config = Arc::new(config);
        let images = ImageStore::open(&config.data_dir)?;
        images.blobs().remove_unfinished()?;
        let (tracker, stopped, token) = (TaskTracker::new(), CancellationToken::new(), Registry::random_token());
        tracker.spawn(Registry::new(images.clone(), &token).serve(listener, stopped.clone()));
        let stack = StackDefinition::embedded()?.bootstrap(&config.stack, "", &images, progress).await?;
        let builder = Builder::new(Arc::clone(&config), engine.clone(), images.clone(), token.clone()).await?;
        let repositories = Repositories::open(&config).await?;
        Ok(Self { engine, images, config, builder, repositories, stack, token, tracker, stopped, _lock: lock })
    }

    /// Waits for what goes on in the background, and takes away what an app ran in.
    pub async fn close(self) -> Result<()> {
        self.builder.close().await;
        self.stopped.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        for container in self.engine.list(Some(Kind::Instance)).await? {
            self.engine.remove(&container.id).await?;
        }
        self.engine.remove_build_group().await;
        Ok(())
    }

    /// Builds; gives back the image's manifest. `previous` is the image before, `disk` names the cache.
    pub async fn build(
        &self,
        order: &Order,
        disk: &str,
        previous: Option<Digest>,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Digest> {
        let read = |name: &str| match fs::read_to_string(order.folder.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("read", &order.folder.join(name))(e)),
        };
        let project = read("project.toml")?.map(|text| ProjectToml::parse(&text)).transpose()?.unwrap_or_default();
        let wishes = self.wishes(order, &project, progress).await?;
        if let (true, Some(text)) = (wishes.names_none(), read("Dockerfile")?) {
            let files = dockerfile::files(&project.files, read(".dockerignore")?.as_deref());
            let input = DockerfileInput {
                app: app_name(&order.folder)?,
                text,
                source: Box::new(source::tar(&order.folder, &files)?),
                procfile: read("Procfile")?.map(|text| Procfile::parse(&text)).transpose()?,
                env: wishes.env,
                anew: false,
            };
            return Ok(self.builder.build_dockerfile(input, progress, cancel.clone()).await?);
        }
        let recipe = self.builder.recipe(wishes, self.stack.clone()).map_err(not_installed)?;
        let source = source::tar(&order.folder, &project.files)?;
        let input = BuildInput {
            app: app_name(&order.folder)?,
            disk: disk.to_owned(),
            source: Box::new(source),
            previous,
            project: serde_json::json!({}),
        };
        Ok(self.builder.build(recipe, input, progress, cancel.clone()).await?.0)
    }

    async fn wishes(&self, order: &Order, project: &ProjectToml, progress: &Progress) -> Result<Wishes> {
        for warning in project.warnings() {
            progress.trouble(warning).await;
        }
        let env = project.env.iter().chain(&order.env);
        let env = env.map(|(name, value)| (name.clone(), Secret::new(value.clone()))).collect();
        let mut wishes = Wishes { env, ..Wishes::default() };
        for source in &order.buildpacks {
            wishes.group.push(self.wanted(&order.folder, source, progress).await?);
        }
        let group = if order.buildpacks.is_empty() { &project.group[..] } else { &[] };
        for (entries, into) in
            [(group, &mut wishes.group), (&project.pre, &mut wishes.pre), (&project.post, &mut wishes.post)]
        {
            for entry in entries {
                into.push(match entry {
                    ProjectBuildpack::At(source) => self.wanted(&order.folder, source, progress).await?,
                    ProjectBuildpack::Inline { id, api, shell, script } => {
                        let (api, shell, script) = (api.clone(), shell.clone(), script.clone());
                        Wanted::Inline { id: id.clone(), place: Place::Inline { api, shell, script } }
                    }
                });
            }
        }
        Ok(wishes)
    }

    async fn wanted(&self, app: &Path, source: &BuildpackSource, progress: &Progress) -> Result<Wanted> {
        Ok(match source {
            BuildpackSource::Name { id, version } => Wanted::Named { id: id.clone(), version: version.clone() },
            BuildpackSource::App(folder) => {
                let file = app.join(folder).join("buildpack.toml");
                let wrong = |e| LocalError::Wrong(format!("{}, {e}", file.display()));
                Wanted::App { folder: folder.clone(), about: Descriptor::read(&file).map_err(wrong)? }
            }
            other => Wanted::Package(self.fetch(other, progress).await?),
        })
    }

    /// A buildpack from elsewhere.
    pub async fn fetch(&self, source: &BuildpackSource, progress: &Progress) -> Result<Package> {
        Ok(self.builder.fetch(source, &self.repositories, true, progress).await?)
    }

    /// Forgets a cache.
    pub async fn forget(&self, disk: &str) -> Result<()> {
        Ok(self.builder.forget(disk).await?)
    }

    /// Hands an image to the engine, and names it.
    pub async fn hand_over(&self, image: &Digest, tag: &str) -> Result<ImageId> {
        let reference = format!("{}/local@{image}", self.config.registry.listen);
        let id = self.engine.pull(&reference, self.token.expose()).await?;
        self.engine.tag_for_user(&id, tag).await?;
        // The registry's port is another the next time: nobody would know this name for ours.
        self.engine.forget_pulled(&reference).await?;
        Ok(id)
    }
}

/// The folder of local builds, made if need be, and locked for this process.
fn lock(data_dir: &Path) -> Result<File> {
    // git's user passes through it; nobody else looks into it.
    let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(data_dir);
    made.map_err(failed("make", data_dir))?;
    let lock = File::create(data_dir.join(LOCK)).map_err(failed("open", data_dir))?;
    lock.try_lock().map_err(|_| LocalError::Running(data_dir.to_owned()))?;
    Ok(lock)
}

/// Whose what local builds have on the engine is.
async fn server_id(data_dir: &Path) -> Result<String> {
    Ok(format!("{LOCAL}{}", Store::open(data_dir)?.server_id().await?))
}

/// The engine, with addresses that nothing else on this machine has. When other folders' builds have them all (each CI
/// job may have had a home of its own), those that do nothing give theirs back.
async fn engine(config: &mut Config, server_id: &str) -> Result<Engine> {
    match free_engine(config, server_id).await {
        Err(LocalError::Engine(EngineError::AddressesTaken { .. })) => {}
        other => return other,
    }
    let any = Engine::connect(config, server_id).await?;
    for idle in any.idle_servers(LOCAL).await? {
        // One that begins to build just now keeps them.
        if let Err(error) = Engine::connect(config, &idle).await?.free_addresses().await {
            tracing::debug!(%error, idle, "a network stays");
        }
    }
    free_engine(config, server_id).await
}

/// The engine with free addresses: the same ones as the last time, if they are.
async fn free_engine(config: &mut Config, server_id: &str) -> Result<Engine> {
    let note = config.data_dir.join("local.range");
    let last = fs::read_to_string(&note).ok().and_then(|text| text.trim().parse().ok()).filter(|n| RANGES.contains(n));
    let mut error = None;
    for number in last.into_iter().chain(RANGES.rev()) {
        config.network.range = format!("10.{number}.0.0/16");
        let engine = Engine::connect(config, server_id).await?;
        match engine.ensure_build_bridge().await {
            Ok(_) => {
                fs::write(&note, number.to_string()).map_err(failed("write", &note))?;
                return Ok(engine);
            }
            Err(taken @ EngineError::AddressesTaken { .. }) => error = Some(taken),
            Err(other) => return Err(other.into()),
        }
    }
    Err(error.map_or_else(|| LocalError::Wrong("no addresses are free".to_owned()), LocalError::Engine))
}

/// There is no server here that could install one.
fn not_installed(error: BuildError) -> LocalError {
    let BuildError::NoBuildpack(name) = error else { return error.into() };
    LocalError::Wrong(format!(
        "there is no buildpack {name} here: give its folder, .cnb file, git URL or image with --buildpack; \
         what a composite one names is packaged with it (paas buildpack package --with FOLDER)"
    ))
}

/// What a word of the command line names: a path as it is, or whatever `buildpacks:add` takes.
pub fn source(text: &str) -> Result<BuildpackSource> {
    let path = Path::new(text);
    if path.exists() && !text.contains("://") {
        return Ok(BuildpackSource::Path(fs::canonicalize(path).map_err(failed("find", path))?));
    }
    text.parse().map_err(|e: crate::model::InvalidName| LocalError::Wrong(e.to_string()))
}

/// `paas build`: makes an image of a folder, hands it to the engine, and says what it is.
pub async fn build(
    config: &Config,
    order: &Order,
    tag: Option<String>,
    clear_cache: bool,
    cancel: CancellationToken,
) -> Result<()> {
    let name = app_name(&order.folder)?;
    let tag = tag.unwrap_or_else(|| name.to_string());
    told(async |progress| {
        let site = Site::open(config, progress).await?;
        let built = async {
            let path = fs::canonicalize(&order.folder).map_err(failed("find", &order.folder))?;
            let disk = format!("build-{}", &Digest::of(path.as_os_str().as_encoded_bytes()).hex()[..16]);
            if clear_cache {
                site.forget(&disk).await?;
            }
            let last = site.config.data_dir.join(format!("{disk}.image"));
            let previous = fs::read_to_string(&last).ok().and_then(|text| text.trim().parse().ok());
            let image = site.build(order, &disk, previous, progress, &cancel).await?;
            fs::write(&last, image.to_string()).map_err(failed("write", &last))?;
            site.hand_over(&image, &tag).await?;
            tidy::tidy(&site).await?;
            print(&site, &image, &tag, progress).await
        }
        .await;
        site.close().await?;
        built
    })
    .await
}

/// `paas buildpack test`: see [`Trial`].
pub async fn test(config: &Config, trial: &Trial<'_>, cancel: CancellationToken) -> Result<()> {
    told(async |progress| {
        let site = Site::open(config, progress).await?;
        let tried = trial.run(&site, progress, &cancel).await;
        site.close().await?;
        tried
    })
    .await
}

/// `paas purge --local`: removes all that local builds have on the engine and in their folder, and gives back what there
/// is to say of it. Images that were handed over stay: they are whoever asked for them's.
pub async fn purge(config: &Config) -> Result<String> {
    let of_servers = [&config.data_dir, &config.stack.cache_dir];
    let mut config = Config { data_dir: data_dir()?, ..config.clone() };
    // What a server of this machine pulled through its own is not ours.
    config.registry.listen = ([127, 0, 0, 1], 0).into();
    let dir = &config.data_dir;
    if !dir.join(LOCK).exists() {
        return Ok(format!("there is nothing of local builds in {}", dir.display()));
    }
    if dir.join("server.lock").exists() || of_servers.iter().any(|folder| folder.starts_with(dir)) {
        let text =
            format!("{} is not for local builds alone, a server uses it, too: nothing is removed", dir.display());
        return Err(LocalError::Wrong(text));
    }
    let _lock = lock(dir)?;
    let engine = Engine::connect(&config, &server_id(dir).await?).await?;
    Builder::unmount_leftovers(&config).await?;
    engine.remove_all().await?;
    fs::remove_dir_all(dir).map_err(failed("remove", dir))?;
    Ok(format!("removed {}, and what local builds had on the engine", dir.display()))
}

/// Runs something and prints its progress.
async fn told(work: impl AsyncFnOnce(&Progress) -> Result<()>) -> Result<()> {
    let (progress, mut lines) = Progress::channel();
    let printing = async {
        let mut out = io::stdout();
        while let Some(line) = lines.recv().await {
            let _ = writeln!(out, "{line}");
        }
    };
    let working = async move { work(&progress).await };
    tokio::join!(working, printing).0
}

/// Where local builds keep everything. git runs as another user, who may not pass through the home of root.
fn data_dir() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(cache) = absolute("XDG_CACHE_HOME") {
        return Ok(cache.join("paas"));
    }
    if std::env::var_os("XDG_CACHE_HOME").is_some_and(|cache| !cache.is_empty()) {
        return Err(LocalError::Wrong("XDG_CACHE_HOME is no absolute path".to_owned()));
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/cache/paas/local".into());
    }
    let home =
        absolute("HOME").ok_or_else(|| LocalError::Wrong("neither XDG_CACHE_HOME nor HOME is set".to_owned()))?;
    Ok(home.join(".cache/paas"))
}

/// The name of a folder as an app's: what is not allowed in one becomes a hyphen.
pub fn app_name(folder: &Path) -> Result<AppName> {
    let folder = fs::canonicalize(folder).map_err(failed("find", folder))?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name: String =
        name.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let name: String = name.trim_matches('-').chars().take(30).collect();
    name.trim_matches('-')
        .parse()
        .or_else(|_| "app".parse())
        .map_err(|e: crate::model::InvalidName| LocalError::Wrong(e.to_string()))
}
