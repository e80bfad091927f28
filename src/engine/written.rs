//! What a container has written besides what is mounted into it: to its own layer, to volumes that the engine made because the
//! image declares a `VOLUME`, and to files of both that are removed but still open.

mod removed;

use std::{io, path::PathBuf};

use bollard::{models::ContainerInspectResponse, query_parameters::InspectContainerOptionsBuilder};

use super::{
    error::{Act, EngineError, Result, status},
    handle::Containers,
    id::ContainerId,
};
use crate::data_dir::TreeUsage;
use removed::removed_files;

/// Least that a file or folder counts as, in bytes: a disk has room for a limited number of them.
const LEAST: u64 = 4096;

/// What a container has written besides what is mounted into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Bytes; each file and folder counts as at least 4 KiB.
    Bytes {
        /// All of them.
        all: u64,
        /// Those that are not in a layer which the engine limits.
        unlimited: u64,
    },
    /// Folders are nested so deeply that what is in them is not counted.
    TooDeep,
    /// Its processes have more than [`Self::MAX_OPEN`] files open, any of which may be removed and take space.
    TooManyOpen,
}

impl Written {
    /// Number of open files of a container that are looked at; threads that share theirs count once.
    pub const MAX_OPEN: usize = removed::MAX_LOOKED_AT;
}

/// Where a container writes besides what is mounted into it.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    /// Folder of its own layer on this machine; `None` if the engine does not say.
    layer: Option<PathBuf>,
    /// Whether the engine limits that layer.
    is_limited: bool,
    /// Folders of the volumes that the engine made for it.
    volumes: Vec<PathBuf>,
    /// Id of the container.
    id: String,
    /// Its first process.
    pid: u32,
}

impl Places {
    /// Those of a container; `None` if it does not run.
    fn read(inspected: &ContainerInspectResponse) -> Option<Self> {
        let pid = u32::try_from(inspected.state.as_ref()?.pid?).ok().filter(|pid| *pid > 0)?;
        let driver = inspected.graph_driver.as_ref().filter(|driver| driver.name == "overlay2");
        let options = inspected.host_config.as_ref().and_then(|host| host.storage_opt.as_ref());
        let volumes = inspected.mounts.iter().flatten().filter(|mount| mount.typ.as_deref() == Some("volume"));
        Some(Self {
            layer: driver.and_then(|driver| driver.data.get("UpperDir")).map(PathBuf::from),
            is_limited: options.is_some_and(|options| options.contains_key("size")),
            volumes: volumes.filter_map(|mount| mount.source.as_ref()).map(PathBuf::from).collect(),
            id: inspected.id.clone()?,
            pid,
        })
    }

    /// Counts what is in all of them. Blocks.
    fn count(&self) -> io::Result<Written> {
        // Nearly all removed files are in the layer.
        let (mut limited, mut unlimited) = match (removed_files(self.pid, &self.id, &self.volumes), self.is_limited) {
            (removed, true) => (removed.unwrap_or(0), 0),
            (Some(removed), false) => (0, removed),
            (None, false) => return Ok(Written::TooManyOpen),
        };
        for (place, is_limited) in self
            .layer
            .iter()
            .map(|layer| (layer, self.is_limited))
            .chain(self.volumes.iter().map(|volume| (volume, false)))
        {
            let TreeUsage { bytes, entries, too_deep } = TreeUsage::of(place)?;
            if too_deep && !is_limited {
                return Ok(Written::TooDeep);
            }
            let sum = if is_limited { &mut limited } else { &mut unlimited };
            *sum = sum.saturating_add(bytes.max(entries.saturating_mul(LEAST)));
        }
        Ok(Written::Bytes { all: limited.saturating_add(unlimited), unlimited })
    }
}

impl Containers {
    /// What a container has written besides what is mounted into it; `None` if it does not run. All its files are counted.
    pub async fn written(&self, id: &ContainerId) -> Result<Option<Written>> {
        let Some(inspected) = self.inspect_written(id, false).await? else { return Ok(None) };
        let Some(mut places) = Places::read(&inspected) else { return Ok(None) };
        let layer = match places.layer.clone() {
            Some(layer) => tokio::fs::try_exists(layer).await.unwrap_or(false),
            None => false,
        };
        let mut counted_by_engine = 0;
        if !layer && !places.is_limited {
            // Another image store, or an engine whose folder is not on this machine.
            places.layer = None;
            let Some(inspected) = self.inspect_written(id, true).await? else { return Ok(None) };
            let bytes = inspected.size_rw.and_then(|bytes| u64::try_from(bytes).ok());
            counted_by_engine = bytes.ok_or(EngineError::Incomplete("the size of a container"))?;
        }
        let counted = tokio::task::spawn_blocking(move || places.count()).await.map_err(io::Error::from);
        match counted.and_then(|counted| counted) {
            Ok(Written::Bytes { all, unlimited }) => Ok(Some(Written::Bytes {
                all: all.saturating_add(counted_by_engine),
                unlimited: unlimited.saturating_add(counted_by_engine),
            })),
            Ok(uncountable @ (Written::TooDeep | Written::TooManyOpen)) => Ok(Some(uncountable)),
            Err(source) => Err(EngineError::CannotCountFiles { name: id.0.clone(), source }),
        }
    }

    async fn inspect_written(&self, id: &ContainerId, size: bool) -> Result<Option<ContainerInspectResponse>> {
        let options = InspectContainerOptionsBuilder::new().size(size).build();
        match self.0.docker().inspect_container(id.as_str(), Some(options)).await {
            Ok(inspected) => Ok(Some(inspected)),
            Err(e) if status(&e) == Some(404) => Ok(None),
            Err(e) => Err(EngineError::docker(Act::Inspect, format!("container {id}"))(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(limit: &str) -> ContainerInspectResponse {
        let text = format!(
            r#"{{"Id": "0c4f", "State": {{"Pid": 17}}, "HostConfig": {{"StorageOpt": {limit}}},
                "GraphDriver": {{"Name": "overlay2", "Data": {{"UpperDir": "/engine/overlay2/x/diff", "WorkDir": "/w"}}}},
                "Mounts": [{{"Type": "bind", "Source": "/srv", "Destination": "/media"}},
                           {{"Type": "volume", "Name": "a1", "Source": "/engine/volumes/a1/_data", "Destination": "/data"}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn layer_and_volumes_of_the_image_are_found_but_not_what_is_mounted() {
        let places = Places::read(&inspected("null")).unwrap();
        let expected = Places {
            layer: Some("/engine/overlay2/x/diff".into()),
            is_limited: false,
            volumes: vec!["/engine/volumes/a1/_data".into()],
            id: "0c4f".into(),
            pid: 17,
        };
        assert_eq!(places, expected);
        assert!(Places::read(&inspected(r#"{"size": "1024M"}"#)).unwrap().is_limited);
    }

    #[test]
    fn what_is_in_a_layer_that_the_engine_limits_is_told_apart_and_empty_files_count() {
        let dir = tempfile::tempdir().unwrap();
        let [layer, volume] = ["layer", "volume"].map(|name| dir.path().join(name));
        std::fs::create_dir(&layer).unwrap();
        std::fs::create_dir(&volume).unwrap();
        let count = |is_limited| {
            let places = Places::read(&inspected("null")).unwrap();
            Places { layer: Some(layer.clone()), is_limited, volumes: vec![volume.clone()], ..places }.count().unwrap()
        };
        assert!(matches!(count(false), Written::Bytes { .. }), "two folders are not nested deeply");
        std::fs::write(layer.join("file"), vec![1; 1 << 20]).unwrap();
        let is_about = |written, expected: [u64; 2]| {
            let Written::Bytes { all, unlimited } = written else { panic!("nothing is nested deeply") };
            let about = |bytes: u64, count: u64| (bytes..bytes + (64 << 10)).contains(&count);
            about(expected[0], all) && about(expected[1], unlimited)
        };
        assert!(is_about(count(false), [1 << 20, 1 << 20]));
        assert!(is_about(count(true), [1 << 20, 0]));
        for n in 0..1000 {
            std::fs::File::create(volume.join(n.to_string())).unwrap();
        }
        let all = (1 << 20) + 1000 * LEAST;
        assert!(is_about(count(false), [all, all]));
        assert!(is_about(count(true), [all, 1000 * LEAST]));
    }
}
