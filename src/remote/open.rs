//! `paas open`: the URL of an app in a browser.

use std::{
    env,
    process::{Command, Output, Stdio},
};

use super::{error::RemoteError, place::Place};

/// Runs a command and returns its output; what it says on standard error is shown. `here` is this program, for this machine's
/// server.
pub fn output(place: Place, mut here: Command) -> Result<Output, RemoteError> {
    match place {
        Place::Remote(command) => command.output(),
        Place::Here(words) => {
            let started = here.args(words).stderr(Stdio::inherit()).output();
            started.map_err(|source| RemoteError::Start { program: "paas".to_owned(), source })
        }
    }
}

/// The first URL of what `url` prints.
///
/// # Errors
///
/// If there is none.
pub fn first_url(printed: &str) -> Result<&str, RemoteError> {
    // Only what a browser opens as a page: the server may be anybody's.
    let is_url = |word: &&str| word.starts_with("http://") || word.starts_with("https://");
    printed.split_whitespace().find(is_url).ok_or(RemoteError::NoUrl)
}

/// Opens a URL, if there is a display.
pub fn show(url: &str) -> Result<(), RemoteError> {
    if env::var_os("DISPLAY").or_else(|| env::var_os("WAYLAND_DISPLAY")).is_none_or(|display| display.is_empty()) {
        return Ok(());
    }
    let mut command = Command::new("xdg-open");
    let opened = command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).status();
    opened.map(drop).map_err(|source| RemoteError::Start { program: "xdg-open".to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_are_opened() {
        assert_eq!(first_url("http://host:10000\nhttp://host:10001\n").unwrap(), "http://host:10000");
        assert!(first_url("file:///etc/passwd --version").is_err() && first_url("").is_err());
    }
}
