//! Definitions of stacks that are bootstrapped from Debian packages.

use serde::Deserialize;

use super::{
    error::{ImageError, Result},
    manifest::architecture,
};
use crate::{
    lifecycle::protocol::Target,
    model::{Line, toml_message},
};

/// Definition of the stack that is part of paas.
const DEBIAN_13: &str = include_str!("../../stacks/debian-13.toml");

/// Definition of a stack, read from a TOML file.
#[derive(Debug, Clone, Deserialize)]
pub struct StackDefinition {
    /// Id of the stack.
    pub id: String,
    /// Debian suite, such as `trixie`.
    pub(super) suite: String,
    pub(super) distro_name: String,
    pub(super) distro_version: String,
    /// Packages of the run image.
    pub(super) run: Vec<String>,
    /// Packages that the build image has in addition.
    pub(super) build: Vec<String>,
    /// Text of the file.
    #[serde(skip)]
    text: String,
}

impl StackDefinition {
    /// Definition of the stack that is part of paas.
    pub fn embedded() -> Result<Self> {
        Self::parse(DEBIAN_13)
    }

    /// Parses a definition.
    pub fn parse(text: &str) -> Result<Self> {
        let failed = |reason| ImageError::Definition(reason);
        let mut definition: Self = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
            failed(format!("line {line}: {}", toml_message(&e)))
        })?;
        // They become arguments of mmdebstrap.
        let names = definition.run.iter().chain(&definition.build);
        let is_plain = |text: &String| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.:_".contains(&b))
        };
        let is_valid = |text: &String| is_plain(text) && !text.starts_with('-');
        if let Some(bad) = names.chain([&definition.id, &definition.suite]).find(|text| !is_valid(text)) {
            let bad = Line::excerpt(bad);
            return Err(failed(format!("{bad:?} is not a valid name of a package, suite or stack")));
        }
        text.clone_into(&mut definition.text);
        Ok(definition)
    }

    /// Text that the definition was parsed from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Platform and distribution of the stack's images.
    pub(super) fn target(&self) -> Target {
        Target {
            os: "linux".to_owned(),
            arch: architecture().to_owned(),
            arch_variant: String::new(),
            distro_name: self.distro_name.clone(),
            distro_version: self.distro_version.clone(),
        }
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{assert_message, check, text_near};

    #[test]
    fn definitions_are_read_or_refused_in_one_line() {
        let sample =
            "id = 'a'\nsuite = 'trixie'\ndistro_name = 'debian'\ndistro_version = '13'\nrun = ['a']\nbuild = ['b+c']\n";
        check(text_near(&[sample]), |text| match StackDefinition::parse(&text) {
            Ok(read) => {
                assert!(read.run.iter().chain(&read.build).all(|name| !name.starts_with('-') && !name.contains(' ')));
            }
            Err(error) => assert_message(&error),
        });
    }
}
