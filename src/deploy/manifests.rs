//! What the app says of itself, read before anything is built, so that a mistake in it costs no build.

use super::{DeployError, checkout::Checkout};
use crate::model::{AppJson, Procfile, ProjectToml};

/// The files that a commit may have for us.
pub(super) struct Manifests {
    pub(super) app: AppJson,
    pub(super) project: ProjectToml,
    pub(super) procfile: Option<Procfile>,
}

impl Manifests {
    pub(super) async fn read(checkout: &Checkout<'_>) -> Result<Self, DeployError> {
        let procfile = checkout.read("Procfile").await?.map(|text| Procfile::parse(&text)).transpose()?;
        let app = match checkout.read("app.json").await? {
            Some(text) => AppJson::parse(&text)?,
            None => AppJson::default(),
        };
        let project = match checkout.read("project.toml").await? {
            Some(text) => ProjectToml::parse(&text)?,
            None => ProjectToml::default(),
        };
        Ok(Self { app, project, procfile })
    }
}
