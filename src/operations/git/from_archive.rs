//! Deploys of an archive.

use schemars::JsonSchema;
use serde::Deserialize;

use super::deploys::NewDeploy;
use crate::{
    git::ImportedCommit,
    model::{AppName, Right},
    operations::{context::Context, failure::Result, operation::Operation, ps::Released, sent_file::SentFile},
    progress::Progress,
    store::{App, Effect},
};

/// Name of the archive that the caller sends.
const SENT: &str = "standard input";

/// Deploys a tar, or tar.gz, of an app's folder: its files become a commit of the deploy branch, which is deployed as a push is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployArchive {
    /// App.
    pub app: AppName,
    /// The archive that the caller sends.
    #[serde(skip)]
    #[schemars(skip)]
    pub file: Option<SentFile>,
}

impl Operation for DeployArchive {
    const NAME: &'static str = "git:from-archive";
    const RIGHT: Right = Right::Deploy;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = App;
    type Output = Released;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        SENT.to_owned()
    }

    fn with_file(self, file: SentFile) -> Self {
        Self { file: Some(file), ..self }
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Released> {
        let deploy = NewDeploy::begin(context, app).await?;
        let commit = deploy.next_commit(format!("Archive from {SENT}\n"));
        context.progress.step(format!("Reading the archive from {SENT}")).await;
        let mut archive = match self.file {
            Some(file) => file.into_reader(),
            None => Box::new(tokio::io::empty()),
        };
        let made = deploy.attended(deploy.import.archive(commit, &mut *archive)).await?;
        report(&made, context.progress).await;
        deploy.deploy(made.commit).await
    }
}

/// Tells what of an archive is deployed.
async fn report(made: &ImportedCommit, progress: &Progress) {
    let files = if made.files == 1 { "1 file".to_owned() } else { format!("{} files", made.files) };
    progress.detail(format!("{files}, as commit {}", made.commit.short())).await;
    if let Some(top) = &made.top_folder {
        progress.detail(format!("all of them are in the folder {top}, which is taken as the app's folder")).await;
    }
    if made.left_out > 0 {
        progress.detail("folders .git are left out").await;
    }
}
