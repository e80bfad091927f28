//! What a container is made from.

use std::{net::IpAddr, time::Duration};

use crate::{
    engine::{Input, Kind},
    lifecycle::{BINDING_ROOT, BINDINGS_FOLDER},
    model::{AppName, Bindings, Digest, PartialSize, ReleaseNumber, Resource, Size, SizeTarget},
    store::{AppId, Mount, Release, SizeKind, Store, StoreError, UserId},
};

/// Variables with the commit that was built: of Dokku, and of Heroku.
const COMMIT_VARS: [&str; 2] = ["GIT_REV", "SOURCE_VERSION"];

/// What a workload is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An instance of a process type: meant to go on.
    Instance,
    /// A task: meant to end.
    Task,
}

impl Purpose {
    /// Kind of the containers.
    pub fn kind(self) -> Kind {
        match self {
            Self::Instance => Kind::Instance,
            Self::Task => Kind::Task,
        }
    }
}

/// What a container is made from. Not `Debug`: its environment holds secrets.
#[derive(Clone)]
pub struct Workload {
    /// Identity of the instance or task, and name of the container.
    pub id: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Owning app.
    pub app: AppName,
    /// Number of the release.
    pub release: ReleaseNumber,
    /// Manifest of the release's image.
    pub image: Digest,
    /// Process type of the instance, or kind of the task.
    pub process: String,
    /// Program that is started instead of the image's entrypoint.
    pub entrypoint: Vec<String>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Environment variables, as `NAME=value`: the release's config vars and our own.
    pub env: Vec<String>,
    /// Whether user and stop signal are those of the image, as a Dockerfile sets them.
    pub own_user: bool,
    /// Standard input and terminal.
    pub input: Input,
    /// Address that the runtime has assigned, if it assigns addresses before the start.
    pub address: Option<IpAddr>,
    /// Grace period: the time between the stop signal and SIGKILL.
    pub stop_grace: Duration,
    /// Whom it counts against, and what it may use.
    pub budget: WorkloadBudget,
    /// What is mounted into it, in the order in which it is mounted.
    pub mounts: Vec<Mount>,
    /// Service bindings, which are files in memory.
    pub bindings: Bindings,
}

/// Whom a workload counts against, and what it may use.
#[derive(Debug, Clone, Copy)]
pub struct WorkloadBudget {
    /// Owner of the app; without one, the admins.
    pub owner: Option<UserId>,
    /// Memory that all workloads of the owner may use together, in MiB; `None` for any amount.
    pub owner_memory_mib: Option<u64>,
    /// CPU time and memory that it has at most.
    pub limit: Size,
    /// CPU time and memory that are kept free for it.
    pub reserve: PartialSize,
}

impl WorkloadBudget {
    /// The budget of an app's workload of this kind.
    pub async fn read(store: &Store, app: AppId, target: &SizeTarget) -> Result<Self, StoreError> {
        let (owner, owner_memory_mib) = store.owner_and_limit(app, Resource::Memory).await?;
        let limit = store.sizes(app, SizeKind::Limit).await?.size(target, store.default_size());
        let mut reserve = store.sizes(app, SizeKind::Reserve).await?.set_for(target);
        // The operator may have lowered the default size below what was to be kept free, which the engine would refuse.
        reserve.memory = reserve.memory.map(|memory| memory.min(limit.memory));
        reserve.cpu = reserve.cpu.map(|cpu| cpu.min(limit.cpu));
        Ok(Self { owner, owner_memory_mib, limit, reserve })
    }
}

impl Workload {
    /// A workload with the image and the config vars of a release, which is named `process.number`. `own_vars` are added
    /// to those that every workload gets (`PAAS_APP`, `PAAS_PROCESS`, `PAAS_RELEASE`); a config var of the same name is
    /// hidden. The commit is in `GIT_REV` and `SOURCE_VERSION`, and the folder of service bindings in `SERVICE_BINDING_ROOT`,
    /// unless a config var has that name.
    #[expect(clippy::too_many_arguments, reason = "each is another part of it")]
    pub fn of_release(
        id: &str,
        purpose: Purpose,
        app: &AppName,
        release: &Release,
        (process, number): (&str, u64),
        own_vars: &[(&str, String)],
        stop_grace: Duration,
        budget: WorkloadBudget,
    ) -> Self {
        let common = [
            ("PAAS_APP", app.to_string()),
            ("PAAS_PROCESS", format!("{process}.{number}")),
            ("PAAS_RELEASE", format!("v{}", release.number)),
        ];
        let own = || own_vars.iter().chain(&common);
        let vars = release.config.iter().filter(|(key, _)| own().all(|(name, _)| key.as_str() != *name));
        let commit = release.commit.iter().flat_map(|commit| COMMIT_VARS.map(|name| (name, commit.to_string())));
        let bindings = (!release.bindings.is_empty()).then(|| (BINDING_ROOT, BINDINGS_FOLDER.to_owned()));
        let of_release = commit.chain(bindings);
        let of_release = of_release.filter(|(name, _)| release.config.keys().all(|key| key.as_str() != *name));
        let mut env: Vec<_> = vars.map(|(key, value)| format!("{key}={}", value.expose())).collect();
        env.extend(of_release.map(|(name, value)| format!("{name}={value}")));
        env.extend(own().map(|(key, value)| format!("{key}={value}")));
        Self {
            id: id.to_owned(),
            purpose,
            app: app.clone(),
            release: release.number,
            image: release.image.clone(),
            process: process.to_owned(),
            entrypoint: Vec::new(),
            arguments: Vec::new(),
            env,
            own_user: release.own_user(),
            input: Input::None,
            address: None,
            stop_grace,
            budget,
            mounts: Vec::new(),
            bindings: release.bindings.clone(),
        }
    }
}
