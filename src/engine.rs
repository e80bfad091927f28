//! The Docker Engine: networks, images, instances and build containers, with the disks and packet filters that they need.
//! All objects that this module creates have our labels, and it changes no object without the label of this server.

mod archiver;
mod attach;
mod build;
mod cgroup;
mod child;
mod claim;
mod connection;
mod container;
pub mod disk;
mod error;
mod events;
mod filter_changes;
mod filters;
mod firewall;
mod handle;
mod id;
mod image;
pub mod label;
mod layer_limit;
mod logs;
mod lookup;
mod network;
mod outages;
mod ports;
mod resolver;
mod seccomp;
mod usage;
mod workload;
mod written;

pub use archiver::{ArchiverSpec, Archiving};
pub use attach::{Attached, Executed, Execution, Printed};
pub use build::{BuildContainer, BuildExit, BuildNetwork, BuildSpec, Mount};
pub use cgroup::OwnerGroup;
pub use child::ChildError;
pub use container::{Container, ContainerState};
pub use error::{Act, EngineError, Result};
pub use events::{ContainerExit, MemoryKill};
pub use handle::{Builds, Containers, Engine, EngineVersion, Host, Images};
pub use id::{ContainerId, ImageId};
pub use image::LocalImage;
pub use label::Kind;
pub use logs::{LogLine, LogOptions, MAX_LINE_BYTES, ReadUntil};
pub use lookup::addresses_of;
pub use ports::ListeningSocket;
pub use resolver::EMBEDDED_DNS;
pub use usage::{Usage, UsageSample};
pub use workload::{ContainerSpec, Input};
pub use written::Written;

impl Engine {
    /// Removes everything with this server's label: containers, networks, image tags, packet filters, control groups.
    pub async fn remove_all(&self) -> Result<()> {
        self.remove_containers().await?;
        self.host.remove_networks().await?;
        // The engine may have created one more container since, for a request of a server that was killed, which keeps its image.
        if self.images.remove_images().await.is_err() {
            self.remove_containers().await?;
            self.images.remove_images().await?;
        }
        self.images.remove_step_images().await?;
        self.remove_containers().await?;
        self.host.remove_build_group().await;
        self.host.remove_instance_groups().await;
        self.host.remove_firewall().await
    }

    async fn remove_containers(&self) -> Result<()> {
        for container in self.containers.list(None).await? {
            self.containers.remove(&container.id).await?;
        }
        Ok(())
    }

    /// Frees the addresses of this server: removes its networks, packet filters and the control group of builds. The next
    /// build or instance creates them again.
    pub async fn free_addresses(&self) -> Result<()> {
        self.host.remove_networks().await?;
        self.host.remove_build_group().await;
        self.host.remove_firewall().await
    }
}
