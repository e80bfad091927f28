//! Volumes, and where they are mounted.

use std::{fmt, str::FromStr};

use super::{HostPath, Line, MountPath, VolumeName, size::mebibytes_in};

/// Size of a volume, in MiB.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "u64", into = "u64")]
#[schemars(extend("minimum" = Self::MIN_MIB, "maximum" = Self::MAX_MIB))]
pub struct VolumeSize(u64);

impl VolumeSize {
    /// Smallest volume, in MiB: the file system takes some of it.
    pub const MIN_MIB: u64 = 16;
    /// Largest volume, in MiB: what ext4 holds in blocks of 4 KiB with 32-bit numbers.
    pub const MAX_MIB: u64 = 16 << 20;

    /// The size in MiB.
    pub fn mib(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for VolumeSize {
    type Error = String;

    fn try_from(mib: u64) -> Result<Self, String> {
        let (min, max) = (Self::MIN_MIB, Self::MAX_MIB >> 20);
        let valid = (min..=Self::MAX_MIB).contains(&mib).then_some(Self(mib));
        valid.ok_or_else(|| format!("a volume has from {min} MiB to {max} TiB, not {mib} MiB"))
    }
}

impl From<VolumeSize> for u64 {
    fn from(size: VolumeSize) -> Self {
        size.0
    }
}

impl FromStr for VolumeSize {
    type Err = String;

    /// Reads `512m`, `10g` or `1t`, also as `512MiB`.
    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = mebibytes_in(&lower[digits.len()..]);
        let mib = factor.zip(digits.parse::<u64>().ok()).and_then(|(factor, count)| count.checked_mul(factor));
        mib.ok_or_else(|| {
            format!("{:?} is no size; write a number with its unit, such as 512m or 10g", Line::excerpt(text))
        })?
        .try_into()
    }
}

impl fmt::Display for VolumeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1 << 10) { write!(f, "{} GiB", self.0 >> 10) } else { write!(f, "{} MiB", self.0) }
    }
}

/// What is mounted into containers, as a user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedSource {
    /// A volume of the app.
    Volume(VolumeName),
    /// A folder of the server's machine.
    Host(HostPath),
}

impl FromStr for NamedSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            let path = if text.len() > 1 { text.trim_end_matches('/') } else { text };
            return path.parse().map(Self::Host).map_err(|e: super::InvalidName| e.to_string());
        }
        text.parse().map(Self::Volume).map_err(|e: super::InvalidName| e.to_string())
    }
}

impl fmt::Display for NamedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(name) => name.fmt(f),
            Self::Host(path) => path.fmt(f),
        }
    }
}

/// Where something is to be mounted, as a user writes it: `NAME:/path`, `/host/path:/path`, either with `:ro`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountSpec {
    /// What is mounted.
    pub source: NamedSource,
    /// Where it is mounted in containers.
    pub target: MountPath,
    /// Whether containers can only read it.
    pub read_only: bool,
}

impl FromStr for MountSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write VOLUME:/path, such as data:/data, or data:/data:ro for reading only";
        let unclear = || format!("{:?} is no mount; {FORM}", Line::excerpt(text));
        let mut parts = text.split(':');
        let (source, target) = parts.next().zip(parts.next()).ok_or_else(unclear)?;
        let read_only = match (parts.next(), parts.next()) {
            (None | Some("rw"), None) => false,
            (Some("ro"), None) => true,
            (_, _) => return Err(unclear()),
        };
        let target = if target.len() > 1 { target.trim_end_matches('/') } else { target };
        let target = target.parse().map_err(|e: super::InvalidName| e.to_string())?;
        Ok(Self { source: source.parse()?, target, read_only })
    }
}

impl TryFrom<String> for MountSpec {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<MountSpec> for String {
    fn from(mount: MountSpec) -> Self {
        mount.to_string()
    }
}

impl fmt::Display for MountSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.source, self.target, if self.read_only { ":ro" } else { "" })
    }
}

impl schemars::JsonSchema for MountSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MountSpec".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "title": "mount", "format": "mount", "description": "VOLUME:/path or /host/path:/path, optionally with :ro" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_and_limits() {
        for (text, mib) in [("16m", 16), ("10g", 10_240), ("512MiB", 512), ("1T", 1 << 20), ("2GB", 2048)] {
            assert_eq!(text.parse::<VolumeSize>().unwrap().mib(), mib, "{text}");
        }
        for text in ["", "10", "m", "1.5g", "-1g", "15m", "17t", "99999999999999999999g", "18446744073709551615t", "1k"]
        {
            let error = text.parse::<VolumeSize>().unwrap_err();
            assert!(!error.contains('\n') && !error.is_empty(), "{text}: {error}");
        }
        let shown = |text: &str| text.parse::<VolumeSize>().unwrap().to_string();
        assert_eq!((shown("2048m"), shown("1500m")), ("2 GiB".into(), "1500 MiB".into()));
    }

    #[test]
    fn a_mount_names_source_and_path() {
        let read = |text: &str| text.parse::<MountSpec>();
        let mount = read("data:/data/").unwrap();
        assert_eq!((mount.to_string().as_str(), mount.read_only), ("data:/data", false));
        assert_eq!(mount.source, NamedSource::Volume("data".parse().unwrap()));
        assert!(read("data:/data:ro").unwrap().read_only && !read("data:/data:rw").unwrap().read_only);
        assert_eq!(read("/srv/files:/files").unwrap().source, NamedSource::Host("/srv/files".parse().unwrap()));
        for bad in
            ["data", "data:", ":/data", "data:data", "data:/a:/b", "data:/a:ro:ro", "Data:/a", "../x:/a", "/a/../b:/c"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn folders_that_every_container_needs_are_not_mounted_over() {
        for bad in [
            "data:/",
            "data:/proc",
            "data:/proc/1",
            "data:/cnb/lifecycle",
            "data:/usr/bin",
            "data:/etc",
            "data:/a//b",
            "data:/a/../b",
            "data:/workspace",
            "data:/etc/resolv.conf",
            "data:/a\nb",
        ] {
            assert!(bad.parse::<MountSpec>().is_err(), "{bad}");
        }
        for good in
            ["data:/workspace/storage", "data:/var/lib/postgresql/data", "data:/etc/app", "data:/tmp", "data:/home/app"]
        {
            assert!(good.parse::<MountSpec>().is_ok(), "{good}");
        }
    }
}
