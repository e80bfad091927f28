//! Fetches a commit of a remote repository, with its history, into the repository of an app.

use super::{
    error::{GitError, Result},
    fetch::{Origin, pin_addresses},
    groups::Group,
    import::RunningGroup,
    reader::Reader,
    repository::Repository,
};
use crate::model::{Address, CommitId, Line, RemoteUrl};
use tokio::io::AsyncWriteExt as _;

/// Unit in which a shell limits the size of files (POSIX, `ulimit`).
const BLOCK_BYTES: u64 = 512;

/// A script that starts its arguments when a line arrives on standard input, with a limit of the size of files, in blocks.
const LIMITED_GATE: &str = "ulimit -f \"$1\" && shift && read -r _ && exec \"$@\"";

impl Repository {
    /// Fetches a branch, tag or commit, by default what the remote repository's HEAD is. No ref leads to it: the caller protects
    /// the objects meanwhile. `None` if the pack is larger than allowed.
    pub async fn fetch_history(
        &self,
        group: &Group,
        reader: &Reader,
        url: &RemoteUrl,
        reference: Option<&str>,
        from: &Origin,
        max_pack_bytes: u64,
    ) -> Result<Option<CommitId>> {
        let address = Address::new(url.as_str());
        let failed = |message: String| GitError::Fetch { url: address.clone(), message };
        let mut command = self.repositories.child("sh", &self.path);
        let blocks = (max_pack_bytes / BLOCK_BYTES).max(1);
        command.args(["-c", LIMITED_GATE, "sh", &blocks.to_string(), "git"]);
        pin_addresses(&self.repositories, &mut command, &address, from).await?;
        for setting in [
            "fetch.fsckObjects=true",
            "fetch.unpackLimit=1",
            // A server that sends nothing.
            "http.lowSpeedLimit=1000",
            "http.lowSpeedTime=60",
        ] {
            command.args(["-c", setting]);
        }
        command.args(["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--"]);
        command.args([url.as_str(), reference.unwrap_or("HEAD")]);
        // One at a time: git notes what it has fetched in one file.
        let usage = self.repositories.usage(&self.app);
        let _alone = usage.fetching.lock().await;
        let before = self.size().await?;
        let (mut child, mut joining) = group.spawn(&mut command).map_err(GitError::Start)?;
        let mut running = RunningGroup::of(&child);
        joining.wait().await;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(b"\n").await.map_err(GitError::Start)?;
        }
        let output = child.wait_with_output().await.map_err(GitError::Start)?;
        running.has_ended();
        if output.status.success() {
            return reader.fetched().await.map(Some);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        if let Some(exceeded) = group.exceeded() {
            return Err(failed(exceeded.to_string()));
        }
        // git does not tell that its `index-pack` was killed for the size of the pack, of which it leaves the beginning.
        if self.size().await?.saturating_sub(before) >= blocks * BLOCK_BYTES {
            return Ok(None);
        }
        Err(failed(address.hide_in(&Line::sanitize(&reason(&text)))))
    }
}

/// The line of git's error messages that tells the reason.
fn reason(stderr: &str) -> String {
    let lines = || stderr.lines().filter(|line| !line.trim().is_empty());
    let remote = lines().find_map(|line| line.strip_prefix("remote: ").or_else(|| line.strip_prefix("paas: ")));
    let fatal = lines().find_map(|line| line.strip_prefix("fatal: "));
    match (remote, fatal) {
        // What the remote, or the SSH client, said is the cause of what git says.
        (Some(remote), Some(fatal)) if fatal.starts_with("Could not read from remote") => remote.to_owned(),
        (_, Some(fatal)) => fatal.to_owned(),
        (remote, None) => remote.or_else(|| lines().next_back()).unwrap_or("no error message").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_in_what_git_prints() {
        for (stderr, expected) in [
            ("fatal: couldn't find remote ref nope\n", "couldn't find remote ref nope"),
            ("remote: no such app\nfatal: Could not read from remote repository.\n\nPlease make sure\n", "no such app"),
            (
                "paas: the host key has changed\nfatal: Could not read from remote repository.\n",
                "the host key has changed",
            ),
            ("", "no error message"),
        ] {
            assert_eq!(reason(stderr), expected);
        }
    }
}
