//! The settings and the hook of all repositories. They are root's, in git's home: a repository's own are its user's.

use std::{os::unix::fs::PermissionsExt, path::Path};

use tokio::fs;

use super::{Result, failed, sync};

const HOOK: &str = include_str!("../../hooks/proc-receive");

/// Major and minor number of what `git --version` says.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("git version ")?.split('.').map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The design's settings: deploys run in `proc-receive`, objects are checked, and on disk before they count, and what a
/// failed push leaves is removed by our own collection alone. Checks of deletion and of force are ours.
fn text(hooks: &Path, version: (u32, u32), max_push_bytes: u64) -> String {
    // The older name warns on newer versions, and the newer one is unknown to older ones.
    let fsync = if version >= (2, 36) { "fsync = all" } else { "fsyncObjectFiles = true" };
    let hooks = hooks.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!(
        "[core]\n\thooksPath = \"{hooks}\"\n\t{fsync}\n\
         [init]\n\tdefaultBranch = main\n\
         [receive]\n\tfsckObjects = true\n\tunpackLimit = 1\n\tautogc = false\n\tprocReceiveRefs = refs/heads\n\
         \tmaxInputSize = {max_push_bytes}\n\tadvertisePushOptions = true\n\
         # Old, harmless mistakes that many long histories contain.\n\
         [receive \"fsck\"]\n\tzeroPaddedFilemode = warn\n\tbadTimezone = warn\n\tmissingSpaceBeforeDate = warn\n\
         [transfer]\n\thideRefs = refs/paas\n\
         [uploadpack]\n\tallowFilter = true\n\
         # An operator's own repository, from which buildpacks are fetched, is somebody else's.
         [safe]\n\tdirectory = *\n\
         [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
         [pack]\n\twindowMemory = 128m\n"
    )
}

/// Writes them, each whole or not at all.
pub(super) async fn write(home: &Path, version: (u32, u32), max_push_bytes: u64) -> Result<()> {
    let hooks = home.join("hooks");
    fs::create_dir_all(&hooks).await.map_err(failed("make", &hooks))?;
    fs::set_permissions(&hooks, PermissionsExt::from_mode(0o755)).await.map_err(failed("make", &hooks))?;
    replace(&hooks.join("proc-receive"), HOOK, 0o755).await?;
    replace(&home.join(".gitconfig"), &text(&hooks, version, max_push_bytes), 0o644).await?;
    sync(&[&hooks, home]).await
}

async fn replace(path: &Path, text: &str, mode: u32) -> Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, text).await.map_err(failed("write", &temporary))?;
    fs::set_permissions(&temporary, PermissionsExt::from_mode(mode)).await.map_err(failed("write", &temporary))?;
    sync(&[&temporary]).await?;
    fs::rename(&temporary, path).await.map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_distributions() {
        assert_eq!(version("git version 2.39.5"), Some((2, 39)));
        assert_eq!(version("git version 2.29.rc1"), Some((2, 29)));
        assert_eq!(version("git version 2.47.1.windows.1"), Some((2, 47)));
        assert_eq!(version("nonsense"), None);
    }

    #[test]
    fn a_folder_with_quotes_stays_one_value() {
        let written = text(Path::new("/a\"b\\c"), (2, 39), 7);
        assert!(written.contains("hooksPath = \"/a\\\"b\\\\c\"\n\tfsync = all\n"), "{written}");
        assert!(text(Path::new("/"), (2, 30), 7).contains("fsyncObjectFiles"));
    }
}
