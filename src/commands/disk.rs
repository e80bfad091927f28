//! The commands `disk:report` and `gc`.

use clap::Subcommand;

use super::{output::Text, session::Session, table::table};
use crate::{
    model::mib,
    operations::{CollectGarbage, CollectedGarbage, DiskUseInfo, ReportDisk, Result},
};

/// The commands of the server's disk.
#[derive(Debug, Subcommand)]
pub(super) enum DiskCommand {
    /// Show what takes the server's disk, by app and kind; without an app, of all apps.
    #[command(name = "disk:report", aliases = ["disk", "disk:list"], after_help = "Examples: disk:report\n          disk:report my-app --format json")]
    Report(ReportDisk),
    /// Remove what nothing needs any more, which the server also does by itself (admins only).
    #[command(name = "gc", after_help = "Examples: gc --dry-run\n          gc")]
    Collect(CollectGarbage),
}

pub(super) async fn run(session: &Session<'_>, command: DiskCommand) -> Result {
    match command {
        DiskCommand::Report(report) => session.answer(report).await,
        DiskCommand::Collect(collect) => session.answer(collect).await,
    }
}

impl Text for Vec<DiskUseInfo> {
    fn text(&self) -> String {
        let rows = self.iter().filter(|row| row.bytes > 0).map(|row| {
            let app = row.app.as_ref().map_or_else(|| "(server)".to_owned(), ToString::to_string);
            [app, row.kind.as_str().to_owned(), mib(row.bytes)]
        });
        let total = [String::new(), "total".to_owned(), mib(self.iter().map(|row| row.bytes).sum())];
        table(["APP", "KIND", "SIZE"], rows.chain([total]))
    }
}

impl Text for CollectedGarbage {
    fn text(&self) -> String {
        if self.garbage.is_empty() {
            let text = if self.dry_run { "nothing would be removed" } else { "there is nothing to remove" };
            return format!("       {text}\n");
        }
        let rows = self.garbage.iter().map(|row| {
            [
                row.app.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                row.kind.as_str().to_owned(),
                row.count.to_string(),
                row.bytes.map_or_else(|| "-".to_owned(), mib),
                row.reason.clone(),
            ]
        });
        let header = if self.dry_run { "WOULD BE REMOVED" } else { "REMOVED" };
        table(["APP", "KIND", header, "SIZE", "WHY"], rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        deploy::{DiskKind, GarbageKind},
        operations::GarbageInfo,
    };

    #[test]
    fn sizes_are_rounded_up_and_added() {
        let row =
            |app: Option<&str>, kind, bytes| DiskUseInfo { app: app.map(|app| app.parse().unwrap()), kind, bytes };
        let rows = vec![
            row(Some("shop"), DiskKind::Repository, 1),
            row(Some("shop"), DiskKind::Logs, 0),
            row(None, DiskKind::SharedImages, 3 << 20),
        ];
        let expected = "APP       KIND           SIZE\nshop      repository     0.1 MiB\n\
                        (server)  shared images  3.0 MiB\n          total          3.1 MiB\n";
        assert_eq!(rows.text(), expected);
    }

    #[test]
    fn what_is_removed_has_its_reason() {
        let info = |app: Option<&str>, kind: GarbageKind, bytes| GarbageInfo {
            app: app.map(|app| app.parse().unwrap()),
            kind,
            count: 2,
            bytes,
            reason: kind.reason().to_owned(),
        };
        let garbage = vec![info(Some("shop"), GarbageKind::Images, None), info(None, GarbageKind::Logs, Some(1 << 20))];
        let text = CollectedGarbage { dry_run: true, garbage }.text();
        assert!(text.contains("shop  images  2                 -        neither current"), "{text}");
        assert!(text.contains("-     logs    2                 1.0 MiB  its app does not exist any more"), "{text}");
        assert_eq!(CollectedGarbage { dry_run: true, garbage: vec![] }.text(), "       nothing would be removed\n");
    }
}
