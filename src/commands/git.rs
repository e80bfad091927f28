//! The commands `git:…`.

use clap::Subcommand;
use serde_json::json;

use super::{
    context::Context,
    error::{CommandError, Result},
    output::Format,
    session::Session,
};
use crate::model::{AppName, BranchName, InvalidName};

/// The commands of an app's repository.
#[derive(Debug, Subcommand)]
pub(super) enum GitCommand {
    /// Set a property of the repository: deploy-branch.
    #[command(name = "git:set", after_help = "Example: git:set my-app deploy-branch live")]
    Set {
        app: AppName,
        /// deploy-branch
        property: String,
        /// Value of the property.
        value: String,
    },
    /// Show the repository: deploy branch, address, deployed commit.
    #[command(name = "git:report", after_help = "Example: git:report my-app")]
    Report {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

pub(super) async fn run(context: &Context, session: &mut Session<'_>, command: GitCommand) -> Result {
    use GitCommand as C;
    match command {
        C::Set { app, property, value } => set(context, session, app, &property, &value).await,
        C::Report { app, format } => report(context, session, app, format).await,
    }
}

async fn set(context: &Context, session: &Session<'_>, app: AppName, property: &str, value: &str) -> Result {
    let app = context.app(session, app).await?;
    if property != "deploy-branch" {
        let property = crate::model::Line::sanitize(property);
        return Err(CommandError::Refused(format!("there is no property {property}; the only one is deploy-branch")));
    }
    let branch = branch(value)?;
    context.deployer.set_deploy_branch(&app, branch.clone()).await?;
    session.out.line(&format!("-----> Pushes to {branch} are deployed from now on")).await;
    Ok(())
}

async fn report(context: &Context, session: &Session<'_>, app: AppName, format: Format) -> Result {
    let app = context.app(session, app).await?;
    let live = match app.current {
        Some(current) => context.store.release(app.id, current.release).await?.and_then(|release| release.commit),
        None => None,
    };
    let (hostname, port) = (&context.config.hostname, context.config.ssh.listen.port());
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

/// Reads a branch, with or without `refs/heads/`.
fn branch(text: &str) -> Result<BranchName, InvalidName> {
    text.trim_start_matches("refs/heads/").parse()
}
