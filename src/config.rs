//! Configuration of a machine: `paas.toml`, overridden by environment variables. Every key has a default.

mod environment;
mod error;
#[cfg(test)]
mod properties;
mod sections;

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

pub use error::ConfigError;
pub use sections::{
    Assets, Build, Config, Disk, Engine, Git, Http, InstanceNetwork, Instances, NamedSize, Network, Outbound, Quota,
    Registry, Router, Ssh, Stack, Tasks, Volumes,
};

use crate::model::{
    AddressBlock, AddressPlan, CpuMillis, InvalidAddressRange, MemoryMib, NetworkTarget, Size, TargetPlace, VolumeSize,
    decode_text, toml_message,
};

impl Config {
    /// Reads the file, which may be absent unless it is `required`, and applies environment variables on top of it.
    pub fn load(
        path: &Path,
        required: bool,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = match std::fs::read(path).and_then(|bytes| Ok(decode_text(bytes)?)) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => String::new(),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        let config: Self = toml::from_str(&text).map_err(|e| {
            let offset = e.span().map_or(0, |s| s.start.min(text.len()));
            let line = text.as_bytes()[..offset].iter().filter(|b| **b == b'\n').count() + 1;
            let key = e.span().and_then(|span| key_at(&text, &span));
            let message = key.map(|key| format!("{key}: ")).unwrap_or_default() + &toml_message(&e);
            ConfigError::File { path: path.to_owned(), line, message }
        })?;
        let config = environment::apply(config, environment)?;
        config.check().map_err(|error| match error {
            ConfigError::Value { key, message } => match line_of(&text, key) {
                Some(line) => ConfigError::File { path: path.to_owned(), line, message: format!("{key}: {message}") },
                // It is from the environment, or a default that does not fit the other values.
                None => ConfigError::Value { key, message },
            },
            other => other,
        })?;
        Ok(config)
    }

    /// Keys without a default, as comments to append to a printed configuration.
    pub const UNSET: &str = "
# Keys without a default, in their sections:
# [assets]   lifecycle = \"/path\", buildpacks = \"/path\"   (default: in the folder of the paas program)
# [outbound] ca_bundle = \"/path\", http_proxy, https_proxy, no_proxy   (for builds)
";

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |key, message: &str| Err(ConfigError::Value { key, message: message.to_owned() });
        if !self.data_dir.is_absolute() {
            return invalid("data_dir", "must be an absolute path");
        }
        if !self.registry.listen.ip().is_loopback() {
            return invalid("registry.listen", "must be a loopback address: the engine pulls from it without TLS");
        }
        if !self.http.listen.ip().is_loopback() && !self.http.insecure {
            return invalid(
                "http.listen",
                "must be a loopback address, because tokens would cross the network in clear text; reach it with ssh -L, or set \
                 http.insecure = true",
            );
        }
        if self.http.max_connections == 0 || self.http.requests_per_minute == 0 || self.http.max_upload_mib == 0 {
            return invalid("http", "max_connections, requests_per_minute and max_upload_mib must be at least 1");
        }
        if self.router.first_port > self.router.last_port || self.router.first_port < 1024 {
            return invalid("router.first_port", "must be between 1024 and router.last_port");
        }
        if self.router.listen.is_empty() {
            return invalid("router.listen", "must name at least one address");
        }
        let range = self.address_plan()?.range().parse::<AddressBlock>();
        let is_own = |target: &NetworkTarget| match (&target.place, &range) {
            (TargetPlace::Block(block), Ok(range)) => range.covers(*block),
            _ => false,
        };
        if let Some(target) = self.network.allow.iter().find(|target| is_own(target)) {
            let text = format!("{target} is in network.range: containers of this server are not opened by address");
            return invalid("network.allow", &text);
        }
        if self.user_id == 0 {
            return invalid("user_id", "must not be 0: data from users is never parsed as root");
        }
        if self.build.concurrency == 0 || self.build.cpus == 0 || self.build.memory_mib < 64 || self.build.disk_mib < 64
        {
            return invalid("build", "concurrency and cpus must be at least 1, memory_mib and disk_mib at least 64");
        }
        self.default_size()?;
        if self.instances.pids < 8 {
            return invalid("instances.pids", "must be at least 8");
        }
        if self.instances.disk_mib < 16 {
            return invalid("instances.disk_mib", "must be at least 16");
        }
        if !(3..=30_000).contains(&self.instances.log_mib) {
            return invalid("instances.log_mib", "must be from 3 to 30000");
        }
        if let Err(why) = VolumeSize::try_from(self.volumes.size_mib) {
            return invalid("volumes.size_mib", &why);
        }
        let router = &self.router;
        if [router.head_seconds, router.body_seconds, router.send_seconds, router.idle_seconds].contains(&0) {
            return invalid("router", "head_seconds, body_seconds, send_seconds and idle_seconds must be at least 1");
        }
        let quota = &self.quota;
        if [quota.builds, quota.pushes, quota.sessions].contains(&0) {
            return invalid("quota", "builds, pushes and sessions must be at least 1");
        }
        self.check_ssh()?;
        self.check_git()?;
        if self.disk.floor_percent > 100 {
            return invalid("disk.floor_percent", "must be at most 100");
        }
        let seconds = [
            ("router.head_seconds", router.head_seconds),
            ("router.body_seconds", router.body_seconds),
            ("router.send_seconds", router.send_seconds),
            ("router.idle_seconds", router.idle_seconds),
            ("ssh.handshake_seconds", self.ssh.handshake_seconds),
            ("ssh.idle_seconds", self.ssh.idle_seconds),
            ("git.push_wait_seconds", self.git.push_wait_seconds),
            ("build.timeout_seconds", self.build.timeout_seconds),
            ("instances.stop_grace_seconds", self.instances.stop_grace_seconds),
            ("instances.drain_seconds", self.instances.drain_seconds),
            ("tasks.run_seconds", self.tasks.run_seconds),
            ("tasks.release_seconds", self.tasks.release_seconds),
            ("tasks.cron_seconds", self.tasks.cron_seconds),
        ];
        if let Some((key, _)) = seconds.into_iter().find(|(_, seconds)| *seconds > WEEK) {
            return invalid(key, "must be at most 604800 (one week)");
        }
        let tasks = &self.tasks;
        if [tasks.run_seconds, tasks.release_seconds, tasks.cron_seconds].contains(&0) || tasks.keep == 0 {
            return invalid("tasks", "run_seconds, release_seconds, cron_seconds and keep must be at least 1");
        }
        self.address_plan().map(drop)
    }

    fn check_ssh(&self) -> Result<(), ConfigError> {
        let invalid = |key, message: &str| Err(ConfigError::Value { key, message: message.to_owned() });
        let ssh = &self.ssh;
        let at_least_one = [
            ("ssh.max_unauthenticated", ssh.max_unauthenticated),
            ("ssh.max_unauthenticated_per_address", ssh.max_unauthenticated_per_address),
            ("ssh.max_connections_per_key", ssh.max_connections_per_key),
            ("ssh.max_connections_per_network", ssh.max_connections_per_network),
            ("ssh.max_sessions_per_network", ssh.max_sessions_per_network),
        ];
        if let Some((key, _)) = at_least_one.into_iter().find(|(_, number)| *number == 0) {
            return invalid(key, "must be at least 1");
        }
        if ssh.reserved_for_admins >= ssh.max_connections {
            return invalid(
                "ssh.reserved_for_admins",
                "must be less than ssh.max_connections: other users need some, too",
            );
        }
        Ok(())
    }

    fn check_git(&self) -> Result<(), ConfigError> {
        let invalid = |key, message: &str| Err(ConfigError::Value { key, message: message.to_owned() });
        let git = &self.git;
        let at_least_one =
            [git.max_pushes as u64, git.max_fetches as u64, git.max_push_bytes, git.max_objects, git.max_refs];
        if at_least_one.contains(&0) {
            let message = "max_pushes, max_fetches, max_push_bytes, max_objects and max_refs must be at least 1";
            return invalid("git", message);
        }
        if git.memory_mib < 32 || git.all_memory_mib < git.memory_mib || git.pids < 16 {
            return invalid(
                "git",
                "memory_mib must be at least 32, all_memory_mib at least memory_mib, pids at least 16",
            );
        }
        Ok(())
    }

    /// Path of the static `lifecycle` binary: the configured one, or in the folder of the running program.
    pub fn lifecycle(&self) -> PathBuf {
        self.assets.lifecycle.clone().unwrap_or_else(|| in_program_folder("lifecycle"))
    }

    /// Folder of the built-in buildpacks: the configured one, or in the folder of the running program.
    pub fn buildpacks(&self) -> PathBuf {
        self.assets.buildpacks.clone().unwrap_or_else(|| in_program_folder("buildpacks"))
    }

    /// Size of instances and tasks for which none is set.
    pub fn default_size(&self) -> Result<Size, ConfigError> {
        let cpu = CpuMillis::try_from(self.instances.cpu_millis);
        let memory = MemoryMib::try_from(self.instances.memory_mib);
        Ok(Size {
            cpu: cpu.map_err(|message| ConfigError::Value { key: "instances.cpu_millis", message })?,
            memory: memory.map_err(|message| ConfigError::Value { key: "instances.memory_mib", message })?,
        })
    }

    /// Addresses in `network.range`.
    pub fn address_plan(&self) -> Result<AddressPlan, ConfigError> {
        let parsed = self.network.range.parse();
        parsed.map_err(|e: InvalidAddressRange| ConfigError::Value { key: "network.range", message: e.to_string() })
    }
}

/// One week, in seconds.
const WEEK: u64 = 7 * 24 * 60 * 60;

/// Key of the value of which this is a part, such as `sizes.small.memory_mib`; `None` if it is a part of no value.
fn key_at(text: &str, part: &Range<usize>) -> Option<String> {
    let table = DeTable::parse(text).ok()?;
    key_in(table.get_ref(), part)
}

fn key_in(table: &DeTable<'_>, part: &Range<usize>) -> Option<String> {
    table.iter().find_map(|(name, value)| {
        let name = name.get_ref();
        if let Some(table) = value.get_ref().as_table() {
            return key_in(table, part).map(|key| format!("{name}.{key}"));
        }
        let whole = value.span();
        (whole.start <= part.start && part.end <= whole.end).then(|| name.to_string())
    })
}

/// Line number, from 1, of the key `section.key`, or of a section's header, in a valid TOML file.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let (wanted_section, wanted) = key.split_once('.').map_or(("", key), |(section, key)| (section, key));
    let mut section = "";
    let found = text.lines().position(|line| {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.split(']').next().unwrap_or_default().trim();
            return section == wanted && wanted_section.is_empty();
        }
        let name = line.split('=').next().unwrap_or_default().trim();
        line.contains('=') && (section, name) == (wanted_section, wanted)
    });
    found.map(|at| at + 1)
}

fn in_program_folder(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.parent().unwrap_or(Path::new("/usr/lib/paas")).join(name)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("paas.toml");
        std::fs::write(&path, text).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(&path, true, environment).map_err(|e| e.to_string().replace(&*path.to_string_lossy(), "paas.toml"))
    }

    #[test]
    fn targets_that_open_nothing_are_rejected() {
        let config =
            load("[network]\nallow = [\"10.1.0.0/16:443\", \"host:3142\"]\ninstances = \"internet\"\n", &[]).unwrap();
        assert_eq!(
            config.network.allow.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.1.0.0/16:443", "host:3142"]
        );
        assert_eq!(config.network.instances, InstanceNetwork::Internet);
        let config =
            load("", &[("PAAS_NETWORK_ALLOW", "[\"10.1.2.3\"]"), ("PAAS_NETWORK_INSTANCES", "internet")]).unwrap();
        assert_eq!((config.network.allow.len(), config.network.instances), (1, InstanceNetwork::Internet));
        for (value, reason) in [
            ("127.0.0.1:80", "127.0.0.1 is the container itself"),
            ("10.0.0.1/8", "8 bits of it are 10.0.0.0/8"),
            ("10.210.0.7", "network.allow: 10.210.0.7 is in network.range"),
        ] {
            let error = load(&format!("[network]\nallow = [\"{value}\"]\n"), &[]).unwrap_err();
            assert!(error.starts_with("paas.toml") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn unknown_keys_and_invalid_values_are_rejected_with_their_line() {
        let error = load("hostname = \"x\"\n\n[ssh]\nlisten = \"nonsense\"\n", &[]).unwrap_err();
        assert!(error.starts_with("paas.toml, line 4: "), "{error}");
        let error = load("[sizes.x]\nmemory_mib = 2\n", &[]).unwrap_err();
        assert_eq!(error, "paas.toml, line 2: sizes.x.memory_mib: memory is from 6 MiB to 16 TiB");
        let error = load("[sizes]\nx = { cpu_millis = 1000, memory_mib = \"1g\" }\n", &[]).unwrap_err();
        assert!(error.starts_with("paas.toml, line 2: sizes.x.memory_mib: invalid type"), "{error}");
        let error = load("[ssh]\nlissten = \"127.0.0.1:1\"\n", &[]).unwrap_err();
        assert!(error.starts_with("paas.toml, line 2: unknown field `lissten`"), "{error}");
        let error = load("[router]\nbody_seconds = 0\n", &[]).unwrap_err();
        assert!(error.starts_with("paas.toml, line 1: router: head_seconds, body_seconds,"), "{error}");
        let error = load("[router]\nhead_seconds = 1000000\n", &[]).unwrap_err();
        assert!(error.starts_with("paas.toml, line 2: router.head_seconds: must be at most"), "{error}");
        let error = load("[network]\nrange = \"8.8.0.0/16\"\n", &[]).unwrap_err();
        assert!(error.starts_with("paas.toml, line 2: network.range: "), "{error}");
    }

    #[test]
    fn environment_variables_override_values_of_every_type() {
        let config = load(
            "[ssh]\nlisten = \"127.0.0.1:1\"\n",
            &[
                ("PAAS_SSH_LISTEN", "127.0.0.1:7"),
                ("PAAS_BUILD_CPUS", "3"),
                ("PAAS_ROUTER_LISTEN", "[\"127.0.0.1\"]"),
                ("PAAS_OUTBOUND_CA_BUNDLE", "/x.pem"),
                ("HOME", "/"),
            ],
        )
        .unwrap();
        assert_eq!(config.ssh.listen.port(), 7);
        assert_eq!(config.build.cpus, 3);
        assert_eq!(config.router.listen, [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(config.outbound.ca_bundle, Some("/x.pem".into()));
        assert!(
            load("", &[("PAAS_SSH_LISTEN", "x")]).unwrap_err().starts_with("environment variable PAAS_SSH_LISTEN: ")
        );
        assert!(load("", &[("PAAS_NO_SUCH", "x")]).unwrap_err().contains("no such key"));
    }

    #[test]
    fn every_key_has_its_variable() {
        let all = toml::Table::try_from(Config::default()).unwrap();
        let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        for (name, value) in &all {
            let keys = value.as_table().map_or_else(
                || vec![(name.clone(), text(value))],
                |section| section.iter().map(|(key, value)| (format!("{name}_{key}"), text(value))).collect(),
            );
            for (key, value) in keys {
                let variable = format!("PAAS_{}", key.to_ascii_uppercase());
                assert_eq!(load("", &[(&variable, &value)]), Ok(Config::default()), "{variable}={value}");
            }
        }
    }
}
