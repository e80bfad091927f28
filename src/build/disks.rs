//! Names of the disks of apps.

/// The disk of an app's Dockerfile: unlike that of its buildpacks, it holds files of users that only exist in the container.
pub(super) fn dockerfile_disk(disk: &str) -> String {
    format!("{disk}-dockerfile")
}
