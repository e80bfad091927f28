//! Containers that pack the files of a volume into a tar, or unpack one into it: files and tar are from users, so nothing on
//! the host reads them.

use std::path::PathBuf;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};

use super::{
    build::{Mount, mount},
    cgroup::OwnerGroup,
    container::{confined, mebibytes},
    disk::Owner,
    error::Result,
    handle::Containers,
    id::{ContainerId, ImageId},
    label::{self, Kind},
};
use crate::{model::AppName, oom_score::OomScore};

/// What is done with the files of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archiving {
    /// They are written to standard output, as a tar.
    Pack,
    /// A tar of standard input is unpacked.
    Unpack,
}

/// Specification of a container that packs or unpacks the files of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiverSpec {
    /// Owning app.
    pub app: AppName,
    /// Image with `tar`.
    pub image: ImageId,
    /// Folder of the volume.
    pub files: PathBuf,
    /// Who has the folder.
    pub owner: Owner,
    /// What is done.
    pub archiving: Archiving,
    /// The control group of the owner's containers.
    pub group: OwnerGroup,
}

/// Where the files are in the container.
const VOLUME: &str = "/volume";
/// User and group of the apps' processes.
const APP: Owner = (1000, 1000);
/// Capabilities that read, write and give away the files of any user.
const CAPABILITIES: [&str; 3] = ["CHOWN", "DAC_OVERRIDE", "FOWNER"];

impl Containers {
    /// Creates such a container, without starting it. It ends with its standard input or output.
    pub async fn create_archiver(&self, spec: &ArchiverSpec) -> Result<ContainerId> {
        let name = format!("paas-{}-archive-{}-{:08x}", self.0.server_id(), spec.app, rand::random::<u32>());
        let mut labels = self.0.labels(Kind::Archiver);
        labels.insert(label::APP.to_owned(), spec.app.to_string());
        let (action, files) = match spec.archiving {
            Archiving::Pack => ("-cf", Mount::read_only(&spec.files, VOLUME)),
            Archiving::Unpack => ("-xpf", Mount::writable(&spec.files, VOLUME)),
        };
        // What is unpacked for an app's own user is that user's; in other volumes, the tar says whose it is.
        let as_app = spec.archiving == Archiving::Unpack && spec.owner == APP;
        let user = if as_app { APP } else { (0, 0) };
        let whole = (spec.archiving == Archiving::Pack).then_some(".");
        let command = ["tar", "-C", VOLUME, "--numeric-owner", action, "-"].into_iter().chain(whole);
        let host = HostConfig {
            init: Some(true),
            cap_add: (!as_app).then(|| CAPABILITIES.map(str::to_owned).to_vec()),
            network_mode: Some("none".to_owned()),
            readonly_rootfs: Some(true),
            nano_cpus: Some(self.0.nano_cpus(1000)),
            cgroup_parent: self.0.instance_group(&spec.group).await,
            memory: Some(mebibytes(128)),
            memory_swap: Some(mebibytes(128)),
            pids_limit: Some(32),
            oom_score_adj: Some(OomScore::Archiver.value().into()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            mounts: Some(vec![mount(&files)]),
            ..confined()
        };
        let body = ContainerCreateBody {
            image: Some(spec.image.to_string()),
            user: Some(format!("{}:{}", user.0, user.1)),
            entrypoint: Some(command.map(str::to_owned).collect()),
            labels: Some(labels),
            attach_stdin: Some(true),
            open_stdin: Some(true),
            stdin_once: Some(true),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        self.create(&name, &spec.image, body).await
    }

    /// Starts a container that has no network.
    pub async fn start_archiver(&self, id: &ContainerId) -> Result<()> {
        self.start_without_network(id).await
    }

    /// Removes those that a crashed server left behind.
    pub async fn remove_leftover_archivers(&self) -> Result<()> {
        for container in self.list(Some(Kind::Archiver)).await? {
            self.remove(&container.id).await?;
        }
        Ok(())
    }
}
