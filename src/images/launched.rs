//! Images that no buildpack made: they get the launcher, so that they are run like all others.

use std::{fs::File, io};

use super::{
    BUILD_METADATA, CREATED, Image, ImageConfig, ImageError, ImageStore, Result,
    manifest::{Descriptor, History},
};
use crate::{
    lifecycle::protocol::BuiltLayer,
    model::{CONTAINER_PORT, Digest, Process, ProcessType},
};

/// The label with the port that such an image listens on.
const PORT: &str = "paas.image.port";

/// How containers of an image are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conduct {
    /// The port that `PORT` names.
    pub port: u16,
    /// Whether user and stop signal are the image's own.
    pub own_user: bool,
}

/// The launcher that a process would start (buildpacks/spec, platform.md): ours takes its place, so it would start itself
/// for ever.
fn launcher(process: &Process) -> Option<String> {
    let program = process.command.first()?.split_whitespace().next()?;
    (program.starts_with("/cnb/process/") || program == "/cnb/lifecycle/launcher").then(|| program.to_owned())
}

impl ImageStore {
    /// Puts the launcher on top of an image. Its processes are those declared, or what the image runs by default;
    /// `make` makes the layers of the launcher for them. Labels of these names are left out. Blocks.
    pub fn with_launcher(
        &self,
        image: &Image,
        declared: Option<Vec<Process>>,
        forget: &[String],
        make: impl FnOnce(&[Process]) -> io::Result<Vec<(BuiltLayer, File)>>,
    ) -> Result<Digest> {
        let mut layers = self.manifest(&image.manifest)?.layers;
        let config: ImageConfig = self.read(&image.config, "configuration")?;
        let (mut diff_ids, mut history, mut run) = (config.rootfs.diff_ids, config.history, config.config);
        let folder =
            Some(run.working_dir.clone()).filter(|folder| !folder.is_empty()).unwrap_or_else(|| "/".to_owned());
        let mut processes = match declared {
            Some(processes) => processes,
            None => vec![Process {
                process_type: ProcessType::web(),
                command: [run.entrypoint.as_slice(), &run.cmd].concat(),
                args: Vec::new(),
                direct: true,
                default: true,
                working_dir: None,
            }],
        };
        if processes.iter().any(|process| process.command.is_empty()) {
            let text = "the Dockerfile says nothing to run: add a CMD, or a Procfile with a line web: COMMAND";
            return Err(ImageError::Archive(text.to_owned()));
        }
        if let Some(launcher) = processes.iter().find_map(launcher) {
            let text = format!(
                "{launcher} is the launcher of an image that buildpacks made, which gets another one here: say what to run \
                 with a CMD and ENTRYPOINT of the Dockerfile's own, or a Procfile"
            );
            return Err(ImageError::Archive(text));
        }
        for process in &mut processes {
            process.working_dir = Some(folder.clone());
        }
        let failed = |e: io::Error| ImageError::Archive(format!("the launcher cannot be put into it: {e}"));
        for (layer, mut tar) in make(&processes).map_err(failed)? {
            let mut writer = self.blobs.writer()?;
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut tar, &mut bytes).map_err(failed)?;
            writer.write(&bytes)?;
            writer.finish(&layer.digest, layer.size)?;
            layers.push(Descriptor::layer(layer.digest.clone(), layer.size));
            diff_ids.push(layer.digest);
            history.push(History::of(CREATED, layer.created_by));
        }
        run.labels.retain(|name, _| !forget.contains(name));
        run.labels.insert(PORT.to_owned(), exposed(run.exposed_ports.keys()).to_string());
        run.labels.insert(BUILD_METADATA.to_owned(), serde_json::json!({ "processes": processes }).to_string());
        let main = processes.iter().find(|p| p.default).or_else(|| processes.first());
        run.entrypoint = main.iter().map(|process| format!("/cnb/process/{}", process.process_type)).collect();
        run.cmd = Vec::new();
        Ok(self.put_image(&config.architecture, layers, diff_ids, history, run)?.manifest)
    }

    /// How containers of an image are run.
    pub fn conduct(&self, manifest: &Digest) -> Result<Conduct> {
        let port = self.labels(manifest)?.get(PORT).and_then(|port| port.parse().ok());
        Ok(Conduct { port: port.unwrap_or(CONTAINER_PORT), own_user: port.is_some() })
    }
}

/// The port that is asked for: the usual one if it is among those that the image exposes, or none is; else the lowest.
fn exposed<'a>(ports: impl Iterator<Item = &'a String>) -> u16 {
    let tcp = ports.filter_map(|port| match port.split_once('/') {
        Some((number, "tcp")) => number.parse().ok(),
        Some(_) => None,
        None => port.parse().ok(),
    });
    let ports: Vec<u16> = tcp.filter(|port| *port != 0).collect();
    let lowest = ports.iter().min().copied().unwrap_or(CONTAINER_PORT);
    if ports.contains(&CONTAINER_PORT) { CONTAINER_PORT } else { lowest }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_port_is_the_one_that_is_exposed() {
        let exposed =
            |ports: &[&str]| super::exposed(ports.iter().map(|port| (*port).to_owned()).collect::<Vec<_>>().iter());
        assert_eq!(exposed(&[]), 8080);
        assert_eq!(exposed(&["443/tcp", "80/tcp", "53/udp"]), 80);
        assert_eq!(exposed(&["80/tcp", "8080/tcp"]), 8080);
        assert_eq!(exposed(&["3000", "nonsense/tcp", "0/tcp"]), 3000);
    }
}
