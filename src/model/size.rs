//! Sizes: CPU time and memory of instances, tasks and builds.

use super::Line;

/// A number of thousandths as a decimal number.
pub fn thousandths(amount: u64) -> String {
    let text = format!("{}.{:03}", amount / 1000, amount % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number of bytes in MiB with one decimal, rounded up.
pub fn mib(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// MiB in bytes; what is more than there can be is the most.
pub fn bytes_of_mib(mib: u64) -> u64 {
    mib.saturating_mul(1 << 20)
}

/// Bytes in MiB, rounded up.
pub fn mib_of_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// CPU time, in thousandths of a CPU.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "u32", into = "u32")]
#[schemars(extend("minimum" = Self::MIN, "maximum" = Self::MAX))]
pub struct CpuMillis(u32);

impl CpuMillis {
    const MIN: u32 = 10;
    const MAX: u32 = 1_024_000;

    /// The thousandths of a CPU.
    pub fn millis(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for CpuMillis {
    type Error = String;

    fn try_from(millis: u32) -> Result<Self, String> {
        let valid = (Self::MIN..=Self::MAX).contains(&millis).then_some(Self(millis));
        valid.ok_or_else(|| "CPU is from 0.01 to 1024".to_owned())
    }
}

impl From<CpuMillis> for u32 {
    fn from(cpu: CpuMillis) -> Self {
        cpu.0
    }
}

impl std::str::FromStr for CpuMillis {
    type Err = String;

    /// Reads a number of CPUs with at most three decimal places: `1.5`.
    fn from_str(text: &str) -> Result<Self, String> {
        let millis = || {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
            let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number(whole) || !is_number(fraction) || fraction.len() > 3 {
                return None;
            }
            let fraction: u32 = format!("{fraction:0<3}").parse().ok()?;
            whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(fraction)
        };
        let invalid = || format!("{:?} is no number of CPUs; write one such as 0.5 or 2", Line::excerpt(text));
        millis().ok_or_else(invalid)?.try_into()
    }
}

impl std::fmt::Display for CpuMillis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&thousandths(self.0.into()))
    }
}

/// Memory, in MiB.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "u64", into = "u64")]
#[schemars(extend("minimum" = Self::MIN, "maximum" = Self::MAX))]
pub struct MemoryMib(u64);

impl MemoryMib {
    /// What the engine gives a container at least.
    const MIN: u64 = 6;
    const MAX: u64 = 16 << 20;

    /// The MiB.
    pub fn mebibytes(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for MemoryMib {
    type Error = String;

    fn try_from(mebibytes: u64) -> Result<Self, String> {
        let valid = (Self::MIN..=Self::MAX).contains(&mebibytes).then_some(Self(mebibytes));
        valid.ok_or_else(|| format!("memory is from {} MiB to 16 TiB", Self::MIN))
    }
}

impl From<MemoryMib> for u64 {
    fn from(memory: MemoryMib) -> Self {
        memory.0
    }
}

impl std::str::FromStr for MemoryMib {
    type Err = String;

    /// Reads `512`, `512m`, `512MB`, `1g`: a number without a unit is in MiB, and units are powers of 1024, as of Docker.
    fn from_str(text: &str) -> Result<Self, String> {
        let mebibytes = || {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = text.split_at_checked(digits)?;
            let number: u64 = number.parse().ok()?;
            match unit.to_ascii_lowercase().as_str() {
                "b" => Some(number >> 20),
                "k" | "kb" | "kib" => Some(number >> 10),
                "" => Some(number),
                unit => number.checked_mul(mebibytes_in(unit)?),
            }
        };
        let invalid = || format!("{:?} is no amount of memory; write one such as 512m or 2g", Line::excerpt(text));
        mebibytes().ok_or_else(invalid)?.try_into()
    }
}

impl std::fmt::Display for MemoryMib {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} MiB", self.0)
    }
}

/// MiB in a unit, such as `g` or `gib`, in small letters; `None` for one below, or that there is not.
pub(super) fn mebibytes_in(unit: &str) -> Option<u64> {
    match unit {
        "m" | "mb" | "mib" => Some(1),
        "g" | "gb" | "gib" => Some(1 << 10),
        "t" | "tb" | "tib" => Some(1 << 20),
        _ => None,
    }
}

/// CPU time and memory of one instance, task or build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// CPU time.
    pub cpu: CpuMillis,
    /// Memory.
    pub memory: MemoryMib,
}

/// What a machine has for instances and tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// CPU time, in thousandths of a CPU.
    pub cpu_millis: u64,
    /// Memory, in MiB.
    pub memory_mib: u64,
}

impl Capacity {
    /// Half of it.
    #[must_use]
    pub fn half(self) -> Self {
        Self { cpu_millis: self.cpu_millis / 2, memory_mib: self.memory_mib / 2 }
    }

    /// Why something of this size never fits, if it does not.
    pub fn too_large(self, size: PartialSize) -> Option<String> {
        let Self { cpu_millis, memory_mib } = self;
        if let Some(cpu) = size.cpu.filter(|cpu| u64::from(cpu.millis()) > cpu_millis) {
            let has = thousandths(cpu_millis);
            return Some(format!("the machine has {has} CPUs, and {cpu} are asked for; give at most {has}"));
        }
        let memory = size.memory.filter(|memory| memory.mebibytes() > memory_mib)?;
        Some(format!(
            "the machine has {memory_mib} MiB of memory for instances, and {memory} are asked for; give at most {memory_mib}m"
        ))
    }
}

/// The parts of a size that are set; the others are those of something more general.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartialSize {
    /// CPU time.
    pub cpu: Option<CpuMillis>,
    /// Memory.
    pub memory: Option<MemoryMib>,
}

impl PartialSize {
    /// The size that is left when what is not set is taken from `general`.
    pub fn or(self, general: Size) -> Size {
        Size { cpu: self.cpu.unwrap_or(general.cpu), memory: self.memory.unwrap_or(general.memory) }
    }

    /// Whether nothing is set.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_cpus_are_read() {
        assert_eq!([thousandths(64_000), thousandths(10), thousandths(0)], ["64", "0.01", "0"]);
        for (text, millis) in [("1.5", 1500), ("2", 2000), ("0.01", 10), ("0.125", 125), ("1024", 1_024_000)] {
            let cpu: CpuMillis = text.parse().unwrap();
            assert_eq!((cpu.millis(), cpu.to_string().as_str()), (millis, text));
        }
        for text in ["", ".5", "1.", "0", "0.009", "1.2345", "-1", "1e3", "1025", "99999999999", "1,5", "٣"] {
            assert!(text.parse::<CpuMillis>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told_with_the_numbers() {
        let capacity = Capacity { cpu_millis: 2000, memory_mib: 1024 };
        let size = |cpu: &str, memory: &str| PartialSize { cpu: cpu.parse().ok(), memory: memory.parse().ok() };
        assert_eq!(capacity.too_large(size("2", "1g")), None);
        let cpu = capacity.too_large(size("2.5", "")).unwrap();
        assert_eq!(cpu, "the machine has 2 CPUs, and 2.5 are asked for; give at most 2");
        assert!(capacity.too_large(size("", "2g")).unwrap().contains("1024 MiB of memory for instances, and 2048 MiB"));
    }

    #[test]
    fn amounts_of_memory_are_read_as_docker_reads_them() {
        for (text, mebibytes) in
            [("512", 512), ("512m", 512), ("1g", 1024), ("2GB", 2048), ("6MiB", 6), ("8388608b", 8), ("65536k", 64)]
        {
            assert_eq!(text.parse::<MemoryMib>().unwrap().mebibytes(), mebibytes, "{text}");
        }
        for text in ["", "m", "5", "1.5g", "-1", "1x", "18446744073709551615g", "17t", "٣"] {
            assert!(text.parse::<MemoryMib>().is_err(), "{text}");
        }
    }
}
