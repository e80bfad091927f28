//! Sections and keys of the configuration file, with their defaults.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::model::{CpuMillis, MemoryMib, NetworkTarget, Resource};

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
        /// Folder of all persistent data.
        data_dir: PathBuf = PathBuf::from("/var/lib/paas"),
        /// Host name in the URLs that are shown to users.
        hostname: String = "localhost".to_owned(),
        /// User and group id of git, its hook and all processes that parse data from users.
        user_id: u32 = 64_021,
        /// SSH server.
        ssh: Ssh = Ssh::default(),
        /// HTTP API.
        http: Http = Http::default(),
        /// Git repositories.
        git: Git = Git::default(),
        /// Docker Engine.
        engine: Engine = Engine::default(),
        /// Embedded registry.
        registry: Registry = Registry::default(),
        /// Router and port mappings.
        router: Router = Router::default(),
        /// Addresses of instances and builds, and what they reach.
        network: Network = Network::default(),
        /// Limits of builds.
        build: Build = Build::default(),
        /// Limits and timeouts of instances.
        instances: Instances = Instances::default(),
        /// Limits of tasks.
        tasks: Tasks = Tasks::default(),
        /// What each owner of apps may have.
        quota: Quota = Quota::default(),
        /// Named sizes, which `resource:limit --size` takes.
        sizes: BTreeMap<String, NamedSize> = BTreeMap::new(),
        /// Volumes.
        volumes: Volumes = Volumes::default(),
        /// Stacks.
        stack: Stack = Stack::default(),
        /// Audit log.
        events: Events = Events::default(),
        /// Free disk space.
        disk: Disk = Disk::default(),
        /// Files that are part of paas.
        assets: Assets = Assets::default(),
        /// Internet access of builds.
        outbound: Outbound = Outbound::default(),
    }
}

section! {
    /// SSH server and its limits.
    Ssh {
        /// Address to listen on.
        listen: SocketAddr = SocketAddr::from(([0u16; 8], 2222)),
        /// Seconds within which a client must authenticate.
        handshake_seconds: u64 = 20,
        /// Maximum number of keys that a client may try.
        auth_attempts: usize = 6,
        /// Maximum number of unauthenticated connections. A further one takes the place of the oldest of the network that has
        /// the most.
        max_unauthenticated: usize = 64,
        /// Maximum number of unauthenticated connections from one network: an IPv4 address or an IPv6 /64.
        max_unauthenticated_per_address: usize = 16,
        /// Maximum number of authenticated connections.
        max_connections: usize = 512,
        /// Connections of these that only admins get.
        reserved_for_admins: usize = 16,
        /// Maximum number of connections of one key.
        max_connections_per_key: usize = 64,
        /// Maximum number of connections from one network, but for those of admins.
        max_connections_per_network: usize = 256,
        /// Maximum number of commands and pushes from one network that run at the same time, but for those of admins.
        max_sessions_per_network: usize = 256,
        /// Seconds without traffic after which a connection is closed.
        idle_seconds: u64 = 3600,
        /// Maximum length of a command, in bytes.
        max_command_bytes: usize = 128 * 1024,
    }
}

section! {
    /// HTTP API.
    Http {
        /// Address to listen on: a loopback address, unless `insecure` is set.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7080)),
        /// Whether `listen` may be another address, although tokens then cross the network in clear text.
        insecure: bool = false,
        /// Maximum number of connections.
        max_connections: usize = 256,
        /// Requests that one token may send a minute.
        requests_per_minute: u32 = 600,
        /// Maximum size of a file that is sent, in MiB.
        max_upload_mib: u64 = 2048,
    }
}

section! {
    /// Git repositories.
    Git {
        /// Maximum size of the pack of one push, in bytes.
        max_push_bytes: u64 = 2 << 30,
        /// Maximum number of pushes that run at the same time; further ones wait, those of users with few pushes first.
        max_pushes: usize = 32,
        /// Maximum number of fetches and clones that run at the same time; further ones wait, those of users with few first.
        max_fetches: usize = 32,
        /// Seconds after which a push or fetch that waits is refused.
        push_wait_seconds: u64 = 600,
        /// Memory of git's processes of one push or fetch, in MiB.
        memory_mib: u64 = 2048,
        /// Memory of git's processes of all pushes and fetches, in MiB.
        all_memory_mib: u64 = 4096,
        /// Processes and threads of one push or fetch.
        pids: u32 = 512,
        /// Maximum number of objects of an app's repository.
        max_objects: u64 = 5_000_000,
        /// Maximum number of branches and tags of an app's repository.
        max_refs: u64 = 1000,
    }
}

section! {
    /// Docker Engine.
    Engine {
        /// Unix socket of the engine.
        socket: PathBuf = PathBuf::from("/var/run/docker.sock"),
    }
}

section! {
    /// Embedded registry, from which the engine pulls without TLS.
    Registry {
        /// Address to listen on; a loopback address.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 5455)),
    }
}

section! {
    /// Router and port mappings.
    Router {
        /// Addresses on which the router listens on mapped ports.
        listen: Vec<IpAddr> = vec![IpAddr::from([0u16; 8])],
        /// First port that is assigned to apps.
        first_port: u16 = 10_000,
        /// Last port that is assigned to apps, and that their members may map; admins may map others.
        last_port: u16 = 10_999,
        /// Seconds for which a port that an app has freed is given to no other app, unless no other is left.
        port_rest_seconds: u64 = 600,
        /// Addresses of proxies whose `X-Forwarded-*` headers are trusted.
        trusted_proxies: Vec<IpAddr> = Vec::new(),
        /// Worker threads; 0 for one per CPU.
        workers: usize = 0,
        /// Maximum number of clients' connections; 0 for as many as the limit of file descriptors allows. One client (an IPv4
        /// address or an IPv6 /64) gets at most half of them, one app three quarters.
        max_connections: usize = 0,
        /// Seconds that a client has for the whole head of a request.
        head_seconds: u64 = 30,
        /// Seconds without a byte of a request's body after which the request is refused.
        body_seconds: u64 = 60,
        /// Seconds after which a client is disconnected that takes no byte of a response.
        send_seconds: u64 = 60,
        /// Seconds without a request after which a client's connection is closed.
        idle_seconds: u64 = 60,
    }
}

section! {
    /// Addresses of instances and builds, and what they reach.
    Network {
        /// Private IPv4 /16 that nothing else on this machine uses.
        range: String = "10.210.0.0/16".to_owned(),
        /// What instances reach: `lan`, private networks and the Internet, or `internet`, the Internet alone.
        instances: InstanceNetwork = InstanceNetwork::Lan,
        /// What builds and all instances reach in addition: `CIDR[:PORT]`, `NAME[:PORT]`, or `host[:PORT]` for this machine.
        allow: Vec<NetworkTarget> = Vec::new(),
    }
}

/// What instances reach. This machine, metadata services and other containers are closed to them in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceNetwork {
    /// Private networks and the Internet.
    Lan,
    /// The Internet alone, as builds.
    Internet,
}

section! {
    /// Limits of builds.
    Build {
        /// Builds that run at the same time; further builds wait.
        concurrency: usize = 2,
        /// CPUs of one build.
        cpus: u32 = 2,
        /// Memory of one build, in MiB.
        memory_mib: u64 = 2048,
        /// Processes and threads of one build.
        pids: u32 = 1024,
        /// Disk space of one app's builds and build cache, in MiB.
        disk_mib: u64 = 8192,
        /// Size of the downloads that the builds of all apps share, in MiB.
        downloads_mib: u64 = 2048,
        /// Seconds after which a build is cancelled.
        timeout_seconds: u64 = 1800,
        /// Whether a standby container is started ahead of the next build; it takes a few MiB of memory.
        standby: bool = true,
    }
}

section! {
    /// Limits and timeouts of instances.
    Instances {
        /// CPU time of one instance, in thousandths of a CPU.
        cpu_millis: u32 = 2000,
        /// Memory of one instance, in MiB.
        memory_mib: u64 = 512,
        /// Memory that all instances and tasks together leave to the machine, in MiB; 0 for a tenth of it, at least 256.
        machine_memory_mib: u64 = 0,
        /// Processes and threads of one instance.
        pids: u32 = 512,
        /// What one instance or task may write besides its volumes, in MiB; one that has written more is killed.
        disk_mib: u64 = 1024,
        /// Log that the engine keeps of one instance or task, in MiB: the newest two thirds at least.
        log_mib: u64 = 30,
        /// Grace period, in seconds: the time between SIGTERM and SIGKILL. `ps:set` sets that of a process type.
        stop_grace_seconds: u64 = 10,
        /// Seconds after which a draining instance is stopped even if requests are in flight.
        drain_seconds: u64 = 30,
    }
}

impl Instances {
    /// Grace period of process types that have none of their own.
    pub fn stop_grace(&self) -> Duration {
        Duration::from_secs(self.stop_grace_seconds)
    }
}

section! {
    /// Limits of tasks: commands of users, the release phase, scheduled jobs.
    Tasks {
        /// Seconds after which a command that a user runs is stopped.
        run_seconds: u64 = 24 * 3600,
        /// Seconds after which a command of the release phase is stopped.
        release_seconds: u64 = 3600,
        /// Seconds after which a scheduled job is stopped; `app.json` may set less.
        cron_seconds: u64 = 3600,
        /// Number of tasks of one app whose outcome and output are kept.
        keep: u32 = 100,
    }
}

section! {
    /// What each owner of apps may have; `quota:set` makes exceptions for users. Admins, and apps without an owner, are bound
    /// only by what holds for each app.
    Quota {
        /// Apps.
        apps: u64 = 50,
        /// Ports of the router.
        ports: u64 = 100,
        /// Port mappings of each app.
        mappings_per_app: u64 = 10,
        /// Declared instances of all apps that are not stopped.
        instances: u64 = 100,
        /// Process types of each app.
        process_types_per_app: u64 = 30,
        /// Tasks that run or wait.
        tasks: u64 = 40,
        /// CPU limits of all instances and tasks, in thousandths of a CPU.
        cpu_millis: u64 = 256_000,
        /// Memory limits of all instances and tasks, in MiB.
        memory_mib: u64 = 65_536,
        /// Names and values of the config vars of each app, in bytes.
        config_bytes_per_app: u64 = 256 * 1024,
        /// Names and contents of the files of the service bindings of each app, in bytes.
        binding_bytes_per_app: u64 = 1024 * 1024,
        /// Declared sizes of all volumes, in MiB.
        volumes_mib: u64 = 20_480,
        /// Repository of each app, in MiB.
        repository_mib_per_app: u64 = 4096,
        /// Repositories of all apps, in MiB.
        repositories_mib: u64 = 20_480,
        /// Blobs of the images of all apps, in MiB.
        images_mib: u64 = 51_200,
        /// Logs that the engine keeps of all instances and tasks (`instances.log_mib` of each), in MiB.
        logs_mib: u64 = 8192,
        /// Files that all instances and tasks have written besides their volumes, in MiB: beyond it, the largest writer is killed.
        written_mib: u64 = 16_384,
        /// Build caches of all apps, in MiB: beyond it, those are removed that no build has used for longest.
        build_cache_mib: u64 = 20_480,
        /// Builds that run at a time.
        builds: u64 = 2,
        /// Pushes of a user that run at a time; further ones wait.
        pushes: u64 = 8,
        /// Commands and pushes of a user over SSH that run at a time.
        sessions: u64 = 64,
    }
}

impl Quota {
    /// The key of this section that limits a resource, and how much of it an owner, or each app, may have.
    pub fn entry(&self, resource: Resource) -> (&'static str, u64) {
        match resource {
            Resource::Apps => ("apps", self.apps),
            Resource::Ports => ("ports", self.ports),
            Resource::Mappings => ("mappings_per_app", self.mappings_per_app),
            Resource::Instances => ("instances", self.instances),
            Resource::ProcessTypes => ("process_types_per_app", self.process_types_per_app),
            Resource::Tasks => ("tasks", self.tasks),
            Resource::Cpu => ("cpu_millis", self.cpu_millis),
            Resource::Memory => ("memory_mib", self.memory_mib),
            Resource::Config => ("config_bytes_per_app", self.config_bytes_per_app),
            Resource::Bindings => ("binding_bytes_per_app", self.binding_bytes_per_app),
            Resource::Volumes => ("volumes_mib", self.volumes_mib),
            Resource::Repository => ("repository_mib_per_app", self.repository_mib_per_app),
            Resource::Repositories => ("repositories_mib", self.repositories_mib),
            Resource::Images => ("images_mib", self.images_mib),
            Resource::Logs => ("logs_mib", self.logs_mib),
            Resource::Written => ("written_mib", self.written_mib),
            Resource::BuildCache => ("build_cache_mib", self.build_cache_mib),
            Resource::Builds => ("builds", self.builds),
            Resource::Pushes => ("pushes", self.pushes),
            Resource::Sessions => ("sessions", self.sessions),
        }
    }
}

/// A named size. What it does not say is as without a size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NamedSize {
    /// CPU time, in thousandths of a CPU.
    pub cpu_millis: Option<CpuMillis>,
    /// Memory, in MiB.
    pub memory_mib: Option<MemoryMib>,
}

section! {
    /// Volumes: disks of a declared size whose files outlive releases.
    Volumes {
        /// Size of a volume for which none is given, in MiB.
        size_mib: u64 = 1024,
    }
}

section! {
    /// Stacks: the images that apps are built in and run on.
    Stack {
        /// Stack of apps for which no stack is set.
        default: String = "debian-13".to_owned(),
        /// Hours between updates of all stacks, each followed by a rebase of their apps; 0 for no updates.
        update_hours: u64 = 0,
        /// Apps that are rebased at the same time.
        rebase_concurrency: usize = 2,
        /// Folder of bootstrapped stacks; several servers may share it.
        cache_dir: PathBuf = PathBuf::from("/var/cache/paas/stacks"),
    }
}

section! {
    /// Audit log.
    Events {
        /// Days after which an event is removed.
        keep_days: u32 = 90,
    }
}

section! {
    /// Free disk space: below the smaller of both floors, nothing new is begun on a disk of the server.
    Disk {
        /// Floor, in MiB.
        floor_mib: u64 = 2048,
        /// Floor, in per cent of the disk.
        floor_percent: u64 = 5,
    }
}

section! {
    /// Files that are part of paas; by default they are in the folder of the `paas` program.
    Assets {
        /// Static `lifecycle` binary.
        lifecycle: Option<PathBuf> = None,
        /// Folder of the built-in buildpacks.
        buildpacks: Option<PathBuf> = None,
    }
}

section! {
    /// Internet access of builds.
    Outbound {
        /// PEM file of additional certificate authorities that builds trust, such as a company's own.
        ca_bundle: Option<PathBuf> = None,
        /// `HTTP_PROXY` of builds.
        http_proxy: Option<String> = None,
        /// `HTTPS_PROXY` of builds.
        https_proxy: Option<String> = None,
        /// `NO_PROXY` of builds.
        no_proxy: Option<String> = None,
    }
}
