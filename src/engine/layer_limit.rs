//! The engine's own limit of what a container writes to its layer. Docker has it on overlay2 over XFS with project quotas; whether
//! the file system has them is known when a container is created.

use std::sync::{Mutex, PoisonError};

use bollard::{errors::Error as DockerError, models::ContainerCreateBody};

use super::error::EngineError;

/// Line for the operator of an engine without such limits.
pub(super) const NO_LAYER_LIMITS: &str = "Docker cannot limit what a container writes here (that needs overlay2 on XFS with project \
    quotas): instances and tasks that write more than instances.disk_mib are found and killed instead";

/// Whether the engine limits layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerLimits {
    /// It may: no container was created yet.
    Untried,
    /// It does.
    Possible,
    /// It does not.
    Impossible,
}

/// What is known of the engine's limits of layers.
#[derive(Debug)]
pub(super) struct KnownLayerLimits(Mutex<LayerLimits>);

impl KnownLayerLimits {
    /// For an engine with this storage driver, and what it says of it. Other drivers refuse a limit, or ignore it.
    pub(super) fn new(driver: Option<&str>, status: &[Vec<String>]) -> Self {
        let on_xfs = status.iter().any(|entry| *entry == ["Backing Filesystem", "xfs"]);
        let may = driver == Some("overlay2") && on_xfs;
        Self(Mutex::new(if may { LayerLimits::Untried } else { LayerLimits::Impossible }))
    }

    fn get(&self) -> LayerLimits {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was found, and logs it if it is new.
    pub(super) fn set(&self, found: LayerLimits) {
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), found);
        if before != found {
            match found {
                LayerLimits::Untried => {}
                LayerLimits::Possible => tracing::info!("Docker limits what a container writes to instances.disk_mib"),
                LayerLimits::Impossible => tracing::info!("{NO_LAYER_LIMITS}"),
            }
        }
    }

    /// Whether it is known that there are none.
    pub(super) fn are_impossible(&self) -> bool {
        self.get() == LayerLimits::Impossible
    }
}

/// The same container with a limited layer.
pub(super) fn limited(mut body: ContainerCreateBody, limit_mib: u64) -> ContainerCreateBody {
    let host = body.host_config.get_or_insert_default();
    host.storage_opt = Some([("size".to_owned(), format!("{limit_mib}M"))].into());
    body
}

/// Whether the engine refused to create a container because of the limit of its layer.
pub(super) fn is_refusal(error: &EngineError) -> bool {
    matches!(error, EngineError::Docker { source: DockerError::DockerResponseServerError { message, .. }, .. }
        if message.contains("storage-opt"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Act;

    #[test]
    fn layers_may_be_limited_on_xfs_only() {
        let known = |driver, file_system: &str| {
            let status = [["Backing Filesystem", file_system], ["Supports d_type", "true"]];
            KnownLayerLimits::new(Some(driver), &status.map(|entry| entry.map(str::to_owned).to_vec())).get()
        };
        assert_eq!(known("overlay2", "xfs"), LayerLimits::Untried);
        assert_eq!(known("overlay2", "extfs"), LayerLimits::Impossible);
        // Docker's containerd image store ignores the limit.
        assert_eq!(known("overlayfs", "xfs"), LayerLimits::Impossible);
    }

    #[test]
    fn only_a_refused_limit_is_a_refusal() {
        let failed = |message: &str| {
            let source = DockerError::DockerResponseServerError { status_code: 500, message: message.to_owned() };
            EngineError::docker(Act::Create, "container web-1")(source)
        };
        let refused = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";
        assert!(is_refusal(&failed(refused)));
        assert!(!is_refusal(&failed("no space left on device")));
        let host = limited(ContainerCreateBody::default(), 1024).host_config.unwrap();
        assert_eq!(host.storage_opt.unwrap()["size"], "1024M");
    }
}
