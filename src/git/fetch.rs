//! Fetches a commit of a remote repository, without its history, into a temporary repository.

use std::{net::IpAddr, path::PathBuf};

use tokio::process::Command;

use super::{
    command::output_in,
    error::{GitError, Result},
    repositories::Repositories,
    repository::Repository,
    settings,
    source::Source,
};
use crate::model::{Address, Files, host_and_port};

/// Oldest version of git with the option `http.curloptResolve`.
const RESOLVE_VERSION: (u32, u32) = (2, 37);

/// Which remote repositories may be fetched.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Any, by any protocol: an operator named the URL.
    Any,
    /// Over HTTP only, and only from these addresses: the host was resolved to them, and they were checked.
    At(Vec<IpAddr>),
}

/// The option that makes git use these addresses for the host of a URL, instead of resolving it again (git 2.37 and later).
fn resolve_option(url: &str, addresses: &[IpAddr]) -> Option<String> {
    let (host, port) = host_and_port(url)?;
    let port = port.unwrap_or(if url.starts_with("https:") { "443" } else { "80" });
    let addresses: Vec<_> = addresses
        .iter()
        .map(|address| if address.is_ipv6() { format!("[{address}]") } else { address.to_string() })
        .collect();
    Some(format!("http.curloptResolve={host}:{port}:{}", addresses.join(",")))
}

/// Limits a command of git to the protocols and addresses that may be fetched from; it is followed by more arguments.
pub(super) async fn pin_addresses(
    repositories: &Repositories,
    command: &mut Command,
    url: &Address,
    from: &Origin,
) -> Result<()> {
    match from {
        Origin::Any => {
            command.env("GIT_ALLOW_PROTOCOL", "https:http:git:file:ssh");
        }
        Origin::At(addresses) => {
            let failed = |message: &str| GitError::Fetch { url: url.clone(), message: message.to_owned() };
            if !["https://", "http://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
                return Err(failed("only https:// and http:// are allowed for a developer's key"));
            }
            let version = repositories.git(repositories.dir(), ["--version"]).await?;
            if settings::version(version.trim()).is_none_or(|version| version < RESOLVE_VERSION) {
                return Err(failed("the server's git is older than 2.37, so only an admin may use this URL"));
            }
            let option = resolve_option(url.expose(), addresses).filter(|_| !addresses.is_empty());
            let option = option.ok_or_else(|| failed("its host cannot be resolved"))?;
            command.env("GIT_ALLOW_PROTOCOL", "https:http").args(["-c", &option]);
            // A redirection could lead to an address that was not checked.
            command.args(["-c", "http.followRedirects=false"]);
        }
    }
    Ok(())
}

/// A fetched commit. Its temporary repository is removed when this is dropped.
#[derive(Debug)]
pub struct Fetched {
    folder: PathBuf,
    /// Files of the commit.
    pub source: Source,
}

impl Drop for Fetched {
    fn drop(&mut self) {
        let folder = std::mem::take(&mut self.folder);
        // If this fails, the next start of the server removes the folder, because its name contains `.new-`.
        std::thread::spawn(move || std::fs::remove_dir_all(folder));
    }
}

impl Repositories {
    /// Fetches a branch, tag or commit (by default, the default branch) and reads its files, or those of one folder.
    pub async fn fetch(
        &self,
        url: &Address,
        reference: Option<&str>,
        folder: Option<&str>,
        from: &Origin,
    ) -> Result<Fetched> {
        let path = self.dir().join(format!("fetched.new-{:016x}", rand::random::<u64>()));
        self.init(&path).await?;
        let name = "fetched".parse().map_err(|_| GitError::Unexpected("fetched".to_owned()))?;
        let repository = Repository { path: path.clone(), ..self.get(&name) };
        match self.fetch_into(&repository, url, reference, folder, from).await {
            Ok(source) => Ok(Fetched { folder: path, source }),
            Err(error) => {
                let _ = tokio::fs::remove_dir_all(path).await;
                Err(error)
            }
        }
    }

    async fn fetch_into(
        &self,
        repository: &Repository,
        url: &Address,
        reference: Option<&str>,
        folder: Option<&str>,
        from: &Origin,
    ) -> Result<Source> {
        let group = self.group().await;
        let mut command = self.gated_command(repository.path());
        pin_addresses(self, &mut command, url, from).await?;
        command.args([
            "-c",
            "safe.directory=*",
            "-c",
            "fetch.fsckObjects=true",
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--",
        ]);
        command.args([url.expose(), reference.unwrap_or("HEAD")]);
        output_in(&group, "fetch", command).await.map_err(|error| match error {
            GitError::Command { message, .. } => GitError::Fetch { url: url.clone(), message: url.hide_in(&message) },
            other => other,
        })?;
        let reader = repository.reader_in(&group);
        let commit = reader.fetched().await?;
        reader.source_tar(&commit, folder, &Files::All).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_uses_the_addresses_to_which_the_host_was_resolved() {
        let addresses = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        for (url, host) in [
            ("https://a.org/x.git", "a.org:443"),
            ("http://a.org/x.git", "a.org:80"),
            ("https://me:pw@a.org:8443/x.git", "a.org:8443"),
            ("http://[2001:db8::7]/x.git", "[2001:db8::7]:80"),
            ("http://[2001:db8::7]:81/x.git", "[2001:db8::7]:81"),
        ] {
            let expected = format!("http.curloptResolve={host}:192.0.2.7,[2001:db8::7]");
            assert_eq!(resolve_option(url, &addresses).as_deref(), Some(expected.as_str()), "{url}");
        }
        assert_eq!(resolve_option("nonsense", &addresses), None);
    }
}
