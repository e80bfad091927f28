//! The git remotes of the folder in which one stands.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::{address::RemoteAddress, error::RemoteError, remotes::RemoteName};
use crate::model::AppName;

/// A git remote: its name, and the URL to which it pushes.
pub(super) type GitRemote = (String, String);

/// The git remotes of a folder; none if it is not in a work tree, or if there is no git.
pub(super) fn list(folder: &Path) -> Vec<GitRemote> {
    let listed = Command::new("git").args(["remote", "-v"]).current_dir(folder).stderr(Stdio::null()).output();
    match listed {
        Ok(listed) if listed.status.success() => parse(&String::from_utf8_lossy(&listed.stdout)),
        Ok(_) | Err(_) => Vec::new(),
    }
}

fn parse(listed: &str) -> Vec<GitRemote> {
    let remote = |line: &str| {
        let (name, url) = line.strip_suffix(" (push)")?.split_once('\t')?;
        Some((name.to_owned(), url.to_owned()))
    };
    listed.lines().filter_map(remote).collect()
}

/// The app on a server to which the git remotes lead, with the name of the git remote. Of several, the one that has the name of
/// the server.
///
/// # Errors
///
/// If they lead to several apps.
pub(super) fn app(
    remotes: &[GitRemote],
    server: &RemoteName,
    address: &RemoteAddress,
) -> Result<Option<(String, AppName)>, RemoteError> {
    let app_of = |(name, url): &GitRemote| {
        let (place, path) = RemoteAddress::of_git_url(url)?;
        let path = path.strip_prefix("~/").unwrap_or(path).trim_matches('/');
        let app = path.strip_suffix(".git").unwrap_or(path).parse().ok()?;
        place.is_same_server(address).then(|| (name.clone(), app))
    };
    let mut found: Vec<(String, AppName)> = remotes.iter().filter_map(app_of).collect();
    if let Some(at) = found.iter().position(|(name, _)| *name == server.to_string()) {
        return Ok(Some(found.swap_remove(at)));
    }
    found.sort_by(|(_, a), (_, b)| a.cmp(b));
    found.dedup_by(|(_, a), (_, b)| a == b);
    if found.len() > 1 {
        let apps: Vec<_> = found.iter().map(|(_, app)| app.as_str()).collect();
        return Err(RemoteError::SeveralApps(apps.join(", ")));
    }
    Ok(found.pop())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_is_that_of_the_git_remote_that_leads_to_the_server() {
        let listed = "origin\thttps://example.com/x (fetch)\norigin\thttps://example.com/x (push)\n\
                      paas\tssh://paas@host:2222/shop (fetch) [blob:none]\npaas\tssh://paas@host:2222/shop (push)\n\
                      again\tssh://host:2222/shop.git (push)\nother\tssh://paas@host/other (push)\n";
        let mut remotes = parse(listed);
        assert_eq!(remotes.len(), 4);
        let found = |remotes: &[GitRemote], address: &str| {
            let found = app(remotes, &"prod".parse().unwrap(), &address.parse().unwrap());
            found.map(|found| found.map(|(_, app)| app.to_string())).map_err(|error| error.to_string())
        };
        assert_eq!(found(&remotes, "ssh://ann@host:2222"), Ok(Some("shop".to_owned())));
        assert_eq!(found(&remotes, "ssh://host"), Ok(Some("other".to_owned())));
        assert_eq!(found(&remotes, "ssh://elsewhere"), Ok(None));
        remotes.push(("staging".to_owned(), "ssh://host:2222/shop-staging".to_owned()));
        let error = found(&remotes, "ssh://host:2222").unwrap_err();
        assert_eq!(error, "the git remotes of this folder lead to the apps shop, shop-staging; name one with --app");
        remotes.push(("prod".to_owned(), "ssh://host:2222/shop-prod".to_owned()));
        assert_eq!(found(&remotes, "ssh://host:2222"), Ok(Some("shop-prod".to_owned())));
    }
}
