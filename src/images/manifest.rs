//! Documents of the OCI image specification, with the fields that we use.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::model::{Digest, HealthCheck, ImageHealthCheck};

pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// Longest time that the health check of an image may name.
const MAX_CHECK_TIME: Duration = Duration::from_hours(1);
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub schema_version: u8,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    pub(super) fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: MANIFEST_TYPE.to_owned(), config, layers }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
}

impl Descriptor {
    pub(super) fn layer(digest: Digest, size: u64) -> Self {
        Self { media_type: LAYER_TYPE.to_owned(), digest, size }
    }

    pub(super) fn config(digest: Digest, size: u64) -> Self {
        Self { media_type: CONFIG_TYPE.to_owned(), digest, size }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ImageConfig {
    #[serde(default)]
    pub created: String,
    pub architecture: String,
    pub os: String,
    #[serde(default)]
    pub config: RunConfig,
    pub rootfs: RootFs,
    #[serde(default)]
    pub history: Vec<History>,
}

impl ImageConfig {
    /// What made each layer; the history also has entries for steps without a layer.
    pub(super) fn steps_of_layers(&self) -> impl Iterator<Item = &str> {
        let made = self.history.iter().filter(|entry| !entry.empty_layer).map(|entry| entry.created_by.as_str());
        made.chain(std::iter::repeat("")).take(self.rootfs.diff_ids.len())
    }

    /// Has commands in the shell form run by the shell that `SHELL` names, which buildah does for `RUN` alone.
    pub(super) fn apply_shell(&mut self) {
        let last = |keyword| {
            let mut steps = self.history.iter().enumerate().rev();
            steps.find_map(|(at, entry)| Some((at, words_of(&entry.created_by, keyword)?)))
        };
        let shell = last("SHELL").map(|(at, _)| at);
        let in_shell_form = |keyword| {
            last(keyword).is_some_and(|(at, words)| {
                shell.is_none_or(|shell| shell < at) && serde_json::from_str::<Vec<String>>(words).is_err()
            })
        };
        let (of_cmd, of_entrypoint) = (in_shell_form("CMD"), in_shell_form("ENTRYPOINT"));
        let RunConfig { shell, cmd, entrypoint, .. } = &mut self.config;
        for (words, applies) in [(cmd, of_cmd), (entrypoint, of_entrypoint)] {
            if applies && !shell.is_empty() && words.len() == 3 && words.starts_with(&["/bin/sh".into(), "-c".into()]) {
                words.splice(..2, shell.iter().cloned());
            }
        }
    }
}

/// What follows the keyword in an entry of the history, if it is of this instruction.
fn words_of<'a>(step: &'a str, keyword: &str) -> Option<&'a str> {
    let step = step.strip_prefix("/bin/sh -c #(nop)").unwrap_or(step).trim_start();
    let (name, words) = step.split_once(char::is_whitespace)?;
    name.eq_ignore_ascii_case(keyword).then(|| words.trim())
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RunConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub env: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Ports, as `port/protocol`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Shell of instructions that name none.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Instructions for images that are based on this one.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<ImageCheck>,
    #[serde(default)]
    pub working_dir: String,
    #[serde(default, deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
}

/// The `HEALTHCHECK` of an image, as Docker writes it. Times are in nanoseconds; 0 stands for the default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ImageCheck {
    #[serde(deserialize_with = "or_default")]
    pub test: Vec<String>,
    pub interval: u64,
    pub timeout: u64,
    pub start_period: u64,
    pub retries: u32,
}

impl ImageCheck {
    /// Its command, times and defaults (docs.docker.com/reference/dockerfile, "HEALTHCHECK"); `None` if there is none.
    pub(super) fn read(&self, shell: &[String]) -> Option<ImageHealthCheck> {
        let (kind, words) = self.test.split_first()?;
        let command = match (kind.as_str(), words) {
            ("CMD", [_, ..]) => words.to_vec(),
            ("CMD-SHELL", [script, ..]) if shell.is_empty() => ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            ("CMD-SHELL", [script, ..]) => [shell, std::slice::from_ref(script)].concat(),
            _ => return None,
        };
        let time = |nanoseconds: u64, default: u64| match nanoseconds {
            0 => Duration::from_secs(default),
            given => Duration::from_nanos(given).clamp(Duration::from_secs(1), MAX_CHECK_TIME),
        };
        Some(ImageHealthCheck {
            command,
            interval: time(self.interval, 30),
            timeout: time(self.timeout, 30),
            start_period: time(self.start_period, 0),
            retries: if self.retries == 0 { 3 } else { self.retries.min(HealthCheck::MAX_ATTEMPTS) },
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RootFs {
    #[serde(rename = "type")]
    pub kind: String,
    pub diff_ids: Vec<Digest>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct History {
    #[serde(default)]
    pub created: String,
    #[serde(default)]
    pub created_by: String,
    /// Whether the step has no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl History {
    pub(super) fn of(created: &str, created_by: impl Into<String>) -> Self {
        Self { created: created.to_owned(), created_by: created_by.into(), empty_layer: false }
    }
}

/// Engines write `null` instead of an empty list or map.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Architecture of this machine, as the OCI image specification names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_check_of_an_image_is_read() {
        let read = |json: &str| {
            let run: RunConfig = serde_json::from_str(json).unwrap();
            run.healthcheck.and_then(|check| check.read(&run.shell))
        };
        let check = read(
            r#"{"Healthcheck":{"Test":["CMD-SHELL","curl -f http://localhost/"],"Interval":5000000000,"Retries":7}}"#,
        );
        let check = check.unwrap();
        assert_eq!(check.command, ["/bin/sh", "-c", "curl -f http://localhost/"]);
        assert_eq!((check.interval.as_secs(), check.timeout.as_secs(), check.retries), (5, 30, 7));
        let own_shell = read(r#"{"Shell":["/bin/bash","-ec"],"Healthcheck":{"Test":["CMD-SHELL","x"]}}"#).unwrap();
        assert_eq!((own_shell.command, own_shell.retries), (["/bin/bash", "-ec", "x"].map(str::to_owned).to_vec(), 3));
        assert_eq!(read(r#"{"Healthcheck":{"Test":["CMD","/bin/ok","a b"]}}"#).unwrap().command, ["/bin/ok", "a b"]);
        for none in [
            "{}",
            r#"{"Healthcheck":{"Test":["NONE"]}}"#,
            r#"{"Healthcheck":{"Test":[]}}"#,
            r#"{"Healthcheck":{"Test":null}}"#,
        ] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}

#[cfg(test)]
mod properties {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::{
        model::Exposure,
        properties::{check, text_near},
    };

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn check_document<T: DeserializeOwned + Serialize>(samples: &[&str], use_it: impl Fn(T)) {
        check(text_near(samples), |text| {
            let Ok(document) = serde_json::from_str::<T>(&text) else { return };
            let written = serde_json::to_string(&document).unwrap();
            let again: T = serde_json::from_str(&written).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), written);
            use_it(document);
        });
    }

    #[test]
    fn documents_of_images_are_written_as_they_are_read() {
        let layer = format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{DIGEST}","size":7}}"#);
        let manifest = format!(r#"{{"schemaVersion":2,"mediaType":"x","config":{layer},"layers":[{layer},{layer}]}}"#);
        check_document::<Manifest>(&[&manifest], drop);
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}},"config":{{"Env":null,
            "Cmd":["/bin/sh","-c","x"],"Shell":["/bin/bash","-c"],"StopSignal":"SIGQUIT","ExposedPorts":{{"80/tcp":{{}}}},
            "Healthcheck":{{"Test":["CMD-SHELL","curl x"],"Interval":18446744073709551615,"Retries":4294967295}}}},
            "history":[{{"created_by":"/bin/sh -c #(nop) SHELL [\"/bin/bash\",\"-c\"]","empty_layer":true}},{{"created_by":"CMD x"}}]}}"#
        );
        check_document::<ImageConfig>(&[&config], |mut config| {
            assert!(config.steps_of_layers().count() == config.rootfs.diff_ids.len());
            config.apply_shell();
            let check = config.config.healthcheck.as_ref().and_then(|check| check.read(&config.config.shell));
            for check in check.iter().flat_map(|check| check.checks(Exposure::PortMappings)) {
                assert!(check.attempts.is_none_or(|attempts| (1..=HealthCheck::MAX_ATTEMPTS).contains(&attempts)));
            }
        });
    }
}
