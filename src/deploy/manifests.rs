//! The files in which an app describes itself. They are read before anything is built, so that a mistake in one costs
//! no build. What has no effect is told, also if nothing is built.

use super::{checkout::Checkout, error::DeployError, foreign_files};
use crate::model::{AppJson, AppName, Line, Procfile, ProjectToml};

/// Content of `app.json`, `project.toml` and `Procfile`.
pub(super) struct Manifests {
    pub(super) app: AppJson,
    pub(super) project: ProjectToml,
    pub(super) procfile: Option<Procfile>,
    /// Lines for the developer about what has no effect.
    pub(super) notices: Vec<Line>,
}

impl Manifests {
    /// Reads the files of the app of this name; a job may run for at most `max_job_seconds`.
    pub(super) async fn read(
        name: &AppName,
        checkout: &Checkout<'_>,
        max_job_seconds: u64,
    ) -> Result<Self, DeployError> {
        let mut not_read = Vec::new();
        let procfile = text(checkout, "Procfile", &mut not_read).await?;
        let procfile = procfile.map(|text| Procfile::parse(&text)).transpose()?;
        let app = match text(checkout, "app.json", &mut not_read).await? {
            Some(text) => AppJson::parse(&text)?,
            None => AppJson::default(),
        };
        app.check_timeouts(max_job_seconds)?;
        let project = match text(checkout, "project.toml", &mut not_read).await? {
            Some(text) => ProjectToml::parse(&text)?,
            None => ProjectToml::default(),
        };
        let of_files = foreign_files::notices(name, checkout).await?;
        let of_keys = app.notices.iter().chain(&project.notices).cloned();
        let warnings = not_read.into_iter().chain(of_keys).chain(of_files).map(Line::Trouble);
        let notices = app.metadata.clone().map(Line::Detail).into_iter().chain(warnings).collect();
        Ok(Self { app, project, procfile, notices })
    }
}

/// The text of a file, if there is one; notes why something of its name is not read.
async fn text(checkout: &Checkout<'_>, name: &str, not_read: &mut Vec<String>) -> Result<Option<String>, DeployError> {
    match checkout.read_or_why_not(name).await? {
        Ok(text) => return Ok(Some(text)),
        Err(why) => not_read.extend(why.instead().map(|instead| format!("{name} is not read: it {instead}"))),
    }
    Ok(None)
}
