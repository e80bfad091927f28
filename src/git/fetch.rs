//! The files of somebody else's repository: fetched by git's own user, without history, into a repository that goes
//! with its handle.

use std::{net::IpAddr, path::PathBuf};

use super::{GitError, Repositories, Repository, Result, Source, finish, settings, source};
use crate::model::Files;

/// The oldest git that can be told a host's addresses.
const PINS: (u32, u32) = (2, 37);

/// Where a URL may lead.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Anywhere, by any protocol: an operator named it.
    Any,
    /// To these addresses only, which were looked up once and found harmless; over HTTP, where git can be told.
    At(Vec<IpAddr>),
}

/// The host of `scheme://user@host:port/path`, an IPv6 address in its brackets, and the port if it names one.
pub fn host_and_port(url: &str) -> Option<(&str, Option<&str>)> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    Some(match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    })
}

/// The option that makes git take these addresses for the host of a URL, whatever its name server says by now (git 2.37
/// and later know it).
fn pinned(url: &str, addresses: &[IpAddr]) -> Option<String> {
    let (host, port) = host_and_port(url)?;
    let port = port.unwrap_or(if url.starts_with("https:") { "443" } else { "80" });
    let addresses: Vec<_> = addresses
        .iter()
        .map(|address| if address.is_ipv6() { format!("[{address}]") } else { address.to_string() })
        .collect();
    Some(format!("http.curloptResolve={host}:{port}:{}", addresses.join(",")))
}

/// A fetched commit, until it is dropped.
#[derive(Debug)]
pub struct Fetched {
    folder: PathBuf,
    /// Its files.
    pub source: Source,
}

impl Drop for Fetched {
    fn drop(&mut self) {
        let folder = std::mem::take(&mut self.folder);
        // What is not removed now is removed at the next start: its name says that it is unfinished.
        std::thread::spawn(move || std::fs::remove_dir_all(folder));
    }
}

impl Repositories {
    /// Fetches a branch, tag or commit (the default branch without one), and reads its files, or those of a folder.
    pub async fn fetch(
        &self,
        url: &str,
        reference: Option<&str>,
        folder: Option<&str>,
        from: &Origin,
    ) -> Result<Fetched> {
        let path = self.0.dir.join(format!("fetched.new-{:016x}", rand::random::<u64>()));
        self.init(&path).await?;
        // From here on the folder goes whatever happens.
        let name = "fetched".parse().map_err(|_| GitError::Unexpected("fetched".to_owned()))?;
        let repository = Repository { repositories: self.clone(), app: name, path: path.clone() };
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
        url: &str,
        reference: Option<&str>,
        folder: Option<&str>,
        from: &Origin,
    ) -> Result<Source> {
        let mut command = repository.command();
        match from {
            Origin::Any => {
                command.env("GIT_ALLOW_PROTOCOL", "https:http:git:file:ssh");
            }
            Origin::At(addresses) => {
                let wrong = |message: &str| GitError::Fetch { url: url.to_owned(), message: message.to_owned() };
                if !["https://", "http://"].iter().any(|scheme| url.starts_with(scheme)) {
                    return Err(wrong("only https:// and http:// are allowed to a developer's key"));
                }
                let version = self.git(&self.0.dir, ["--version"]).await?;
                if settings::version(version.trim()).is_none_or(|version| version < PINS) {
                    return Err(wrong("the server's git is older than 2.37, so only an admin key may name it"));
                }
                let pinned = pinned(url, addresses).filter(|_| !addresses.is_empty());
                let pinned = pinned.ok_or_else(|| wrong("its host is not known"))?;
                command.env("GIT_ALLOW_PROTOCOL", "https:http").args(["-c", &pinned]);
                // A redirection could lead to what may not be named.
                command.args(["-c", "http.followRedirects=false"]);
            }
        }
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
        command.args([url, reference.unwrap_or("HEAD")]);
        finish(command).await.map_err(|error| match error {
            GitError::Command { message, .. } => GitError::Fetch { url: url.to_owned(), message },
            other => other,
        })?;
        let commit = repository.git(&["rev-parse", "--verify", "FETCH_HEAD^{commit}"]).await?;
        let commit = commit.trim().parse().map_err(|_| GitError::Unexpected(commit.clone()))?;
        source::open(repository, &commit, folder, &Files::All).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_keeps_the_addresses_that_were_looked_up() {
        let addresses = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        for (url, host) in [
            ("https://a.org/x.git", "a.org:443"),
            ("http://a.org/x.git", "a.org:80"),
            ("https://me:pw@a.org:8443/x.git", "a.org:8443"),
            ("http://[2001:db8::7]/x.git", "[2001:db8::7]:80"),
            ("http://[2001:db8::7]:81/x.git", "[2001:db8::7]:81"),
        ] {
            let expected = format!("http.curloptResolve={host}:192.0.2.7,[2001:db8::7]");
            assert_eq!(pinned(url, &addresses).as_deref(), Some(expected.as_str()), "{url}");
        }
        assert_eq!(pinned("nonsense", &addresses), None);
    }
}
