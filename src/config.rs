//! `paas.toml`: all that differs between machines. Each key has a default and can be set by environment.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there, but cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A wrong key or value in the file.
    #[error("{path}, line {line}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A wrong variable of the environment.
    #[error("environment variable {name}: {message}")]
    Environment {
        /// The variable.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// Values that do not go together.
    #[error("{key}: {message}")]
    Value {
        /// The key, as `section.key`.
        key: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident : $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

section! {
    /// The whole configuration.
    Config {
        /// Where everything is kept that must survive.
        data_dir: PathBuf = PathBuf::from("/var/lib/paas"),
        /// The host name in the URLs that are shown.
        hostname: String = "localhost".to_owned(),
        /// uid and gid of git, its hook, and whatever parses what a user sent.
        user_id: u32 = 64_021,
        /// The SSH front door.
        ssh: Ssh = Ssh::default(),
        /// Repositories.
        git: Git = Git::default(),
        /// Docker.
        engine: Engine = Engine::default(),
        /// The embedded registry.
        registry: Registry = Registry::default(),
        /// Ports of apps, and the router.
        router: Router = Router::default(),
        /// Addresses of instances.
        network: Network = Network::default(),
        /// Limits of builds.
        build: Build = Build::default(),
        /// Limits and times of instances.
        instances: Instances = Instances::default(),
        /// Stacks.
        stack: Stack = Stack::default(),
        /// Files that belong to paas itself.
        assets: Assets = Assets::default(),
        /// How builds reach the Internet.
        outbound: Outbound = Outbound::default(),
    }
}

section! {
    /// The SSH front door and its bounds.
    Ssh {
        /// Where it listens.
        listen: SocketAddr = SocketAddr::from(([0u16; 8], 2222)),
        /// Seconds until a client must be authenticated.
        handshake_seconds: u64 = 20,
        /// Keys that a client may try.
        auth_attempts: usize = 6,
        /// Connections not yet authenticated, in all.
        max_unauthenticated: usize = 64,
        /// Connections not yet authenticated, of one address.
        max_unauthenticated_per_address: usize = 16,
        /// Connections in all.
        max_connections: usize = 512,
        /// Seconds after which a connection without traffic is closed.
        idle_seconds: u64 = 3600,
        /// The longest command, in bytes.
        max_command_bytes: usize = 128 * 1024,
    }
}

section! {
    /// Repositories.
    Git {
        /// The largest pack that a push may send, in bytes.
        max_push_bytes: u64 = 2 << 30,
    }
}

section! {
    /// Docker.
    Engine {
        /// The engine's Unix socket.
        socket: PathBuf = PathBuf::from("/var/run/docker.sock"),
    }
}

section! {
    /// The embedded registry: the engine pulls from it, so it must be loopback.
    Registry {
        /// Where it listens.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 5455)),
    }
}

section! {
    /// Ports of apps.
    Router {
        /// The addresses on which mapped ports are opened.
        listen: Vec<IpAddr> = vec![IpAddr::from([0u16; 8])],
        /// The first port given to apps.
        first_port: u16 = 10_000,
        /// The last port given to apps.
        last_port: u16 = 10_999,
        /// Addresses whose `X-Forwarded-*` headers are believed.
        trusted_proxies: Vec<IpAddr> = Vec::new(),
        /// Worker threads; 0 for one a core.
        workers: usize = 0,
    }
}

section! {
    /// Addresses of instances and builds.
    Network {
        /// A private IPv4 /16 that nothing else on this machine uses.
        range: String = "10.210.0.0/16".to_owned(),
    }
}

section! {
    /// Limits of builds.
    Build {
        /// Builds at a time; more wait.
        concurrency: usize = 2,
        /// CPUs of one build.
        cpus: u32 = 2,
        /// Memory of one build, MiB.
        memory_mib: u64 = 2048,
        /// Processes and threads of one build.
        pids: u32 = 1024,
        /// Disk of one app's builds and their cache, MiB.
        disk_mib: u64 = 8192,
        /// Downloads that builds of all apps share, MiB.
        downloads_mib: u64 = 2048,
        /// Seconds that one build may take.
        timeout_seconds: u64 = 1800,
        /// Whether a build container is started ahead and waits for the next build, with a few MiB of memory.
        standby: bool = true,
    }
}

section! {
    /// Limits and times of instances.
    Instances {
        /// CPUs of one instance, in thousandths.
        cpu_millis: u32 = 2000,
        /// Memory of one instance, MiB.
        memory_mib: u64 = 512,
        /// Processes and threads of one instance.
        pids: u32 = 512,
        /// Seconds between SIGTERM and SIGKILL.
        stop_grace_seconds: u64 = 10,
        /// Seconds that requests in flight have before their instance is stopped all the same.
        drain_seconds: u64 = 30,
    }
}

section! {
    /// Stacks: what apps are built in, and what they run on.
    Stack {
        /// The stack of apps that have chosen none.
        default: String = "debian-13".to_owned(),
        /// Hours between updates of all stacks, each followed by a rebase of the apps on it; 0 for none.
        update_hours: u64 = 0,
        /// Apps that are rebased at a time.
        rebase_concurrency: usize = 2,
        /// Where bootstrapped stacks are kept, by their key; it may be shared by servers.
        cache_dir: PathBuf = PathBuf::from("/var/cache/paas/stacks"),
    }
}

section! {
    /// Files that belong to paas itself; by default they lie beside the program.
    Assets {
        /// The static `lifecycle` binary.
        lifecycle: Option<PathBuf> = None,
        /// The folder of the built-in buildpacks.
        buildpacks: Option<PathBuf> = None,
    }
}

section! {
    /// How builds reach the Internet.
    Outbound {
        /// A PEM file of certificates that builds are to trust, such as a company's own authority.
        ca_bundle: Option<PathBuf> = None,
        /// `HTTP_PROXY` of builds.
        http_proxy: Option<String> = None,
        /// `HTTPS_PROXY` of builds.
        https_proxy: Option<String> = None,
        /// `NO_PROXY` of builds.
        no_proxy: Option<String> = None,
    }
}

/// The address plan that follows from `network.range`: 63 bridges of 1,024 addresses for apps, the last block for builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPlan {
    base: u32,
}

impl AddressPlan {
    /// Bridges that apps can have.
    pub const APP_BRIDGES: u32 = 63;
    /// Instances on one bridge, at the most.
    pub const INSTANCES_A_BRIDGE: u32 = 1000;

    /// The subnet of app bridge `index`, as `address/22`, and its gateway.
    pub fn app_bridge(self, index: u32) -> (String, Ipv4Addr) {
        self.block(index)
    }

    /// The subnet of the build bridge, as `address/22`, and its gateway.
    pub fn build_bridge(self) -> (String, Ipv4Addr) {
        self.block(Self::APP_BRIDGES)
    }

    /// The address of `slot` (from 0) on app bridge `index`.
    pub fn instance(self, index: u32, slot: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base + index * 1024 + 2 + slot)
    }

    /// The whole range, as `address/16`.
    pub fn range(self) -> String {
        format!("{}/16", Ipv4Addr::from_bits(self.base))
    }

    fn block(self, index: u32) -> (String, Ipv4Addr) {
        let start = self.base + index * 1024;
        (format!("{}/22", Ipv4Addr::from_bits(start)), Ipv4Addr::from_bits(start + 1))
    }
}

impl Config {
    /// Reads the file (its absence is an error only if `required`), then the environment.
    pub fn load(
        path: &Path,
        required: bool,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => String::new(),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        let config: Self = toml::from_str(&text).map_err(|e| {
            let offset = e.span().map_or(0, |s| s.start.min(text.len()));
            let line = text.as_bytes()[..offset].iter().filter(|b| **b == b'\n').count() + 1;
            ConfigError::File { path: path.to_owned(), line, message: one_line(e.message()) }
        })?;
        let config = config.with_environment(environment)?;
        config.check().map_err(|error| match error {
            ConfigError::Value { key, message } => match line_of(&text, key) {
                Some(line) => ConfigError::File { path: path.to_owned(), line, message: format!("{key}: {message}") },
                // It came by the environment, or is a default that does not fit the rest.
                None => ConfigError::Value { key, message },
            },
            other => other,
        })?;
        Ok(config)
    }

    /// `PAAS_SSH_LISTEN=…` sets `ssh.listen`; each key has such a variable.
    fn with_environment(self, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut config = self;
        for (name, value) in environment {
            let Some(key) = name.strip_prefix("PAAS_").filter(|k| !NOT_CONFIGURATION.contains(k)) else { continue };
            let wrong = |message: String| ConfigError::Environment { name: name.clone(), message };
            let mut table = toml::Table::try_from(&config).map_err(|e| wrong(e.to_string()))?;
            let (section, key) = locate(&key.to_ascii_lowercase())
                .ok_or_else(|| wrong("no such key; `paas config` lists them".to_owned()))?;
            let target = match section {
                None => &mut table,
                Some(section) => table
                    .entry(section)
                    .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                    .as_table_mut()
                    .ok_or_else(|| wrong("is not a section".to_owned()))?,
            };
            target.insert(key.clone(), toml::Value::String(value.clone()));
            let as_written =
                || toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
            config = match table.clone().try_into() {
                Ok(config) => config,
                Err(as_text) => {
                    let typed = as_written().ok_or_else(|| wrong(one_line(as_text.message())))?;
                    let target = match section {
                        None => &mut table,
                        Some(section) => {
                            table[section].as_table_mut().ok_or_else(|| wrong("is not a section".into()))?
                        }
                    };
                    target.insert(key, typed);
                    table.try_into().map_err(|e| wrong(one_line(e.message())))?
                }
            };
        }
        Ok(config)
    }

    /// The keys without a default, as comments for a printed configuration.
    pub const UNSET: &str = "
# Keys without a default, in their sections:
# [assets]   lifecycle = \"/path\", buildpacks = \"/path\"   (else beside the program)
# [outbound] ca_bundle = \"/path\", http_proxy, https_proxy, no_proxy   (for builds)
";

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key, message: &str| Err(ConfigError::Value { key, message: message.to_owned() });
        if !self.data_dir.is_absolute() {
            return refuse("data_dir", "must be an absolute path");
        }
        if !self.registry.listen.ip().is_loopback() {
            return refuse("registry.listen", "must be a loopback address: the engine pulls from it without TLS");
        }
        if self.router.first_port > self.router.last_port || self.router.first_port < 1024 {
            return refuse("router.first_port", "must be from 1024 to router.last_port");
        }
        if self.router.listen.is_empty() {
            return refuse("router.listen", "must name at least one address");
        }
        if self.user_id == 0 {
            return refuse("user_id", "must not be 0: what users send is not parsed as root");
        }
        if self.build.concurrency == 0 || self.build.cpus == 0 || self.build.memory_mib < 64 || self.build.disk_mib < 64
        {
            return refuse("build", "concurrency and cpus must be at least 1, memory_mib and disk_mib at least 64");
        }
        if self.instances.cpu_millis < 10 || self.instances.memory_mib < 6 || self.instances.pids < 8 {
            return refuse("instances", "cpu_millis must be at least 10, memory_mib at least 6, pids at least 8");
        }
        let seconds = [
            ("ssh.handshake_seconds", self.ssh.handshake_seconds),
            ("ssh.idle_seconds", self.ssh.idle_seconds),
            ("build.timeout_seconds", self.build.timeout_seconds),
            ("instances.stop_grace_seconds", self.instances.stop_grace_seconds),
            ("instances.drain_seconds", self.instances.drain_seconds),
        ];
        if let Some((key, _)) = seconds.into_iter().find(|(_, seconds)| *seconds > WEEK) {
            return refuse(key, "must be a week (604800) at the most");
        }
        self.address_plan().map(drop)
    }

    /// The static `lifecycle` binary: as configured, or beside the program that runs.
    pub fn lifecycle(&self) -> PathBuf {
        self.assets.lifecycle.clone().unwrap_or_else(|| beside_program("lifecycle"))
    }

    /// The folder of the built-in buildpacks: as configured, or beside the program that runs.
    pub fn buildpacks(&self) -> PathBuf {
        self.assets.buildpacks.clone().unwrap_or_else(|| beside_program("buildpacks"))
    }

    /// The addresses that follow from `network.range`.
    pub fn address_plan(&self) -> Result<AddressPlan, ConfigError> {
        let wrong = || ConfigError::Value {
            key: "network.range",
            message: format!("{:?} must be a private /16 such as 10.210.0.0/16", self.network.range),
        };
        let address: Ipv4Addr =
            self.network.range.strip_suffix("/16").ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
        if !address.is_private() || address.to_bits() & 0xffff != 0 {
            return Err(wrong());
        }
        Ok(AddressPlan { base: address.to_bits() })
    }
}

/// In seconds.
const WEEK: u64 = 7 * 24 * 60 * 60;

/// The line, from 1, on which a `section.key`, or a section, stands in a file that is valid TOML.
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

/// Variables that begin with `PAAS_` and are no keys: what the server tells git's hook, and which file to read.
const NOT_CONFIGURATION: [&str; 6] = ["CONFIG", "LOG", "TEST_DIR", "HOOK_SOCKET", "HOOK_NONCE", "TEST_PAUSES"];

fn locate(key: &str) -> Option<(Option<&'static str>, String)> {
    const SECTIONS: [&str; 11] =
        ["ssh", "git", "engine", "registry", "router", "network", "build", "instances", "stack", "assets", "outbound"];
    if ["data_dir", "hostname", "user_id"].contains(&key) {
        return Some((None, key.to_owned()));
    }
    SECTIONS.iter().find_map(|section| {
        let rest = key.strip_prefix(section)?.strip_prefix('_')?;
        Some((Some(*section), rest.to_owned()))
    })
}

fn beside_program(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.parent().unwrap_or(Path::new("/usr/lib/paas")).join(name)
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("paas.toml");
        std::fs::write(&path, text).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(&path, true, environment).map_err(|e| e.to_string().replace(&*path.to_string_lossy(), "paas.toml"))
    }

    #[test]
    fn wrong_keys_and_values_are_refused_with_their_line() {
        let error = load("hostname = \"x\"\n\n[ssh]\nlisten = \"nonsense\"\n", &[]).unwrap_err();
        assert!(error.starts_with("paas.toml, line 4: "), "{error}");
        let error = load("[ssh]\nlissten = \"127.0.0.1:1\"\n", &[]).unwrap_err();
        assert!(error.starts_with("paas.toml, line 2: unknown field `lissten`"), "{error}");
        let error = load("[network]\nrange = \"8.8.0.0/16\"\n", &[]).unwrap_err();
        assert!(error.starts_with("paas.toml, line 2: network.range: "), "{error}");
    }

    #[test]
    fn the_environment_sets_each_kind_of_value() {
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
    fn addresses_do_not_overlap() {
        let plan = Config::default().address_plan().unwrap();
        assert_eq!(plan.app_bridge(0), ("10.210.0.0/22".into(), Ipv4Addr::new(10, 210, 0, 1)));
        assert_eq!(plan.build_bridge(), ("10.210.252.0/22".into(), Ipv4Addr::new(10, 210, 252, 1)));
        assert_eq!(plan.instance(0, 999), Ipv4Addr::new(10, 210, 3, 233));
        assert_eq!(plan.instance(1, 0), Ipv4Addr::new(10, 210, 4, 2));
    }
}
