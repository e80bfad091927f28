//! Operations that write the files of a volume to the caller as a tar, and unpack one that the caller sends.

use std::sync::{Arc, OnceLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{compression::plain, volume};
use crate::{
    engine::Archiving,
    model::{AppName, Right, VolumeName},
    operations::{
        attachment::no_streams,
        context::Context,
        failure::{Failure, FailureKind, Result},
        operation::Operation,
    },
    store::{App, Effect},
};

/// Writes the files of a volume to standard output, as a tar.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ExportVolume {
    /// App.
    pub app: AppName,
    /// Name of the volume.
    pub name: VolumeName,
}

/// Unpacks a tar of standard input into a volume.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ImportVolume {
    /// App.
    pub app: AppName,
    /// Name of the volume.
    pub name: VolumeName,
    /// Also into a volume that has files; those of the same name are replaced.
    #[arg(long)]
    #[serde(default)]
    pub merge: bool,
}

/// A volume whose files were written to the caller, or came from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ArchivedVolume {
    /// App.
    pub app: AppName,
    /// Name of the volume.
    pub name: VolumeName,
}

async fn archive(
    context: &Context<'_>,
    app: App,
    name: &VolumeName,
    archiving: Archiving,
    merge: bool,
) -> Result<ArchivedVolume> {
    let volume = volume(context, &app, name).await?;
    let mounted = context.deployer.volumes().mounted(volume.id).await?;
    if archiving == Archiving::Unpack && !mounted.is_empty && !merge {
        let text = format!("{name} has files already; storage:import {} {name} --merge adds to them", app.name);
        return Err(Failure::conflict(text));
    }
    let mut streams = context.attachment.ok_or_else(no_streams)?.take()?;
    let (compressed, cancel) = (Arc::new(OnceLock::new()), context.hangup.child_token());
    if archiving == Archiving::Unpack {
        let (found, cancel) = (Arc::clone(&compressed), cancel.clone());
        streams.stdin = plain(streams.stdin, move |compression| {
            found.get_or_init(|| compression);
            cancel.cancel();
        });
    }
    let ended = context.tasks.archive(&app, &mounted, archiving, streams, context.progress, &cancel).await;
    if let Some(compression) = compressed.get() {
        let command = compression.command(name);
        let text = format!(
            "the input is compressed, and only a plain tar is unpacked; decompress it on the way: {command} | ssh … storage:import \
             {} {name}{}",
            app.name,
            if merge { " --merge" } else { "" }
        );
        return Err(Failure::invalid(text));
    }
    let status = ended?;
    if status != 0 {
        let text = match archiving {
            Archiving::Pack => format!("not all files of {name} were written: tar ended with status {status}"),
            Archiving::Unpack => format!(
                "not all files were unpacked into {name}: tar ended with status {status}; it may be full (storage:report), or the \
                 input is no tar"
            ),
        };
        return Err(Failure::new(FailureKind::Failed, text));
    }
    Ok(ArchivedVolume { app: app.name, name: volume.name })
}

impl Operation for ExportVolume {
    const NAME: &'static str = "storage:export";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ArchivedVolume;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.name.to_string()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ArchivedVolume> {
        archive(context, app, &self.name, Archiving::Pack, false).await
    }
}

impl Operation for ImportVolume {
    const NAME: &'static str = "storage:import";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = App;
    type Output = ArchivedVolume;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.name.to_string()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ArchivedVolume> {
        archive(context, app, &self.name, Archiving::Unpack, self.merge).await
    }
}
