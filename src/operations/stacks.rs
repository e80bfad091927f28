//! Operations of stacks.

mod apps;
mod report;

pub use apps::*;
pub use report::*;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    failure::{Failure, Result},
    operation::Operation,
    target::Server,
    time::Time,
};
use crate::{
    images::StackDefinition,
    model::{ImageReference, PackageChange, Right, StackName},
    store::{Effect, ImageReferences, StackRevision, StackSource},
};

/// Lists the stacks of the server.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListStacks {}

/// Where a stack comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StackOrigin {
    /// It is bootstrapped from the packages of a definition.
    Packages,
    /// Its images come from a registry or from the engine.
    Images(ImageReferences),
}

impl From<StackSource> for StackOrigin {
    fn from(source: StackSource) -> Self {
        match source {
            StackSource::Packages(_) => Self::Packages,
            StackSource::Images(images) => Self::Images(images),
        }
    }
}

/// The Linux distribution of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StackDistribution {
    /// Its id, such as `debian`.
    pub name: String,
    /// Its version, such as `13`; empty if there is none.
    pub version: String,
    /// Number of packages of the run image.
    pub packages: usize,
}

impl std::fmt::Display for StackDistribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

impl From<&StackRevision> for StackDistribution {
    fn from(revision: &StackRevision) -> Self {
        let distribution = &revision.distribution;
        Self {
            name: distribution.name.clone(),
            version: distribution.version.clone(),
            packages: distribution.packages.len(),
        }
    }
}

/// A stack of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StackRow {
    /// Name.
    pub name: String,
    /// Whether it is the stack of apps that have not chosen one.
    pub default: bool,
    /// Number of the newest revision.
    pub revision: Option<u64>,
    /// Distribution of the newest revision.
    pub distribution: Option<StackDistribution>,
    /// Time of creation of the newest revision.
    pub created_at: Option<Time>,
    /// Where it comes from.
    pub source: StackOrigin,
}

impl Operation for ListStacks {
    const NAME: &'static str = "stacks:list";
    const RIGHT: Right = Right::Use;
    const EFFECT: Effect = Effect::Read;
    type Target = Server;
    type Output = Vec<StackRow>;

    fn target(&self) {}

    async fn run(self, context: &Context<'_>, _: Server) -> Result<Vec<StackRow>> {
        let revisions = context.store.stack_revisions(None).await?;
        let default = context.deployer.stacks().default_name();
        let row = |(name, source): (String, StackSource)| {
            let newest = revisions.iter().find(|revision| revision.stack == name);
            StackRow {
                default: name == default,
                revision: newest.map(|newest| newest.number),
                distribution: newest.map(StackDistribution::from),
                created_at: newest.map(|newest| Time(newest.created_at)),
                source: source.into(),
                name,
            }
        };
        Ok(context.store.stacks().await?.into_iter().map(row).collect())
    }
}

/// Creates a stack.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateStack {
    /// Name of the new stack.
    pub name: StackName,
    /// A definition (TOML) whose id is the name, or a run image and a build image.
    pub source: StackSource,
}

/// A stack that was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CreatedStack {
    /// Name.
    pub name: StackName,
    /// Number of its revision.
    pub revision: u64,
    /// Distribution.
    pub distribution: StackDistribution,
}

impl Operation for CreateStack {
    const NAME: &'static str = "stacks:create";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = Server;
    type Output = CreatedStack;

    fn target(&self) {}

    fn audit(&self) -> String {
        match &self.source {
            StackSource::Packages(_) => format!("{} packages", self.name),
            StackSource::Images(ImageReferences { run, build }) => {
                let [run, build] = [run, build].map(ImageReference::new);
                format!("{} run={run} build={build}", self.name)
            }
        }
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<CreatedStack> {
        check_source(&self.name, &self.source)?;
        let made = context.deployer.stacks().create(self.name.as_str(), self.source, context.progress).await?;
        Ok(CreatedStack { revision: made.number, distribution: StackDistribution::from(&made), name: self.name })
    }
}

/// Refuses an invalid definition, one for another stack, and images that cannot be pulled.
fn check_source(name: &StackName, source: &StackSource) -> Result {
    let text = match source {
        StackSource::Packages(text) => text,
        StackSource::Images(ImageReferences { run, build }) => {
            return [run, build].into_iter().try_for_each(check_image);
        }
    };
    let definition = StackDefinition::parse(text).map_err(|error| Failure::invalid(error.to_string()))?;
    if definition.id != name.as_str() {
        let what = format!("the definition's id is {:?}, not {:?}", definition.id, name.as_str());
        return Err(Failure::invalid(what).remedy("use one name in both"));
    }
    Ok(())
}

/// Refuses an image whose reference contains credentials.
fn check_image(reference: &String) -> Result {
    let reference = ImageReference::new(reference);
    if reference.has_credentials() {
        let what = format!("the reference of the image {reference} contains credentials or a query");
        return Err(Failure::invalid(what).remedy("leave them out: the server pulls images without credentials"));
    }
    Ok(())
}

/// Updates a stack to the newest packages or images.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct UpdateStack {
    /// Name of the stack.
    pub name: StackName,
}

/// A stack after an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UpdatedStack {
    /// Name.
    pub name: StackName,
    /// Number of its newest revision.
    pub revision: u64,
    /// Whether the update made that revision.
    pub updated: bool,
    /// Packages that differ from the revision before.
    pub changes: Vec<PackageChange>,
}

impl Operation for UpdateStack {
    const NAME: &'static str = "stacks:update";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = Server;
    type Output = UpdatedStack;

    fn target(&self) {}

    fn audit(&self) -> String {
        self.name.to_string()
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<UpdatedStack> {
        let (before, now) = context.deployer.stacks().update(self.name.as_str(), context.progress).await?;
        Ok(UpdatedStack {
            name: self.name,
            revision: now.number,
            updated: before.number != now.number,
            changes: before.distribution.changes(&now.distribution),
        })
    }
}

/// Removes a stack that no app has chosen.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RemoveStack {
    /// Name of the stack.
    pub name: StackName,
}

/// A stack that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RemovedStack {
    /// Its name, which is free again.
    pub name: StackName,
}

impl Operation for RemoveStack {
    const NAME: &'static str = "stacks:remove";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = RemovedStack;

    fn target(&self) {}

    fn audit(&self) -> String {
        self.name.to_string()
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<RemovedStack> {
        let name = self.name;
        if name.as_str() == context.deployer.stacks().default_name() {
            let what = format!("{name} is the default stack and cannot be removed");
            return Err(Failure::conflict(what).remedy("stack.default in paas.toml names the default stack"));
        }
        require_stack(context, &name).await?;
        if !context.store.remove_stack(name.to_string()).await? {
            return Err(Failure::conflict(format!("an app has chosen {name}; stacks:report {name} shows which")));
        }
        Ok(RemovedStack { name })
    }
}

/// Refuses a stack that does not exist.
async fn require_stack(context: &Context<'_>, name: &StackName) -> Result {
    if context.store.stack_revisions(Some(name.to_string())).await?.is_empty() {
        return Err(Failure::not_found(format!("there is no stack {name}; stacks:list lists them")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::FailureKind;

    #[test]
    fn a_definition_must_be_valid_and_have_the_name_of_the_stack() {
        let embedded = StackDefinition::embedded().unwrap();
        let source = StackSource::Packages(embedded.text().to_owned());
        let name = |name: &str| name.parse::<StackName>().unwrap();
        assert_eq!(check_source(&name(&embedded.id), &source), Ok(()));
        let other = check_source(&name("other"), &source).unwrap_err();
        assert_eq!(other.kind, FailureKind::Invalid);
        assert!(other.to_string().contains("not \"other\"; use one name in both"), "{other}");
        let invalid = check_source(&name("x"), &StackSource::Packages("id = ".to_owned())).unwrap_err();
        assert_eq!(invalid.kind, FailureKind::Invalid);
    }

    #[test]
    fn the_images_of_a_stack_have_no_credentials() {
        let images =
            |run: &str| StackSource::Images(ImageReferences { run: run.to_owned(), build: "r/build:1".to_owned() });
        let name = "noble".parse::<StackName>().unwrap();
        assert_eq!(check_source(&name, &images("r/run:1")), Ok(()));
        let source = images("user:s3cret@r/run:1");
        let error = check_source(&name, &source).unwrap_err();
        assert_eq!(error.kind, FailureKind::Invalid);
        assert!(error.to_string().contains("the image r/run:1 contains credentials"), "{error}");
        assert_eq!(CreateStack { name, source }.audit(), "noble run=r/run:1 build=r/build:1");
    }

    #[test]
    fn the_audit_entry_of_a_new_stack_tells_its_images_and_not_its_definition() {
        let create = |source: &str| serde_json::from_str::<CreateStack>(source).unwrap().audit();
        let images = r#"{"name": "noble", "source": {"images": {"run": "r/run:1", "build": "r/build:1"}}}"#;
        assert_eq!(create(images), "noble run=r/run:1 build=r/build:1");
        assert_eq!(create(r#"{"name": "slim", "source": {"packages": "id = \"slim\""}}"#), "slim packages");
    }
}
