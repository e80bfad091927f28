//! The files in which an app describes itself. They are read before anything is built, so that a mistake in one costs
//! no build. What has no effect is told, also if nothing is built.

use super::{checkout::Checkout, error::DeployError, foreign_files};
use crate::model::{AppJson, Procfile, ProjectToml};

/// Content of `app.json`, `project.toml` and `Procfile`.
pub(super) struct Manifests {
    pub(super) app: AppJson,
    pub(super) project: ProjectToml,
    pub(super) procfile: Option<Procfile>,
    /// Lines for the developer about what has no effect.
    pub(super) notices: Vec<String>,
}

impl Manifests {
    /// Reads the files; a job may run for at most `max_job_seconds`.
    pub(super) async fn read(checkout: &Checkout<'_>, max_job_seconds: u64) -> Result<Self, DeployError> {
        let procfile = checkout.read("Procfile").await?.map(|text| Procfile::parse(&text)).transpose()?;
        let app = match checkout.read("app.json").await? {
            Some(text) => AppJson::parse(&text)?,
            None => AppJson::default(),
        };
        app.check_timeouts(max_job_seconds)?;
        let project = match checkout.read("project.toml").await? {
            Some(text) => ProjectToml::parse(&text)?,
            None => ProjectToml::default(),
        };
        let of_files = foreign_files::notices(checkout).await?;
        let notices = app.notices.iter().chain(&project.notices).cloned().chain(of_files).collect();
        Ok(Self { app, project, procfile, notices })
    }
}
