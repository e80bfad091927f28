//! The remotes of a person, in `remotes.toml`.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{address::RemoteAddress, error::RemoteError};
use crate::model::toml_message;

/// Name of a remote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RemoteName(String);

impl FromStr for RemoteName {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let is_valid = (1..=32).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if is_valid { Ok(Self(text.to_owned())) } else { Err(RemoteError::Name(text.to_owned())) }
    }
}

impl TryFrom<String> for RemoteName {
    type Error = RemoteError;

    fn try_from(text: String) -> Result<Self, RemoteError> {
        text.parse()
    }
}

impl From<RemoteName> for String {
    fn from(name: RemoteName) -> Self {
        name.0
    }
}

impl fmt::Display for RemoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<RemoteName>,
    #[serde(default)]
    remotes: BTreeMap<RemoteName, RemoteAddress>,
}

/// The remotes of a person.
#[derive(Debug)]
pub struct Remotes {
    file: PathBuf,
    content: Content,
}

impl Remotes {
    /// Reads the file, which may be absent.
    pub fn load(file: PathBuf) -> Result<Self, RemoteError> {
        let content = match fs::read_to_string(&file) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error| RemoteError::Invalid { path: file.clone(), message: toml_message(&error) })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content::default(),
            Err(source) => return Err(RemoteError::File { act: "read", path: file, source }),
        };
        Ok(Self { file, content })
    }

    /// All of them, with whether it is the default.
    pub fn all(&self) -> impl Iterator<Item = (&RemoteName, &RemoteAddress, bool)> {
        self.content.remotes.iter().map(|(name, address)| (name, address, self.content.default.as_ref() == Some(name)))
    }

    /// Adds a remote. The first is the default.
    pub fn add(&mut self, name: RemoteName, address: RemoteAddress) -> Result<(), RemoteError> {
        if self.content.remotes.contains_key(&name) {
            return Err(RemoteError::Exists(name.0));
        }
        if self.content.remotes.is_empty() {
            self.content.default = Some(name.clone());
        }
        self.content.remotes.insert(name, address);
        self.save()
    }

    /// Removes a remote.
    pub fn remove(&mut self, name: &str) -> Result<(), RemoteError> {
        let (name, _) = self.named(name)?;
        self.content.remotes.remove(&name);
        if self.content.default.as_ref() == Some(&name) {
            self.content.default = None;
        }
        self.save()
    }

    /// Makes a remote the default.
    pub fn set_default(&mut self, name: &str) -> Result<(), RemoteError> {
        self.content.default = Some(self.named(name)?.0);
        self.save()
    }

    /// The remote of this name.
    pub(super) fn named(&self, name: &str) -> Result<(RemoteName, RemoteAddress), RemoteError> {
        let found = name.parse().ok().and_then(|name| self.content.remotes.get_key_value(&name));
        let (name, address) = found.ok_or_else(|| RemoteError::NoRemote(name.to_owned()))?;
        Ok((name.clone(), address.clone()))
    }

    /// The remote for commands that name none.
    pub(super) fn default_remote(&self) -> Option<(RemoteName, RemoteAddress)> {
        self.content.default.as_ref().and_then(|name| self.named(&name.0).ok())
    }

    /// Replaces the file at once, so that nobody reads half of it.
    fn save(&self) -> Result<(), RemoteError> {
        let failed = |source| RemoteError::File { act: "write", path: self.file.clone(), source };
        let text = toml::to_string(&self.content).map_err(|error| failed(io::Error::other(error)))?;
        write_private(&self.file, &text).map_err(failed)
    }
}

fn write_private(file: &Path, text: &str) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_kept_in_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/b/remotes.toml");
        let mut remotes = Remotes::load(file.clone()).unwrap();
        assert!(remotes.all().next().is_none() && remotes.default_remote().is_none());
        remotes.add("prod".parse().unwrap(), "ssh://paas@prod:2222".parse().unwrap()).unwrap();
        remotes.add("test".parse().unwrap(), "ssh://test".parse().unwrap()).unwrap();
        let again = remotes.add("prod".parse().unwrap(), "ssh://other".parse().unwrap()).unwrap_err();
        assert_eq!(again.to_string(), "the remote prod exists; `paas remote remove prod` removes it");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let mut remotes = Remotes::load(file.clone()).unwrap();
        assert_eq!(remotes.default_remote().unwrap().1.to_string(), "ssh://paas@prod:2222");
        remotes.set_default("test").unwrap();
        remotes.remove("prod").unwrap();
        let unknown = remotes.set_default("prod").unwrap_err().to_string();
        assert!(unknown.starts_with("there is no remote prod; `paas remote list`"), "{unknown}");
        remotes.remove("test").unwrap();
        assert!(Remotes::load(file.clone()).unwrap().default_remote().is_none());
        fs::write(&file, "[remotes]\nx = \"https://host\"\n").unwrap();
        let invalid = Remotes::load(file).unwrap_err().to_string();
        assert!(invalid.contains("is not the address of a server") && !invalid.contains('\n'), "{invalid}");
    }

    #[test]
    fn names_are_words() {
        for name in ["", "-r", "a b", "a/b", "ä", &"x".repeat(33)] {
            assert!(name.parse::<RemoteName>().is_err(), "{name}");
        }
        assert!("prod-1.eu_2".parse::<RemoteName>().is_ok());
    }
}
