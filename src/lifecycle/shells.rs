//! Names of programs, above all of shells.

const SHELLS: [&str; 11] = ["sh", "bash", "rbash", "dash", "ash", "busybox", "zsh", "ksh", "ksh93", "mksh", "fish"];

/// Whether the program of this path is a shell.
pub(super) fn is_shell(path: &str) -> bool {
    SHELLS.contains(&file_name(path))
}

/// The last part of a path.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_known_by_its_name() {
        assert!(is_shell("sh") && is_shell("/usr/local/bin/bash") && !is_shell("/bin/sh/x") && !is_shell(""));
    }
}
