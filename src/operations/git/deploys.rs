//! Deploys without `git push`: a commit is made in, or fetched into, the app's repository, and then deployed as a push of the deploy
//! branch is, with the same checks.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    git::NewCommit,
    model::{BranchName, CommitId, RefName},
    operations::{
        context::Context,
        failure::{Failure, FailureKind, Result},
        ps::{Released, released},
        pushes::{AuditedPushes, pusher},
    },
    receive::{Import, ImportError, RefUpdate, RequestedPush, ServedApp},
    store::App,
};

/// The branch that becomes the deploy branch of an app that has none.
pub(in crate::operations) const DEFAULT_BRANCH: &str = "main";

/// A deploy that begins: it has its turn.
pub(super) struct NewDeploy<'a> {
    context: &'a Context<'a>,
    app: App,
    pub(super) import: Import,
    /// The deploy branch.
    pub(super) branch: BranchName,
    /// Commit of that branch.
    pub(super) tip: Option<CommitId>,
}

impl<'a> NewDeploy<'a> {
    /// Waits for the turn.
    pub(super) async fn begin(context: &'a Context<'a>, app: App) -> Result<Self> {
        let pusher = pusher(context.store, context.deployer, &context.caller.actor, &app).await?;
        let served = ServedApp::from(&app);
        let import = context.imports.begin(&served, &pusher, context.progress, context.hangup).await?;
        let branch = match &app.deploy_branch {
            Some(branch) => branch.clone(),
            None => DEFAULT_BRANCH.parse()?,
        };
        let tip = import.reader().ref_value(&branch).await.map_err(ImportError::from)?;
        Ok(Self { context, app, import, branch, tip })
    }

    /// The next commit of the branch.
    pub(super) fn next_commit(&self, message: String) -> NewCommit {
        let author = self.context.caller.name().to_owned();
        let mail = format!("{author}@{}", self.context.config.hostname);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        NewCommit { parent: self.tip.clone(), author, mail, message, time }
    }

    /// Does what may take long before the deploy, unless the client disconnects.
    pub(super) async fn attended<T>(&self, work: impl Future<Output = Result<T, ImportError>>) -> Result<T> {
        Ok(self.context.hangup.run_until_cancelled(work).await.unwrap_or(Err(ImportError::Cancelled))?)
    }

    /// Deploys a commit of the repository, as a push of the deploy branch is deployed.
    pub(super) async fn deploy(self, commit: CommitId) -> Result<Released> {
        let Self { context, app, import, branch, tip } = self;
        import.check_quota(u64::from(tip.is_none())).await?;
        let push = RequestedPush {
            app: ServedApp::from(&app),
            pusher: context.caller.actor.clone(),
            updates: vec![RefUpdate { name: RefName::from(branch), old: tip, new: Some(commit) }],
            atomic: false,
        };
        let handler = AuditedPushes {
            deployer: context.deployer.clone(),
            audit: context.audit.clone(),
            store: context.store.clone(),
        };
        let decided =
            Box::pin(handler.decide(&push, import.reader(), context.progress, context.hangup.clone())).await?;
        decided.into_iter().collect::<Result<Vec<()>, _>>()?;
        import.is_used();
        released(context, app).await
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        let kind = match error {
            ImportError::WaitedTooLong(_) | ImportError::PackTooLarge(_) | ImportError::Quota(_) => {
                FailureKind::TooMany
            }
            ImportError::Cancelled => FailureKind::Failed,
            ImportError::Git(error) => return crate::deploy::DeployError::Git(error).into(),
        };
        Self::new(kind, error.to_string())
    }
}
