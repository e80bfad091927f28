//! Containers of instances. Only the reconciler starts and stops them.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig, NetworkingConfig,
};

use super::{
    container::{USER, confined, mebibytes},
    error::Result,
    handle::Containers,
    id::{ContainerId, ImageId},
    label::{self, Kind},
};
use crate::model::{AppName, InstanceId, ProcessType, ReleaseNumber};

/// Capabilities of root in an instance that runs as its image's own user: a subset of the engine's default.
const CAPABILITIES: [&str; 7] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"];

/// Specification of the container of an instance. Not `Debug`: its environment holds secrets.
#[derive(Clone)]
pub struct InstanceSpec {
    /// Id of the instance, and name of its container.
    pub id: InstanceId,
    /// Owning app.
    pub app: AppName,
    /// Process type.
    pub process_type: ProcessType,
    /// Release.
    pub release: ReleaseNumber,
    /// Image.
    pub image: ImageId,
    /// Number of the app bridge that the container is connected to.
    pub bridge: u32,
    /// Address of the container on that bridge.
    pub address: Ipv4Addr,
    /// Command; if empty, the image's entrypoint.
    pub entrypoint: Vec<String>,
    /// Arguments of the command.
    pub cmd: Vec<String>,
    /// Environment variables, as `NAME=value`.
    pub env: Vec<String>,
    /// CPU limit, in thousandths of a CPU.
    pub cpu_millis: u32,
    /// Memory limit in MiB; there is no swap in addition.
    pub memory_mib: u64,
    /// Maximum number of processes and threads.
    pub pids: u32,
    /// Grace period: the time between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// Labels in addition to ours.
    pub labels: BTreeMap<String, String>,
    /// Whether user and stop signal are those of the image. Such an image may start as root, which then has the
    /// capabilities that programs of ordinary images need until they switch to another user.
    pub own_user: bool,
}

impl Containers {
    /// Creates the container of an instance, without starting it. If the container exists, its id is returned: an earlier
    /// request created it, but the response was lost (the id of an instance is never used twice).
    pub async fn create_instance(&self, spec: &InstanceSpec) -> Result<ContainerId> {
        let network = self.app_bridge_name(spec.bridge);
        let mut labels = self.0.labels(Kind::Instance);
        labels.extend(
            [
                (label::APP, spec.app.to_string()),
                (label::INSTANCE, spec.id.to_string()),
                (label::RELEASE, spec.release.to_string()),
                (label::PROCESS, spec.process_type.to_string()),
            ]
            .map(|(k, v)| (k.to_owned(), v)),
        );
        for (key, value) in &spec.labels {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let endpoint = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: Some(spec.address.to_string()),
                ..EndpointIpamConfig::default()
            }),
            ..EndpointSettings::default()
        };
        let log = [("max-size", "10m"), ("max-file", "3")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let host = HostConfig {
            init: Some(true),
            cap_add: spec.own_user.then(|| CAPABILITIES.map(str::to_owned).to_vec()),
            network_mode: Some(network.clone()),
            nano_cpus: Some(self.0.nano_cpus(u64::from(spec.cpu_millis))),
            memory: Some(mebibytes(spec.memory_mib)),
            memory_swap: Some(mebibytes(spec.memory_mib)),
            pids_limit: Some(i64::from(spec.pids)),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(log.into_iter().collect()),
            }),
            ..confined()
        };
        let body = ContainerCreateBody {
            image: Some(spec.image.to_string()),
            user: (!spec.own_user).then(|| USER.to_owned()),
            env: Some(spec.env.clone()),
            entrypoint: Some(spec.entrypoint.clone()).filter(|e| !e.is_empty()),
            cmd: Some(spec.cmd.clone()).filter(|c| !c.is_empty()),
            labels: Some(labels),
            stop_signal: (!spec.own_user).then(|| "SIGTERM".to_owned()),
            stop_timeout: i64::try_from(spec.stop_grace.as_secs()).ok(),
            host_config: Some(host),
            networking_config: Some(NetworkingConfig { endpoints_config: Some([(network, endpoint)].into()) }),
            ..ContainerCreateBody::default()
        };
        self.create(spec.id.as_str(), &spec.image, body).await
    }
}
