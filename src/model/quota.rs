//! What is limited for each owner of apps.

use super::{CpuMillis, Line, MemoryMib, thousandths};

/// Something of which an owner, or each app of an owner, may have only so much.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Apps.
    Apps,
    /// Ports of the router, automatic and mapped ones.
    Ports,
    /// Port mappings of one app.
    Mappings,
    /// Declared instances of all apps that are not stopped.
    Instances,
    /// Process types of one app.
    ProcessTypes,
    /// Tasks that run or wait.
    Tasks,
    /// CPU limits of all declared instances and unended tasks, in thousandths of a CPU.
    Cpu,
    /// Memory limits of all declared instances and unended tasks, in MiB.
    Memory,
    /// Names and values of the config vars of one app, in bytes.
    Config,
    /// Names and contents of the files of the service bindings of one app, in bytes.
    Bindings,
    /// Declared sizes of all volumes, in MiB.
    Volumes,
    /// The repository of one app, in MiB.
    Repository,
    /// The repositories of all apps, in MiB.
    Repositories,
    /// Blobs of the images of all apps, each once, without those of stacks and offered images, in MiB.
    Images,
    /// Logs that the engine keeps of all declared instances and unended tasks, in MiB.
    Logs,
    /// Files that instances and tasks have written besides their volumes, in MiB.
    Written,
    /// Build caches of all apps, in MiB.
    BuildCache,
    /// Builds that run at a time.
    Builds,
    /// Pushes that run at a time.
    Pushes,
    /// Commands and pushes over SSH that run at a time.
    Sessions,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaScope {
    /// What all apps of an owner have.
    Owner,
    /// What each app has.
    App,
}

/// In what amounts of a resource are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Number,
    /// Thousandths of a CPU, told as CPUs.
    Cpus,
    /// MiB of memory.
    Memory,
    /// MiB of a disk.
    Disk,
    Bytes,
}

impl Resource {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 20] = [
        Self::Apps,
        Self::Ports,
        Self::Mappings,
        Self::Instances,
        Self::ProcessTypes,
        Self::Tasks,
        Self::Cpu,
        Self::Memory,
        Self::Config,
        Self::Bindings,
        Self::Volumes,
        Self::Repository,
        Self::Repositories,
        Self::Images,
        Self::Logs,
        Self::Written,
        Self::BuildCache,
        Self::Builds,
        Self::Pushes,
        Self::Sessions,
    ];

    /// Name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apps => "apps",
            Self::Ports => "ports",
            Self::Mappings => "mappings",
            Self::Instances => "instances",
            Self::ProcessTypes => "process-types",
            Self::Tasks => "tasks",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Config => "config",
            Self::Bindings => "bindings",
            Self::Volumes => "volumes",
            Self::Repository => "repository",
            Self::Repositories => "repositories",
            Self::Images => "images",
            Self::Logs => "logs",
            Self::Written => "written",
            Self::BuildCache => "build-cache",
            Self::Builds => "builds",
            Self::Pushes => "pushes",
            Self::Sessions => "sessions",
        }
    }

    /// What its limit counts.
    pub fn scope(self) -> QuotaScope {
        match self {
            Self::Mappings | Self::ProcessTypes | Self::Config | Self::Bindings | Self::Repository => QuotaScope::App,
            Self::Apps
            | Self::Ports
            | Self::Instances
            | Self::Tasks
            | Self::Cpu
            | Self::Memory
            | Self::Volumes
            | Self::Repositories
            | Self::Images
            | Self::Logs
            | Self::Written
            | Self::BuildCache
            | Self::Builds
            | Self::Pushes
            | Self::Sessions => QuotaScope::Owner,
        }
    }

    /// Whether it is what happens at the same time.
    pub fn is_at_a_time(self) -> bool {
        matches!(self, Self::Builds | Self::Pushes | Self::Sessions)
    }

    /// An amount of it, in words.
    pub fn amount(self, amount: u64) -> String {
        let of = |one: &str, many: &str| format!("{amount} {}", if amount == 1 { one } else { many });
        match self {
            Self::Apps => of("app", "apps"),
            Self::Ports => of("port", "ports"),
            Self::Mappings => of("port mapping", "port mappings"),
            Self::Instances => of("instance", "instances"),
            Self::ProcessTypes => of("process type", "process types"),
            Self::Tasks => of("task that runs or waits", "tasks that run or wait"),
            Self::Cpu => format!("{} CPUs for instances and tasks", thousandths(amount)),
            Self::Memory => format!("{amount} MiB of memory for instances and tasks"),
            Self::Config => format!("{amount} bytes of config vars"),
            Self::Bindings => format!("{amount} bytes of service bindings"),
            Self::Volumes => format!("{amount} MiB of volumes"),
            Self::Repository => format!("{amount} MiB in its repository"),
            Self::Repositories => format!("{amount} MiB of repositories"),
            Self::Images => format!("{amount} MiB of images"),
            Self::Logs => format!("{amount} MiB of logs of instances and tasks"),
            Self::Written => format!("{amount} MiB of files that instances and tasks write"),
            Self::BuildCache => format!("{amount} MiB of build caches"),
            Self::Builds => of("build at a time", "builds at a time"),
            Self::Pushes => of("push at a time", "pushes at a time"),
            Self::Sessions => of("command or push at a time", "commands and pushes at a time"),
        }
    }
}

impl Resource {
    fn unit(self) -> Unit {
        match self {
            Self::Cpu => Unit::Cpus,
            Self::Memory => Unit::Memory,
            Self::Volumes
            | Self::Repository
            | Self::Repositories
            | Self::Images
            | Self::Logs
            | Self::Written
            | Self::BuildCache => Unit::Disk,
            Self::Config | Self::Bindings => Unit::Bytes,
            Self::Apps
            | Self::Ports
            | Self::Mappings
            | Self::Instances
            | Self::ProcessTypes
            | Self::Tasks
            | Self::Builds
            | Self::Pushes
            | Self::Sessions => Unit::Number,
        }
    }

    /// An amount of it, as [`Self::parse_amount`] reads it.
    pub fn value(self, amount: u64) -> String {
        if self.unit() == Unit::Cpus { thousandths(amount) } else { amount.to_string() }
    }

    /// An amount of it, with the unit in which it is counted.
    pub fn with_unit(self, amount: u64) -> String {
        let value = self.value(amount);
        match self.unit() {
            Unit::Cpus => format!("{value} CPUs"),
            Unit::Memory | Unit::Disk => format!("{value} MiB"),
            Unit::Bytes => format!("{value} bytes"),
            Unit::Number => value,
        }
    }

    /// Reads an amount: a number; of CPU, one such as `1.5`; of memory and disk space, MiB, or with a unit such as `4g`.
    pub fn parse_amount(self, text: &str) -> Result<u64, String> {
        let number = text.parse::<u32>().map(u64::from);
        match self.unit() {
            Unit::Cpus | Unit::Memory if text == "0" => Ok(0),
            Unit::Cpus => text.parse::<CpuMillis>().map(|cpu| cpu.millis().into()),
            Unit::Memory => text.parse::<MemoryMib>().map(MemoryMib::mebibytes),
            // It may be less than the least memory of an instance.
            Unit::Disk => number.or_else(|_| {
                let no_amount = |_| {
                    let text = Line::excerpt(text);
                    format!("{text:?} is no limit of {self}; write a number of MiB, or one with a unit, such as 4g")
                };
                text.parse::<MemoryMib>().map(MemoryMib::mebibytes).map_err(no_amount)
            }),
            Unit::Bytes | Unit::Number => {
                number.map_err(|_| format!("{:?} is no limit of {self}; write a number", Line::excerpt(text)))
            }
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Resource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|resource| resource.as_str() == text).ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            format!("there is no limit {:?}; the limits are {all}", Line::excerpt(text))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_that_is_read_again() {
        for resource in Resource::ALL {
            assert_eq!(resource.as_str().parse::<Resource>(), Ok(resource));
            assert_eq!(serde_json::to_value(resource).unwrap(), resource.as_str());
        }
        for (resource, text, amount) in [
            (Resource::Apps, "0", 0),
            (Resource::Cpu, "1.5", 1500),
            (Resource::Memory, "4096", 4096),
            (Resource::Config, "262144", 262_144),
        ] {
            assert_eq!(resource.parse_amount(text), Ok(amount));
            assert_eq!(resource.value(amount), text);
        }
        assert_eq!(Resource::Memory.parse_amount("4g"), Ok(4096));
        assert_eq!(Resource::Images.parse_amount("1"), Ok(1));
        assert_eq!((Resource::Images.parse_amount("0"), Resource::Memory.parse_amount("0")), (Ok(0), Ok(0)));
        assert_eq!(Resource::Volumes.parse_amount("4g"), Ok(4096));
        assert!(
            Resource::Logs
                .parse_amount("x")
                .unwrap_err()
                .starts_with("\"x\" is no limit of logs; write a number of MiB")
        );
        assert!(Resource::Apps.parse_amount("-1").is_err() && Resource::Cpu.parse_amount("x").is_err());
        assert!("instances ".parse::<Resource>().unwrap_err().contains("apps, ports"));
    }

    #[test]
    fn amounts_are_told_in_their_unit() {
        assert_eq!(Resource::Apps.amount(1), "1 app");
        assert_eq!(Resource::Cpu.amount(1500), "1.5 CPUs for instances and tasks");
        let with_unit = [(Resource::Apps, 3), (Resource::Cpu, 1500), (Resource::Volumes, 4096), (Resource::Config, 7)]
            .map(|(resource, amount)| resource.with_unit(amount));
        assert_eq!(with_unit, ["3", "1.5 CPUs", "4096 MiB", "7 bytes"]);
    }
}
