//! Operations on the server's disk: what takes it, and removing what nothing needs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{context::Context, failure::Result, operation::Operation, selection::AppSelection, target::Server};
use crate::{
    deploy::{Collect, DiskKind, DiskUse, Garbage, GarbageKind},
    model::{AppName, Right},
    store::{App, Effect},
};

/// Shows what takes the server's disk, by app and kind; without an app, of all apps of the caller.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ReportDisk {
    /// App; without it, all.
    pub app: Option<AppName>,
}

/// What an app, or the server, has of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DiskUseInfo {
    /// App; `null` for what belongs to the server, or to several apps.
    pub app: Option<AppName>,
    /// Kind.
    pub kind: DiskKind,
    /// Size, in bytes.
    pub bytes: u64,
}

impl Operation for ReportDisk {
    const NAME: &'static str = "disk:report";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = Vec<App>;
    type Output = Vec<DiskUseInfo>;

    fn target(&self) -> AppSelection {
        AppSelection::one_or_all(self.app.as_ref())
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<Vec<DiskUseInfo>> {
        // What belongs to nobody's app is the admins' concern.
        let server = self.app.is_none() && context.caller.admin;
        let used = context.deployer.disk_use(apps, server).await?;
        Ok(used.into_iter().map(|DiskUse { app, kind, bytes }| DiskUseInfo { app, kind, bytes }).collect())
    }
}

/// Removes what nothing needs any more: images, blobs, buildpacks, rows of old releases, and what apps left that do not exist.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct CollectGarbage {
    /// Remove nothing, and show what would be removed, and why.
    #[arg(long)]
    #[serde(default)]
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CollectedGarbage {
    /// Whether it is still there.
    pub dry_run: bool,
    /// What, by app and kind.
    pub garbage: Vec<GarbageInfo>,
}

/// What was removed of an app and a kind, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GarbageInfo {
    /// App; `null` if it belongs to no app.
    pub app: Option<AppName>,
    /// Kind.
    pub kind: GarbageKind,
    /// How many of them.
    pub count: u64,
    /// What they take, in bytes; `null` if they share it with others.
    pub bytes: Option<u64>,
    /// Why it is removed.
    pub reason: String,
}

impl Operation for CollectGarbage {
    const NAME: &'static str = "gc";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = CollectedGarbage;

    fn target(&self) {}

    fn audit(&self) -> String {
        if self.dry_run { "dry run".to_owned() } else { String::new() }
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<CollectedGarbage> {
        let what = if self.dry_run { Collect::DryRun } else { Collect::Remove };
        let garbage = context.deployer.collect_garbage(what).await?;
        let info = |Garbage { app, kind, count, bytes }| GarbageInfo {
            app,
            kind,
            count,
            bytes,
            reason: kind.reason().to_owned(),
        };
        Ok(CollectedGarbage { dry_run: self.dry_run, garbage: garbage.into_iter().map(info).collect() })
    }
}
