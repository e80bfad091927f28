//! Adds the launcher to images that no buildpack made, so that they run like all others.

use std::{fs::File, io};

use super::{
    error::{ImageError, Result},
    labels::{self, BUILD_METADATA},
    manifest::{Descriptor, History, ImageConfig},
    store::{CREATED, Image, ImageStore},
};
use crate::{
    lifecycle::protocol::BuiltLayer,
    model::{CONTAINER_PORT, Digest, ImageHealthCheck, Process, ProcessType},
};

/// Label with the port on which the web process of such an image listens.
const PORT_LABEL: &str = "paas.image.port";

/// Settings for the containers of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// Port on which the web process listens: the value of `$PORT`.
    pub port: u16,
    /// Whether user and stop signal are those of the image.
    pub own_user: bool,
    /// Its `HEALTHCHECK`.
    pub health_check: Option<ImageHealthCheck>,
}

/// How the containers of an image are started and stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartSettings {
    /// Whether its launcher is an init; otherwise the engine's has to be in front of it.
    pub launcher_is_init: bool,
    /// Whether its launcher waits until an address is closed.
    pub launcher_waits: bool,
    /// The image's own stop signal.
    pub stop_signal: Option<String>,
}

/// The program of a process, if that is the launcher of an image that buildpacks made (buildpacks/spec, platform.md): our
/// launcher replaces it, and would start itself in an endless loop.
fn replaced_launcher(process: &Process) -> Option<String> {
    let program = process.command.first()?.split_whitespace().next()?;
    (program.starts_with("/cnb/process/") || program == "/cnb/lifecycle/launcher").then(|| program.to_owned())
}

impl ImageStore {
    /// Adds the launcher to an image. The process types are those in `declared`, or one for the default command of the
    /// image; `make_layer` creates the layer of the launcher for them. Of its labels, only those that describe it are kept. Blocks.
    pub fn with_launcher(
        &self,
        image: &Image,
        declared: Option<Vec<Process>>,
        make_layer: impl FnOnce(&[Process]) -> io::Result<(BuiltLayer, File)>,
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
            let text = "the Dockerfile has no command to run: add a CMD, or a Procfile with a line web: COMMAND";
            return Err(ImageError::NotLaunchable(text.to_owned()));
        }
        if let Some(launcher) = processes.iter().find_map(replaced_launcher) {
            let text = format!(
                "{launcher} is the launcher of an image that buildpacks made, and paas replaces it: set the command to run with \
                 CMD and ENTRYPOINT in the Dockerfile, or in a Procfile"
            );
            return Err(ImageError::NotLaunchable(text));
        }
        for process in &mut processes {
            process.working_dir = Some(folder.clone());
        }
        let failed = |e: io::Error| ImageError::NotLaunchable(format!("cannot add the launcher to the image: {e}"));
        let (layer, mut tar) = make_layer(&processes).map_err(failed)?;
        if !self.blobs().use_again(&layer.digest)? {
            let mut writer = self.blobs().writer()?;
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut tar, &mut bytes).map_err(failed)?;
            writer.write(&bytes)?;
            writer.finish(&layer.digest, layer.size)?;
        }
        layers.push(Descriptor::layer(layer.digest.clone(), layer.size));
        diff_ids.push(layer.digest);
        history.push(History::of(CREATED, layer.created_by));
        run.labels.retain(|name, _| !labels::is_foreign(name));
        labels::add_launcher(&mut run.labels);
        run.labels.insert(PORT_LABEL.to_owned(), web_port(run.exposed_ports.keys()).to_string());
        run.labels.insert(BUILD_METADATA.to_owned(), serde_json::json!({ "processes": processes }).to_string());
        let main = processes.iter().find(|p| p.default).or_else(|| processes.first());
        run.entrypoint = main.iter().map(|process| format!("/cnb/process/{}", process.process_type)).collect();
        run.cmd = Vec::new();
        Ok(self.put_image(&config.architecture, layers, diff_ids, history, run)?.manifest)
    }

    /// Settings for the containers of an image.
    pub fn runtime_settings(&self, manifest: &Digest) -> Result<RuntimeSettings> {
        let run = self.run_config(manifest)?;
        let port = run.labels.get(PORT_LABEL).and_then(|port| port.parse().ok());
        let health_check = run.healthcheck.as_ref().and_then(|check| check.read(&run.shell));
        Ok(RuntimeSettings { port: port.unwrap_or(CONTAINER_PORT), own_user: port.is_some(), health_check })
    }

    /// How the containers of an image are started and stopped. An engine need not know it of all images that it runs.
    pub fn start_settings(&self, manifest: &Digest) -> Result<StartSettings> {
        let run = self.run_config(manifest)?;
        Ok(StartSettings {
            launcher_is_init: labels::has_init(&run.labels),
            launcher_waits: labels::has_wait(&run.labels),
            stop_signal: run.stop_signal.filter(|signal| !signal.is_empty()),
        })
    }
}

/// The default port if the image exposes it, or no port; otherwise the lowest exposed TCP port.
fn web_port<'a>(ports: impl Iterator<Item = &'a String>) -> u16 {
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
    use super::*;
    use crate::images::manifest::RunConfig;

    #[test]
    fn the_image_says_how_its_containers_are_started_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        let settings = |run: &RunConfig| {
            let image = store.put_image("amd64", vec![], vec![], vec![], run.clone()).unwrap();
            store.start_settings(&image.manifest).unwrap()
        };
        let mut run = RunConfig { stop_signal: Some("SIGINT".to_owned()), ..RunConfig::default() };
        let of_image =
            StartSettings { launcher_is_init: false, launcher_waits: false, stop_signal: Some("SIGINT".to_owned()) };
        assert_eq!(settings(&run), of_image);
        labels::add_launcher(&mut run.labels);
        run.stop_signal = Some(String::new());
        assert_eq!(settings(&run), StartSettings { launcher_is_init: true, launcher_waits: true, stop_signal: None });
    }

    #[test]
    fn the_port_follows_from_the_exposed_ports() {
        let web_port =
            |ports: &[&str]| super::web_port(ports.iter().map(|port| (*port).to_owned()).collect::<Vec<_>>().iter());
        assert_eq!(web_port(&[]), 8080);
        assert_eq!(web_port(&["443/tcp", "80/tcp", "53/udp"]), 80);
        assert_eq!(web_port(&["80/tcp", "8080/tcp"]), 8080);
        assert_eq!(web_port(&["3000", "nonsense/tcp", "0/tcp"]), 3000);
    }
}
