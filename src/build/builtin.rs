//! The built-in buildpacks and their order (`order.toml`, as in the distribution specification).

use std::{fs, path::Path};

use serde::Deserialize;

use super::{
    buildpack::{Buildpack, buildpack_folders},
    error::BuildpacksError,
};
use crate::{lifecycle::descriptor::Group, model::toml_message};

/// The buildpacks that come with paas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builtin {
    /// The buildpacks, sorted by folder.
    pub all: Vec<Buildpack>,
    /// Groups, in the order in which detection tries them.
    pub order: Vec<Group>,
}

#[derive(Deserialize)]
struct OrderFile {
    order: Vec<Group>,
}

impl Builtin {
    /// Reads the folders with a `buildpack.toml` in `folder`, and `order.toml` beside them. Blocks.
    pub fn read(folder: &Path) -> Result<Self, BuildpacksError> {
        let all = buildpack_folders(folder)?.iter().map(|path| Buildpack::read(path)).collect::<Result<Vec<_>, _>>()?;
        let path = folder.join("order.toml");
        let text = fs::read_to_string(&path).map_err(BuildpacksError::file("read", &path))?;
        let invalid = |message| BuildpacksError::Invalid { path: path.clone(), message };
        let OrderFile { order } = toml::from_str(&text).map_err(|e| invalid(toml_message(&e)))?;
        for reference in order.iter().flat_map(|group| &group.group) {
            if all.iter().all(|buildpack| buildpack.about.id != reference.id) {
                return Err(invalid(format!("there is no buildpack {}", reference.id)));
            }
        }
        Ok(Self { all, order })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::buildpack, *};

    #[test]
    fn the_order_names_only_builtin_buildpacks() {
        let dir = tempfile::tempdir().unwrap();
        for id in ["paas/a", "paas/b"] {
            buildpack::write_example(&dir.path().join(buildpack::folder_name(id)), id, "");
        }
        let read = |order: &str| {
            fs::write(dir.path().join("order.toml"), order).unwrap();
            Builtin::read(dir.path()).map_err(|e| e.to_string())
        };
        let builtin = read("[[order]]\n[[order.group]]\nid = \"paas/b\"\noptional = true\n").unwrap();
        assert_eq!((builtin.all.len(), builtin.order[0].group[0].optional), (2, true));
        assert_eq!(builtin.all[0].target(), "/cnb/buildpacks/paas_a/1.0");
        let error = read("[[order]]\n[[order.group]]\nid = \"paas/c\"\n").unwrap_err();
        assert!(error.ends_with("order.toml, there is no buildpack paas/c"), "{error}");
        assert!(read("x = 1").unwrap_err().contains("order.toml, "));
    }
}
