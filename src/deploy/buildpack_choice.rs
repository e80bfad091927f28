//! The buildpacks that an app has chosen with `buildpacks:*`, in order.

use super::{deployer::Deployer, error::DeployError};
use crate::{
    build::{BuildError, BuildSettings, RequestedBuildpack},
    model::BuildpackSource,
    progress::Progress,
    store::{App, ChosenBuildpack, StoreError},
};

/// Position of a buildpack among those of an app; positions count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildpackPosition {
    /// After all others.
    Last,
    /// At this position; the buildpacks from there on move up.
    Before(usize),
    /// At this position, replacing the buildpack there.
    InPlaceOf(usize),
    /// Replacing all others.
    Only,
}

impl Deployer {
    /// Adds a buildpack to those of an app, or replaces one. A package that is fetched for it is what every build uses
    /// from now on. Only an `admin` may name files of this machine.
    pub async fn choose_buildpack(
        &self,
        app: &App,
        source: BuildpackSource,
        position: BuildpackPosition,
        admin: bool,
        progress: &Progress,
    ) -> Result<(), DeployError> {
        let this = &self.0;
        let _gc_held_off = this.gc_lock.hold_off().await;
        let package = match &source {
            BuildpackSource::Name { id, version } => {
                let named = RequestedBuildpack::Named { id: id.clone(), version: version.clone() };
                let installed = this.buildpacks.installed().await?;
                let settings = BuildSettings { group: vec![named], installed, ..BuildSettings::default() };
                // Refuses a buildpack that is not installed.
                this.builder.recipe(settings, this.stacks.newest(this.stacks.name_for(app)).await?)?;
                None
            }
            BuildpackSource::App(_) => None,
            other => {
                let package = this.buildpacks.fetch(other, admin, self.build_budget(app).await?, progress).await?;
                package.root().map_err(BuildError::from)?;
                Some(package.digest)
            }
        };
        let entry = ChosenBuildpack { source, package };
        let change = move |chosen| placed(chosen, entry, position);
        Ok(this.store.change_app_buildpacks(app.id, change).await?)
    }
}

/// An app's buildpacks with `entry` at `position`; a buildpack has only one position.
fn placed(
    mut chosen: Vec<ChosenBuildpack>,
    entry: ChosenBuildpack,
    position: BuildpackPosition,
) -> Result<Vec<ChosenBuildpack>, StoreError> {
    let count = chosen.len();
    let is_chosen = chosen.iter().any(|other| other.source.is_shown_as(&entry.source));
    if is_chosen && matches!(position, BuildpackPosition::Last | BuildpackPosition::Before(_)) {
        let text = format!("{} is already chosen; buildpacks:remove removes it", entry.source);
        return Err(StoreError::Taken(text));
    }
    match position {
        BuildpackPosition::Last => chosen.push(entry),
        BuildpackPosition::Before(index) if (1..=count + 1).contains(&index) => chosen.insert(index - 1, entry),
        BuildpackPosition::InPlaceOf(index) if (1..=count).contains(&index) => {
            let source = entry.source.clone();
            chosen[index - 1] = entry;
            // It loses the position that it had before.
            let mut at = 1..;
            chosen.retain(|other| at.next() == Some(index) || !other.source.is_shown_as(&source));
        }
        BuildpackPosition::Only => chosen = vec![entry],
        BuildpackPosition::Before(index) | BuildpackPosition::InPlaceOf(index) => {
            let buildpacks = if count == 1 { "buildpack" } else { "buildpacks" };
            let text = format!("there is no position {index}: the app has {count} {buildpacks}");
            return Err(StoreError::NotFound(text));
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::{BuildpackPosition::*, *};

    #[test]
    fn a_buildpack_has_one_position() {
        let entry = |name: &str| ChosenBuildpack { source: name.parse().unwrap(), package: None };
        let put = |chosen: &str, name: &str, position| {
            let placed = placed(chosen.split_whitespace().map(entry).collect(), entry(name), position)?;
            Ok::<_, StoreError>(placed.iter().map(|e| e.source.to_string()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(put("a b", "c", Last).unwrap(), "a b c");
        assert_eq!(put("a b", "c", Before(1)).unwrap(), "c a b");
        assert_eq!(put("a b", "c", InPlaceOf(2)).unwrap(), "a c");
        assert_eq!(put("a b c", "c", InPlaceOf(1)).unwrap(), "c b");
        assert_eq!(put("a b c", "a", InPlaceOf(3)).unwrap(), "b a");
        assert_eq!(put("a b", "b", InPlaceOf(2)).unwrap(), "a b");
        assert_eq!(put("a b", "c", Only).unwrap(), "c");
        assert!(put("a b", "a", Last).unwrap_err().to_string().contains("buildpacks:remove"));
        let [old, new] = ["https://u:old@host/x", "https://u:new@host/x"];
        assert!(put(old, new, Last).unwrap_err().to_string().starts_with("https://host/x is already chosen"));
        assert_eq!(put(&format!("{old} a"), new, InPlaceOf(2)).unwrap(), "https://host/x");
        for position in [Before(0), Before(3), InPlaceOf(0), InPlaceOf(2)] {
            assert!(put("a", "c", position).unwrap_err().to_string().contains("the app has 1 buildpack"));
        }
    }
}
