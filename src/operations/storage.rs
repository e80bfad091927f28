//! Operations of volumes: disks of a declared size whose files outlive releases.

mod archives;
mod compression;
mod mounts;

pub use archives::{ArchivedVolume, ExportVolume, ImportVolume};
pub use mounts::{ChangedMount, ListMounts, MountInfo, MountVolume, UnmountVolume};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    failure::{Failure, Result},
    operation::Operation,
    selection::AppSelection,
    time::Time,
};
use crate::{
    engine::disk::Reservation,
    model::{AppName, MountSpec, Right, VolumeName, VolumeSize},
    store::{App, Effect, Mount, MountSource, Volume},
};

/// Creates a volume.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    /// App.
    pub app: AppName,
    /// Name of the new volume.
    pub name: VolumeName,
    /// Its size, such as 512m or 10g; without it, volumes.size_mib of this server.
    #[arg(long, value_name = "SIZE")]
    #[serde(rename = "size_mib")]
    pub size: Option<VolumeSize>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VolumeInfo {
    /// Owning app.
    pub app: AppName,
    /// Name.
    pub name: VolumeName,
    /// Declared size, in MiB; the file system takes some of it.
    #[serde(rename = "size_mib")]
    pub size: VolumeSize,
    /// Space that its files take, in bytes; none before it is first used.
    pub used_bytes: Option<u64>,
    /// Space that is free for files, in bytes.
    pub free_bytes: Option<u64>,
    /// Where it is mounted.
    pub mounts: Vec<MountSpec>,
    /// User who created it.
    pub by: String,
    /// Since when.
    pub since: Time,
}

impl VolumeInfo {
    async fn of(context: &Context<'_>, app: &App, volume: Volume) -> Result<Self> {
        let usage = context.deployer.volumes().usage(&volume).await?;
        let own = app.mounts.iter().filter(|mount| match &mount.source {
            MountSource::Volume(id, _) => *id == volume.id,
            MountSource::Host(_) => false,
        });
        Ok(Self {
            app: app.name.clone(),
            mounts: own.map(Mount::spec).collect(),
            name: volume.name,
            size: volume.size,
            used_bytes: usage.map(|usage| usage.used),
            free_bytes: usage.map(|usage| usage.free),
            by: volume.created_by,
            since: Time(volume.created_at),
        })
    }
}

impl Operation for CreateVolume {
    const NAME: &'static str = "storage:create";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = App;
    type Output = VolumeInfo;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.size.map_or_else(|| self.name.to_string(), |size| format!("{} {size}", self.name))
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<VolumeInfo> {
        let default = || VolumeSize::try_from(context.config.volumes.size_mib).map_err(Failure::invalid);
        let size = self.size.map_or_else(default, Ok)?;
        let by = context.caller.name().to_string();
        let (volume, reservation) = context.deployer.volumes().create(app.id, self.name, size, by).await?;
        match reservation {
            Reservation::Reserved => {}
            Reservation::Impossible => {
                let text = "the file system of this server cannot reserve space: the volume takes what it needs as it is filled";
                context.progress.trouble(text).await;
            }
        }
        VolumeInfo::of(context, &app, volume).await
    }
}

/// Shows the volumes of an app, or of all apps.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ReportVolumes {
    /// App; without it, all.
    pub app: Option<AppName>,
}

impl Operation for ReportVolumes {
    const NAME: &'static str = "storage:report";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = Vec<App>;
    type Output = Vec<VolumeInfo>;

    fn target(&self) -> AppSelection {
        AppSelection::one_or_all(self.app.as_ref())
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<Vec<VolumeInfo>> {
        let mut infos = Vec::new();
        for app in apps {
            for volume in context.store.volumes(app.id).await? {
                infos.push(VolumeInfo::of(context, &app, volume).await?);
            }
        }
        Ok(infos)
    }
}

/// Changes the size of a volume: a larger one while it is in use, a smaller one while nothing uses it.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ResizeVolume {
    /// App.
    pub app: AppName,
    /// Name of the volume.
    pub name: VolumeName,
    /// Its new size, such as 512m or 10g.
    #[serde(rename = "size_mib")]
    pub size: VolumeSize,
}

impl Operation for ResizeVolume {
    const NAME: &'static str = "storage:resize";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = VolumeInfo;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        format!("{} {}", self.name, self.size)
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<VolumeInfo> {
        let volume = volume(context, &app, &self.name).await?;
        if self.size > volume.size {
            context.deployer.floor().check()?;
        }
        let resized = context.deployer.volumes().resize(volume.id, self.size).await?;
        let resized = if let Some(resized) = resized {
            resized
        } else {
            context.progress.detail("no change: it has this size already").await;
            context.store.volume(volume.id).await?
        };
        VolumeInfo::of(context, &app, resized).await
    }
}

/// Destroys a volume with its files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestroyVolume {
    /// App.
    pub app: AppName,
    /// Name of the volume.
    pub name: VolumeName,
    /// Its name once more.
    #[schemars(length(min = 1))]
    pub confirm: String,
}

/// A volume that was destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DestroyedVolume {
    /// App.
    pub app: AppName,
    /// Its name, which is free again.
    pub name: VolumeName,
}

impl Operation for DestroyVolume {
    const NAME: &'static str = "storage:destroy";
    const RIGHT: Right = Right::Own;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = DestroyedVolume;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.name.to_string()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<DestroyedVolume> {
        let volume = volume(context, &app, &self.name).await?;
        let name = &volume.name;
        if self.confirm.is_empty() {
            let text = format!("no name was given: {name} is not destroyed; --force destroys it without a question");
            return Err(Failure::invalid(text));
        }
        if self.confirm != name.as_str() {
            return Err(Failure::invalid(format!("that is not the volume's name: {name} is not destroyed")));
        }
        if let Some(mount) = VolumeInfo::of(context, &app, volume.clone()).await?.mounts.first() {
            let remedy = format!("storage:unmount {} {mount} unmounts it", app.name);
            return Err(Failure::conflict(format!("{name} is mounted at {}", mount.target)).remedy(remedy));
        }
        context.deployer.volumes().destroy(&volume).await?;
        Ok(DestroyedVolume { app: app.name, name: volume.name })
    }
}

/// A volume of an app.
async fn volume(context: &Context<'_>, app: &App, name: &VolumeName) -> Result<Volume> {
    let volumes = context.store.volumes(app.id).await?;
    let names: Vec<_> = volumes.iter().map(|volume| volume.name.to_string()).collect();
    volumes.into_iter().find(|volume| volume.name == *name).ok_or_else(|| {
        let missing = Failure::not_found(format!("{} has no volume {name}", app.name));
        let create = format!("storage:create {} {name} --size 1g creates it", app.name);
        missing.remedy(if names.is_empty() { create } else { format!("it has: {}; {create}", names.join(", ")) })
    })
}
