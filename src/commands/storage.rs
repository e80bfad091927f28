//! The commands `storage:…`: volumes, and what is mounted into the containers of an app.

use std::fmt::Write as _;

use clap::Subcommand;

use super::{
    output::{Format, Rendering, Text},
    session::{ExitStatus, Session},
    table::{list, or_hyphen, table},
};
use crate::{
    model::{AppName, MountPath, ProcessType, VolumeName, mib},
    operations::{
        ArchivedVolume, ChangedMount, CreateVolume, DestroyVolume, DestroyedVolume, ExportVolume, Failure,
        ImportVolume, ListMounts, MountInfo, MountVolume, ReportVolumes, ResizeVolume, Result, UnmountVolume,
        VolumeInfo,
    },
};

/// The commands of volumes.
#[derive(Debug, Subcommand)]
pub(super) enum StorageCommand {
    /// Create a volume: a disk of its own whose files outlive releases.
    #[command(
        name = "storage:create",
        after_help = "Example: storage:create shop uploads --size 10g\n         storage:mount shop uploads:/workspace/uploads"
    )]
    Create(CreateVolume),
    /// Mount a volume, or (admins only) a folder of the machine, into an app's containers; restarts it.
    #[command(
        name = "storage:mount",
        after_help = "Examples: storage:mount shop uploads:/workspace/uploads\n          storage:mount shop uploads:/files:ro --process-type web\n          \
                      storage:mount shop /srv/media:/media"
    )]
    Mount {
        /// App.
        app: AppName,
        /// VOLUME:/path, or /host/folder:/path; with :ro, containers can only read it.
        #[arg(value_name = "VOLUME:PATH")]
        mount: String,
        /// Path in the containers, if the mount names none.
        #[arg(long, value_name = "PATH")]
        container_dir: Option<MountPath>,
        /// Only instances of this process type have it.
        #[arg(long, value_name = "TYPE")]
        process_type: Option<ProcessType>,
        /// Containers can only read it.
        #[arg(long)]
        readonly: bool,
    },
    /// Unmount what storage:mount has mounted; restarts the app. A volume keeps its files.
    #[command(name = "storage:unmount", after_help = "Example: storage:unmount shop uploads:/workspace/uploads")]
    Unmount(UnmountVolume),
    /// List what is mounted into an app's containers.
    #[command(name = "storage:list", after_help = "Example: storage:list shop")]
    List(ListMounts),
    /// Show the volumes of an app, or of all apps, with size and use.
    #[command(
        name = "storage:report",
        aliases = ["storage", "storage:info", "storage:list-entries"],
        after_help = "Example: storage:report shop"
    )]
    Report(ReportVolumes),
    /// Change the size of a volume; a larger one while the app runs.
    #[command(name = "storage:resize", after_help = "Example: storage:resize shop uploads 20g")]
    Resize(ResizeVolume),
    /// Write the files of a volume to standard output, as a tar.
    #[command(name = "storage:export", after_help = "Example: ssh paas@host storage:export shop uploads > uploads.tar")]
    Export(ExportVolume),
    /// Unpack a tar of standard input into a volume.
    #[command(name = "storage:import", after_help = "Example: ssh paas@host storage:import shop uploads < uploads.tar")]
    Import(ImportVolume),
    /// Destroy a volume with its files. Asks for its name.
    #[command(name = "storage:destroy", after_help = "Example: storage:destroy shop uploads --force")]
    Destroy {
        /// App.
        app: AppName,
        /// Name of the volume.
        name: VolumeName,
        /// Do not ask for the name.
        #[arg(long)]
        force: bool,
        /// The volume's name, instead of the question.
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },
}

pub(super) async fn run(session: &Session<'_>, command: StorageCommand) -> Result {
    use StorageCommand as C;
    match command {
        C::Create(create) => session.answer(create).await,
        C::Mount { app, mount, container_dir, process_type, readonly } => {
            let place = container_dir.map(|path| format!(":{path}")).unwrap_or_default();
            let only_read = if readonly && !mount.ends_with(":ro") { ":ro" } else { "" };
            let mount = format!("{mount}{place}{only_read}").parse().map_err(Failure::invalid)?;
            session.answer(MountVolume { app, mount, process_type }).await
        }
        C::Unmount(unmount) => session.answer(unmount).await,
        C::List(list) => session.answer(list).await,
        C::Report(report) => session.answer(report).await,
        C::Resize(resize) => session.answer(resize).await,
        C::Export(export) => session.attach(export).await.map(drop),
        C::Import(import) => session.attach(import).await.map(drop),
        C::Destroy { app, name, force, confirm } => {
            let confirm = match confirm {
                _ if force => name.to_string(),
                Some(name) => name,
                None => ask_for_name(session, &app, &name).await?,
            };
            session.answer(DestroyVolume { app, name, confirm }).await
        }
    }
}

/// Asks for the name of a volume that is to be destroyed; a program is not asked.
async fn ask_for_name(session: &Session<'_>, app: &AppName, name: &VolumeName) -> Result<String> {
    session.check::<DestroyVolume>(app.clone()).await?;
    if session.out.format() == Format::Json {
        return Ok(String::new());
    }
    let question =
        format!(" !     This destroys {name} of {app} with its files permanently. Type its name to continue: ");
    session.out.text(&question, Rendering::Plain).await;
    Ok(session.read_line().await)
}

impl ExitStatus for ArchivedVolume {
    fn exit_status(&self) -> i64 {
        0
    }
}

impl Text for VolumeInfo {
    fn text(&self) -> String {
        let Self { app, name, size, .. } = self;
        let mut text = format!("-----> {name} of {app} has {size}\n");
        if self.mounts.is_empty() {
            let _ = writeln!(text, "       storage:mount {app} {name}:/path mounts it");
        }
        text
    }
}

impl Text for Vec<VolumeInfo> {
    fn text(&self) -> String {
        if self.is_empty() {
            return "       there are no volumes (storage:create)\n".to_owned();
        }
        let rows = self.iter().map(|volume| {
            [
                volume.app.to_string(),
                volume.name.to_string(),
                volume.size.to_string(),
                or_hyphen(volume.used_bytes.map(mib)),
                or_hyphen(volume.free_bytes.map(mib)),
                or_hyphen(list(volume.mounts.iter().map(|mount| mount.target.to_string()))),
                volume.by.clone(),
                volume.since.to_string(),
            ]
        });
        table(["APP", "VOLUME", "SIZE", "USED", "FREE", "MOUNTED", "BY", "SINCE"], rows)
    }
}

impl Text for ChangedMount {
    fn text(&self) -> String {
        let Self { app, mount, .. } = self;
        let verb = if self.mounted { "is mounted into" } else { "is no longer mounted into" };
        let notes: Vec<_> = self.notes.iter().map(|note| format!("       {note}\n")).collect();
        format!("-----> {mount} {verb} {app}\n{}", notes.concat())
    }
}

impl Text for Vec<MountInfo> {
    fn text(&self) -> String {
        if self.is_empty() {
            return "       nothing is mounted (storage:mount)\n".to_owned();
        }
        let rows = self.iter().map(|info| {
            let process_type = info.process_type.as_ref().map_or_else(|| "(all)".to_owned(), ToString::to_string);
            let MountInfo { mount, .. } = info;
            let mode = if mount.read_only { "ro" } else { "rw" };
            [mount.source.to_string(), mount.target.to_string(), mode.to_owned(), process_type]
        });
        table(["SOURCE", "PATH", "MODE", "TYPE"], rows)
    }
}

impl Text for DestroyedVolume {
    fn text(&self) -> String {
        format!("-----> {} of {} is destroyed\n", self.name, self.app)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::Time;

    #[test]
    fn a_report_has_size_use_and_paths() {
        let volume = VolumeInfo {
            app: "shop".parse().unwrap(),
            name: "data".parse().unwrap(),
            size: 1024.try_into().unwrap(),
            used_bytes: Some((3 << 20) + 1),
            free_bytes: None,
            mounts: vec!["data:/data".parse().unwrap(), "data:/files:ro".parse().unwrap()],
            by: "ann".into(),
            since: Time(0),
        };
        let expected = "APP   VOLUME  SIZE   USED     FREE  MOUNTED        BY   SINCE\n\
                        shop  data    1 GiB  3.1 MiB  -     /data, /files  ann  1970-01-01T00:00:00Z\n";
        assert_eq!(vec![volume].text(), expected);
    }
}
