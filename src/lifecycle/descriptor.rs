//! Reads `buildpack.toml` (buildpack.md, "buildpack.toml"), leniently: what a buildpack is, and for which platforms.

use std::fmt;

use serde::Deserialize;

use super::{files, protocol::Target};
use crate::model::Line;

/// Oldest and newest Buildpack API that this lifecycle supports. 0.7 requires less than 0.8, and is still common.
const APIS: std::ops::RangeInclusive<Api> = Api(0, 7)..=Api(0, 12);

/// A version of the Buildpack API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Api(pub u32, pub u32);

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Api {
    /// `<major>.<minor>`, or `<major>` for `<major>.0`; only supported versions.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let api = number(major).zip(number(minor)).map(|(major, minor)| Self(major, minor));
        api.filter(|api| APIS.contains(api))
            .ok_or_else(|| format!("api: {} is not supported; use 0.7 to 0.12", Line::excerpt(text)))
    }
}

/// A reference to a buildpack in an order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Reference {
    /// Id of the buildpack.
    pub id: String,
    /// Version of the buildpack; without one, the only one that is installed.
    pub version: Option<String>,
    /// Whether the group passes without it.
    #[serde(default)]
    pub optional: bool,
    /// Execution environments in which it takes part; empty for all.
    #[serde(default, rename = "exec-env")]
    pub exec_env: Vec<String>,
}

/// A group of an order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Group {
    /// Members, in order.
    pub group: Vec<Reference>,
}

/// A platform that a buildpack supports; empty fields match anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct TargetRow {
    /// Operating system.
    #[serde(default)]
    pub os: String,
    /// Architecture.
    #[serde(default)]
    pub arch: String,
    /// Variant of the architecture.
    #[serde(default, alias = "arch-variant")]
    pub variant: String,
    /// Distributions, of which one has to match; empty for any.
    #[serde(default)]
    pub distros: Vec<Distro>,
}

/// A distribution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Distro {
    /// Name, as `ID` in `/etc/os-release`.
    #[serde(default)]
    pub name: String,
    /// Version, as `VERSION_ID` there.
    #[serde(default)]
    pub version: String,
}

/// A `buildpack.toml`, as far as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Buildpack API that it is written for.
    pub api: Api,
    /// Id, such as `paas/nodejs`.
    pub id: String,
    /// Version.
    pub version: String,
    /// Name for people.
    pub name: String,
    /// URL of its documentation.
    pub homepage: String,
    /// Whether its programs do not get the user's variables.
    pub clear_env: bool,
    /// Execution environments that it supports; empty for all.
    pub exec_env: Vec<String>,
    /// Groups that replace it; empty unless it is a composite buildpack.
    pub order: Vec<Group>,
    /// Platforms that it supports; empty for any.
    pub targets: Vec<TargetRow>,
}

#[derive(Default, Deserialize)]
struct File {
    api: Option<String>,
    #[serde(default)]
    buildpack: About,
    #[serde(default)]
    order: Vec<Group>,
    #[serde(default)]
    targets: Vec<TargetRow>,
    #[serde(default)]
    stacks: Vec<LegacyStack>,
}

#[derive(Default, Deserialize)]
struct About {
    #[serde(default)]
    id: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    homepage: String,
    #[serde(default, rename = "clear-env")]
    clear_env: bool,
    #[serde(default, rename = "exec-env")]
    exec_env: Vec<ExecEnv>,
}

/// An array of names in some documents of the specification, of tables in others.
#[derive(Deserialize)]
#[serde(untagged)]
enum ExecEnv {
    Plain(String),
    Table { name: String },
}

#[derive(Deserialize)]
struct LegacyStack {
    #[serde(default)]
    id: String,
}

impl Descriptor {
    /// Parses the text of a `buildpack.toml`; the error names line and key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let File { api, buildpack, order, mut targets, stacks } = files::parse_toml(text)?;
        let api = Api::parse(&api.ok_or("the key api is missing")?)?;
        let About { id, version, name, homepage, clear_env, exec_env } = buildpack;
        check_id(&id)?;
        check_version(&version)?;
        if targets.is_empty() {
            targets.extend(stacks.iter().filter_map(|stack| translated(&stack.id, stacks.len(), api)));
        }
        // Before, the key was a buildpack's own.
        let exec_env = exec_env.into_iter().filter(|_| api >= Api(0, 12)).map(|env| match env {
            ExecEnv::Plain(name) | ExecEnv::Table { name } => name,
        });
        Ok(Self { api, id, version, name, homepage, clear_env, exec_env: exec_env.collect(), order, targets })
    }

    /// Reads a `buildpack.toml`: a regular file of reasonable size. Blocks.
    pub fn read(file: &std::path::Path) -> Result<Self, String> {
        let text = files::read_text(file)?.ok_or("it does not exist")?;
        Self::parse(&text)
    }

    /// Whether it supports this platform ("Targets": what either side leaves empty matches).
    pub fn fits(&self, target: &Target) -> bool {
        let fit = |asked: &str, is: &str| asked.is_empty() || is.is_empty() || asked == is;
        self.targets.is_empty()
            || self.targets.iter().any(|row| {
                let distro = |distro: &Distro| {
                    fit(&distro.name, &target.distro_name) && fit(&distro.version, &target.distro_version)
                };
                fit(&row.os, &target.os)
                    && fit(&row.arch, &target.arch)
                    && fit(&row.variant, &target.arch_variant)
                    && (row.distros.is_empty() || row.distros.iter().any(distro))
            })
    }

    /// Id and version, as messages name the buildpack.
    pub fn full_name(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }
}

/// The text of a buildpack's file, if there is one: a regular file of reasonable size. Blocks.
pub fn read_file(file: &std::path::Path) -> Result<Option<String>, String> {
    files::read_text(file)
}

/// Refuses an id that must not become part of a path.
pub fn check_id(id: &str) -> Result<(), String> {
    let allowed = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"./_-".contains(&b));
    let parts = id.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
    let reserved = matches!(id, "app" | "config" | "generated" | "sbom");
    if allowed && parts && !reserved && id.len() <= 200 {
        return Ok(());
    }
    if id.is_empty() {
        return Err("the key buildpack.id is missing".to_owned());
    }
    let id = Line::excerpt(id);
    Err(format!("buildpack.id: {id:?} is not allowed; use letters, digits, '.', '-' and '/', and not a reserved word"))
}

/// Refuses a version that must not become part of a path. The specification asks for `X.Y.Z`; not all buildpacks comply.
pub fn check_version(version: &str) -> Result<(), String> {
    let allowed = version.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
    if allowed && !version.is_empty() && !version.starts_with('.') && version.len() <= 100 {
        return Ok(());
    }
    if version.is_empty() {
        return Err("the key buildpack.version is missing; write it as 1.2.3".to_owned());
    }
    let version = Line::excerpt(version);
    Err(format!("buildpack.version: {version:?} is not allowed; write it as 1.2.3"))
}

/// Target of a deprecated `stacks` entry, as the specification translates it.
fn translated(id: &str, of: usize, api: Api) -> Option<TargetRow> {
    match id {
        "*" => Some(TargetRow::default()),
        "io.buildpacks.stacks.bionic" if of == 1 || api >= Api(0, 10) => Some(TargetRow {
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
            variant: String::new(),
            distros: vec![Distro { name: "ubuntu".to_owned(), version: "18.04".to_owned() }],
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<Descriptor, String> {
        Descriptor::parse(&format!(
            "api = '0.10'\n[buildpack]\nid = 'a/b'\nversion = '1.2.3'\nkeywords = ['x']\n{rest}"
        ))
    }

    #[test]
    fn descriptors_are_read_leniently() {
        let read =
            parse("[[order]]\n[[order.group]]\nid = 'x'\nversion = '1'\noptional = true\n[metadata]\ny = 1").unwrap();
        assert_eq!(read.order[0].group[0].id, "x");
        assert!(read.order[0].group[0].optional);
        assert_eq!(Api::parse("0.12"), Ok(Api(0, 12)));
        for bad in ["0.6", "0.13", "1", "", "0.x", "0.+9"] {
            assert!(Api::parse(bad).is_err(), "{bad}");
        }
        for (text, says) in [
            ("[buildpack]\nid='a'\nversion='1'", "the key api is missing"),
            ("api='0.10'\n[buildpack]\nid='../a'\nversion='1'", "buildpack.id"),
            ("api='0.10'\n[buildpack]\nid='sbom'\nversion='1'", "buildpack.id"),
            ("api='0.10'\n[buildpack]\nid='a'\nversion='../1'", "buildpack.version"),
            ("api='0.10'\n[buildpack]\nid=3", "line 3, key id"),
        ] {
            let error = Descriptor::parse(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn targets_are_matched() {
        let target = |os: &str, arch: &str, name: &str, version: &str| Target {
            os: os.into(),
            arch: arch.into(),
            arch_variant: String::new(),
            distro_name: name.into(),
            distro_version: version.into(),
        };
        let debian = target("linux", "amd64", "debian", "13");
        for (rest, fits) in [
            ("", true),
            ("[[targets]]\nos='linux'", true),
            ("[[targets]]\nos='windows'\n[[targets]]\nos='linux'\narch='amd64'", true),
            ("[[targets]]\nos='linux'\narch='arm64'", false),
            ("[[targets]]\nos='linux'\n[[targets.distros]]\nname='ubuntu'\nversion='24.04'", false),
            ("[[targets]]\nos='linux'\n[[targets.distros]]\nname='debian'", true),
            ("[[stacks]]\nid='io.buildpacks.stacks.bionic'", false),
            ("[[stacks]]\nid='*'", true),
            ("[[stacks]]\nid='heroku-24'", true),
        ] {
            assert_eq!(parse(rest).unwrap().fits(&debian), fits, "{rest}");
        }
        let arm = Target { arch_variant: "v7".into(), ..target("linux", "arm", "debian", "13") };
        for (variant, fits) in [("v7", true), ("v6", false), ("", true)] {
            let read = parse(&format!("[[targets]]\narch='arm'\nvariant={variant:?}"));
            assert_eq!(read.unwrap().fits(&arm), fits, "{variant}");
        }
    }
}
