//! The app's repository.

use serde_json::json;

use super::{
    CommandError, Commands, Result, Session,
    line::{self, Format},
};
use crate::model::AppName;

pub(super) async fn set(
    commands: &Commands,
    session: &Session<'_>,
    app: AppName,
    property: &str,
    value: &str,
) -> Result {
    let app = commands.app(session, app).await?;
    if property != "deploy-branch" {
        let property = crate::model::Line::sanitize(property);
        return Err(CommandError::Refused(format!("there is no property {property}; there is deploy-branch")));
    }
    let branch = line::branch(value)?;
    commands.deployer.set_deploy_branch(&app, branch.clone()).await?;
    session.out.line(&format!("-----> Pushes to {branch} are deployed from now on")).await;
    Ok(())
}

pub(super) async fn report(commands: &Commands, session: &Session<'_>, app: AppName, format: Format) -> Result {
    let app = commands.app(session, app).await?;
    let live = match app.current {
        Some(current) => commands.store.release(app.id, current.release).await?.and_then(|release| release.commit),
        None => None,
    };
    let (hostname, port) = (&commands.config.hostname, commands.config.ssh.listen.port());
    let facts = json!({
        "app": app.name,
        "deploy_branch": app.deploy_branch,
        "deployed_commit": live,
        "address": format!("ssh://paas@{hostname}:{port}/{}", app.name),
    });
    if let serde_json::Value::Object(facts) = facts {
        session.out.facts(&facts, format).await;
    }
    Ok(())
}
