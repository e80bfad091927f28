//! Operations that mount volumes and folders of the machine into the containers of an app.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::volume;
use crate::{
    config::Config,
    model::{AppName, HostPath, Line, MountSpec, NamedSource, ProcessType, Right},
    operations::{
        context::{Context, Requirement},
        failure::{Failure, Result},
        operation::Operation,
        ps,
    },
    store::{App, Effect, Mount, MountSource},
};

/// Where a container has service bindings.
const PLATFORM: &str = "/platform";

/// Mounts a volume, or a folder of the machine, into the containers of an app.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MountVolume {
    /// App.
    pub app: AppName,
    /// What is mounted where.
    pub mount: MountSpec,
    /// The only process type whose instances have it; without one, all. Tasks have it in any case.
    #[serde(default)]
    pub process_type: Option<ProcessType>,
}

/// A change of what is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChangedMount {
    /// App.
    pub app: AppName,
    /// What was named.
    pub mount: MountSpec,
    /// Whether it is mounted now.
    pub mounted: bool,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl Operation for MountVolume {
    const NAME: &'static str = "storage:mount";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedMount;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        let only = self.process_type.as_ref().map(|name| format!(" for {name}")).unwrap_or_default();
        format!("{}{only}", self.mount)
    }

    async fn requirement(&self, _: &Context<'_>, _: &App) -> Result<Option<Requirement>> {
        let reason = |path: &HostPath| {
            let app = &self.app;
            format!(
                "{path} is a folder of this machine, which only an admin mounts; storage:create {app} NAME makes a volume"
            )
        };
        Ok(match &self.mount.source {
            NamedSource::Host(path) => Some(Requirement { right: Right::Admin, reason: reason(path) }),
            NamedSource::Volume(_) => None,
        })
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedMount> {
        let Self { mount, process_type, .. } = self;
        if Path::new(mount.target.as_str()).starts_with(PLATFORM) {
            let text = format!("service bindings of an app are below {PLATFORM}; choose another path");
            return Err(Failure::invalid(text));
        }
        if let Some(unknown) = ps::unknown_type(context, &app, process_type.iter()).await? {
            return Err(Failure::not_found(unknown));
        }
        let source = match &mount.source {
            NamedSource::Volume(name) => {
                let volume = volume(context, &app, name).await?;
                MountSource::Volume(volume.id, volume.name)
            }
            NamedSource::Host(path) => MountSource::Host(host_folder(path, context.config).await?),
        };
        let (target, read_only) = (mount.target.clone(), mount.read_only);
        let declared = Mount { source, target: target.clone(), read_only, process_type: process_type.clone() };
        context.store.add_mount(app.id, declared, context.caller.name().to_string()).await?;
        if let Err(failure) = renew(context, &app, process_type.as_ref(), format!("Mounting {mount}")).await {
            // The instances come back without it.
            context.store.remove_mount(app.id, target).await?;
            return Err(failure);
        }
        let only = process_type.map_or_else(|| "instances".to_owned(), |name| format!("{name} instances"));
        let notes = if read_only {
            Vec::new()
        } else {
            vec![format!(
                "from now on, old {only} end before new ones start, so that instances of no two releases write to it at once; \
                 tasks may run beside them"
            )]
        };
        Ok(ChangedMount { app: app.name, mount, mounted: true, notes })
    }
}

/// Takes back what `storage:mount` did; the volume and its files are kept.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct UnmountVolume {
    /// App.
    pub app: AppName,
    /// The mount: VOLUME:/path, or one of the two.
    pub mount: String,
}

impl Operation for UnmountVolume {
    const NAME: &'static str = "storage:unmount";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedMount;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        Line::sanitize(&self.mount)
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedMount> {
        let (named, found) = (Line::excerpt(&self.mount), named(&app.mounts, &self.mount));
        let mount = match &found[..] {
            [mount] => mount.spec(),
            [] => {
                let text = format!("{named} is not mounted into {}; storage:list {} shows what is", app.name, app.name);
                return Err(Failure::not_found(text));
            }
            several => {
                let places: Vec<_> = several.iter().map(|mount| mount.target.to_string()).collect();
                let text = format!("{named} is mounted at {}; name one of them", places.join(" and at "));
                return Err(Failure::invalid(text));
            }
        };
        let process_type = found[0].process_type.clone();
        context.store.remove_mount(app.id, mount.target.clone()).await?;
        renew(context, &app, process_type.as_ref(), format!("Unmounting {mount}")).await?;
        let notes = match &mount.source {
            NamedSource::Volume(name) => vec![format!("the volume {name} and its files are kept")],
            NamedSource::Host(_) => Vec::new(),
        };
        Ok(ChangedMount { app: app.name, mount, mounted: false, notes })
    }
}

/// Lists what is mounted into the containers of an app.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListMounts {
    /// App.
    pub app: AppName,
}

/// Something that is mounted into the containers of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MountInfo {
    /// App.
    pub app: AppName,
    /// What is mounted where.
    pub mount: MountSpec,
    /// The only process type whose instances have it.
    pub process_type: Option<ProcessType>,
}

impl Operation for ListMounts {
    const NAME: &'static str = "storage:list";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Vec<MountInfo>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, _: &Context<'_>, app: App) -> Result<Vec<MountInfo>> {
        let info = |mount: &Mount| MountInfo {
            app: app.name.clone(),
            mount: mount.spec(),
            process_type: mount.process_type.clone(),
        };
        Ok(app.mounts.iter().map(info).collect())
    }
}

/// Replaces the running instances, which have what was mounted when they were created.
async fn renew(context: &Context<'_>, app: &App, process_type: Option<&ProcessType>, why: String) -> Result {
    if app.current.is_none() || app.stopped {
        return Ok(());
    }
    ps::renew(context, app, process_type, why).await
}

/// The mounts that a user may mean: by the whole, by what is mounted, or by where.
fn named<'a>(mounts: &'a [Mount], text: &str) -> Vec<&'a Mount> {
    let text = if text.len() > 1 { text.trim_end_matches('/') } else { text };
    let is_named = |mount: &&Mount| {
        let whole = format!("{}:{}", mount.source, mount.target);
        let words = [whole.clone(), format!("{whole}:ro"), format!("{whole}:rw"), mount.source.to_string()];
        mount.target.as_str() == text || words.iter().any(|word| word == text)
    };
    mounts.iter().filter(is_named).collect()
}

/// The real path of a folder of the machine, if an app may have it.
async fn host_folder(path: &HostPath, config: &Config) -> Result<HostPath> {
    let (wanted, data, socket) = (path.to_string(), config.data_dir.clone(), config.engine.socket.clone());
    let found = tokio::task::spawn_blocking(move || {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let found = Path::new(&wanted).canonicalize().ok().filter(|path| path.is_dir());
        (found, real(&data), real(&socket))
    });
    let (found, data, socket) = found.await.map_err(|_| Failure::conflict("the server is shutting down"))?;
    let Some(found) = found else {
        return Err(Failure::not_found(format!("{path} is no folder of this machine; create it first")));
    };
    if found.starts_with(&data) || data.starts_with(&found) || socket.starts_with(&found) {
        let text =
            format!("{path} has the data of paas or the socket of Docker in it, which would give the app this machine");
        return Err(Failure::invalid(text).remedy("mount another folder"));
    }
    Ok(found.to_string_lossy().parse::<HostPath>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{operations::FailureKind, store::VolumeId};

    fn mount(name: &str, target: &str) -> Mount {
        let source = MountSource::Volume(VolumeId(1), name.parse().unwrap());
        Mount { source, target: target.parse().unwrap(), read_only: false, process_type: None }
    }

    #[test]
    fn a_mount_is_named_by_the_whole_or_by_either_side() {
        let mounts = [mount("data", "/data"), mount("data", "/files"), mount("cache", "/cache")];
        let found = |text: &str| named(&mounts, text).iter().map(|mount| mount.target.to_string()).collect::<Vec<_>>();
        assert_eq!(found("data:/data"), ["/data"]);
        assert_eq!(found("data:/data:ro"), ["/data"]);
        assert_eq!(found("/files/"), ["/files"]);
        assert_eq!(found("cache"), ["/cache"]);
        assert_eq!(found("data"), ["/data", "/files"]);
        assert!(found("dat").is_empty() && found("data:/cache").is_empty() && found("/").is_empty());
    }

    #[tokio::test]
    async fn folders_with_the_servers_own_data_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["data/inner", "docker", "files"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::fs::write(at("docker/docker.sock"), "").unwrap();
        std::os::unix::fs::symlink(at("data"), at("link")).unwrap();
        let mut config = Config { data_dir: at("data"), ..Config::default() };
        config.engine.socket = at("docker/docker.sock");
        let folder = async |name: &str| host_folder(&at(name).to_str().unwrap().parse().unwrap(), &config).await;
        let real = at("files").canonicalize().unwrap();
        assert_eq!(folder("files").await.unwrap().as_str(), real.to_str().unwrap());
        for refused in ["data", "data/inner", "link", "docker", "."] {
            let path = if refused == "." { dir.path().to_owned() } else { at(refused) };
            let failure = host_folder(&path.to_str().unwrap().parse().unwrap(), &config).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Invalid, "{refused}");
        }
        assert_eq!(folder("none").await.unwrap_err().kind, FailureKind::NotFound);
        assert_eq!(folder("docker/docker.sock").await.unwrap_err().kind, FailureKind::NotFound);
    }
}
