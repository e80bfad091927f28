//! Settings and hook of all repositories. They are in git's home folder and belong to root, whereas the files of a repository
//! belong to the user that git runs as.

use std::{os::unix::fs::PermissionsExt, path::Path};

use tokio::fs;

use super::{
    error::{Result, failed},
    files::sync,
};

const HOOK: &str = include_str!("../../hooks/proc-receive");

/// Major and minor version in the output of `git --version`.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("git version ")?.split('.').map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Errors of old commits and trees that do no harm: they are reported to the pusher, and accepted.
const ACCEPTED_ERRORS: [&str; 14] = [
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badName",
    "badTimezone",
    "duplicateEntries",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "multipleAuthors",
    "nulInCommit",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
];

/// Text of the settings file: all pushes go to the hook `proc-receive`, which also decides about deletions and force
/// pushes; clients fetch only branches and tags; objects are checked, and are on disk before they are used; git does not collect garbage by itself.
fn text(hooks: &Path, version: (u32, u32), max_push_bytes: u64) -> String {
    // Newer versions of git warn about the older key, and older versions ignore the newer one.
    let fsync = if version >= (2, 36) { "fsync = all" } else { "fsyncObjectFiles = true" };
    let hooks = hooks.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let accepted = ACCEPTED_ERRORS.map(|error| format!("\t{error} = warn\n")).concat();
    format!(
        "[core]\n\thooksPath = \"{hooks}\"\n\t{fsync}\n\
         [init]\n\tdefaultBranch = main\n\
         # The formats that libgit2 reads, whatever later versions of git prefer.\n\
         \tdefaultRefFormat = files\n\tdefaultObjectFormat = sha1\n\
         [receive]\n\tfsckObjects = true\n\tunpackLimit = 1\n\tautogc = false\n\tprocReceiveRefs = refs\n\
         \tmaxInputSize = {max_push_bytes}\n\tadvertisePushOptions = true\n\
         [receive \"fsck\"]\n{accepted}[fetch \"fsck\"]\n{accepted}\
         [transfer]\n\thideRefs = refs/paas\n\
         [uploadpack]\n\tallowFilter = true\n\thideRefs = refs\n\thideRefs = !refs/heads\n\thideRefs = !refs/tags\n\
         # Buildpacks are fetched from repositories of other users, such as an operator's own.\n\
         [safe]\n\tdirectory = *\n\
         [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
         [pack]\n\twindowMemory = 128m\n"
    )
}

/// Writes settings and hook, each atomically.
pub(super) async fn write(home: &Path, version: (u32, u32), max_push_bytes: u64) -> Result<()> {
    let hooks = home.join("hooks");
    fs::create_dir_all(&hooks).await.map_err(failed("create", &hooks))?;
    fs::set_permissions(&hooks, PermissionsExt::from_mode(0o755)).await.map_err(failed("create", &hooks))?;
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
    fn versions_of_all_distributions_are_parsed() {
        assert_eq!(version("git version 2.39.5"), Some((2, 39)));
        assert_eq!(version("git version 2.29.rc1"), Some((2, 29)));
        assert_eq!(version("git version 2.47.1.windows.1"), Some((2, 47)));
        assert_eq!(version("nonsense"), None);
    }

    #[test]
    fn quotes_in_the_path_of_a_folder_are_escaped() {
        let written = text(Path::new("/a\"b\\c"), (2, 39), 7);
        assert!(written.contains("hooksPath = \"/a\\\"b\\\\c\"\n\tfsync = all\n"), "{written}");
        assert!(text(Path::new("/"), (2, 30), 7).contains("fsyncObjectFiles"));
    }
}
