//! Files that configure another platform: nothing reads them here, and the developer is told what to do instead.

use super::{checkout::Checkout, error::DeployError};
use crate::model::AppName;

/// Files of one kind, and what to do instead, in which `{app}` stands for the name of the app. Not `vercel.json` and
/// `netlify.toml`, of which the buildpack for static sites reads redirects and headers.
const FOREIGN: [(&[&str], &str); 14] = [
    (&["DOKKU_SCALE"], "formation in app.json, or ps:scale, sets the number of instances"),
    (&["CHECKS"], "healthchecks in app.json defines health checks"),
    (&["heroku.yml"], "a Dockerfile at the root is built, and the Procfile names processes and the release command"),
    (&["app.yaml", "app.yml"], "the Procfile names processes, and config:set sets config vars"),
    (
        &["docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml"],
        "each service is an app of its own, built from its Dockerfile (builds:set {app} dir FOLDER chooses a folder)",
    ),
    (&["captain-definition"], "a Dockerfile at the root is built; builds:set {app} dir FOLDER chooses another folder"),
    (&["config/deploy.yml"], "ps:scale, config:set and healthchecks in app.json do what it declares"),
    (&[".buildpacks"], "buildpacks:add, or io.buildpacks.group in project.toml, names buildpacks"),
    (&[".slugignore", ".cfignore"], "io.buildpacks.exclude in project.toml leaves files out of the build"),
    (&["ENV"], "config:set sets config vars"),
    (&["nginx.conf.sigil", "nginx.conf.erb"], "the router needs no configuration by apps"),
    (&["nixpacks.toml", "railpack.json"], "project.toml sets up the build, and an Aptfile names Debian packages"),
    (
        &["fly.toml", "render.yaml", "railway.json", "railway.toml", "scalingo.json"],
        "the Procfile names processes, app.json declares checks and quantities, and config:set sets config vars",
    ),
    (
        &["manifest.yml", ".platform.app.yaml", "apprunner.yaml"],
        "the Procfile names processes, and config:set sets config vars",
    ),
];

/// A line for each kind of such files that the source has.
pub(super) async fn notices(app: &AppName, checkout: &Checkout<'_>) -> Result<Vec<String>, DeployError> {
    let names: Vec<_> = FOREIGN.iter().flat_map(|(names, _)| names.iter().copied()).collect();
    let found = checkout.files_among(&names).await?;
    let notice = |(names, advice): &(&[&str], &str)| {
        let names: Vec<_> = found.iter().filter(|name| names.contains(&name.as_str())).cloned().collect();
        let verb = if names.len() == 1 { "is" } else { "are" };
        (!names.is_empty())
            .then(|| format!("{} {verb} not read here; {}", names.join(", "), advice.replace("{app}", app.as_str())))
    };
    Ok(FOREIGN.iter().filter_map(notice).collect())
}
