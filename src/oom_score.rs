//! What the kernel kills first when the machine is out of memory: builds, then archivers, then instances, then what the server has
//! started, and the server and the router last (`oom_score_adj`, proc(5)).

use std::{fs, io, path::Path};

/// A score: the higher, the earlier the process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomScore {
    /// The router: without it no app answers.
    Router,
    /// The server.
    Server,
    /// A process without a preference.
    Ordinary,
    /// An instance or a task.
    Instance,
    /// The `tar` of a volume that is exported or imported.
    Archiver,
    /// A build.
    Build,
}

impl OomScore {
    /// The value of `oom_score_adj`, from -1000 to 1000.
    pub fn value(self) -> i16 {
        match self {
            Self::Router => -950,
            Self::Server => -900,
            Self::Ordinary => 0,
            Self::Instance => 300,
            Self::Archiver => 500,
            Self::Build => 600,
        }
    }

    /// Sets the score of this process, if it runs as root. A refusal, as in a container without CAP_SYS_RESOURCE, is logged.
    pub fn apply(self) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        if let Err(error) = self.write(Path::new("/proc/self/oom_score_adj")) {
            let score = self.value();
            tracing::warn!(%error, score, "cannot set oom_score_adj: this process may be killed before apps and builds");
        }
    }

    /// Sets the score of a child that was just started, and which has inherited that of this process.
    pub fn apply_to(self, child: Option<u32>) {
        let Some(child) = child else { return };
        if let Err(error) = self.write(Path::new(&format!("/proc/{child}/oom_score_adj"))) {
            // It may have ended already, or be another user's if this process is not root and has no score to pass on.
            tracing::trace!(%error, child, "cannot set oom_score_adj of a child");
        }
    }

    fn write(self, path: &Path) -> io::Result<()> {
        fs::write(path, self.value().to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_gets_its_score() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        // Every process may raise that of its own children.
        OomScore::Build.apply_to(Some(child.id()));
        let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(score.trim(), "600");
    }

    #[test]
    fn who_serves_everybody_is_killed_last() {
        use OomScore as S;
        let order = [S::Router, S::Server, S::Ordinary, S::Instance, S::Archiver, S::Build];
        assert!(order.map(S::value).is_sorted());
    }
}
