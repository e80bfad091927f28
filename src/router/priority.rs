//! The priority of the router among all processes: every request of every app waits for it, and it takes little time itself.

use std::{fs, io, path::Path, process};

/// Nice value, from -20 to 19: about nine times the weight of another process.
const NICE: i32 = -10;

/// Raises the priority of this process, and of the threads that it starts from now on. That needs CAP_SYS_NICE, which root has
/// outside of a container; a refusal is logged.
pub fn raise_priority() {
    if let Err(error) = raise(Path::new("/proc/self")) {
        tracing::info!(%error, "the router has no higher priority: when all CPUs are busy, requests wait for other processes");
    }
}

fn raise(own: &Path) -> io::Result<()> {
    rustix::process::setpriority_process(None, NICE)?;
    let autogroup = own.join("autogroup");
    // Kernels with autogroups (sched(7)) compare whole sessions outside of control groups. That of a shell is not ours alone.
    if autogroup.exists() && session(&fs::read_to_string(own.join("stat"))?) == Some(process::id()) {
        fs::write(autogroup, NICE.to_string())?;
    }
    Ok(())
}

/// The session of a process, by its `stat` (proc(5)); 0 if its leader is in another process namespace.
fn session(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_read() {
        assert_eq!(session("7 (a ) 9 b) S 1 7 6 0 -1"), Some(6));
        assert_eq!(session("7 (a"), None);
    }

    #[test]
    fn the_priority_is_raised() {
        // That of one thread: the other tests keep theirs.
        std::thread::spawn(|| {
            raise(Path::new("/none")).unwrap();
            raise(Path::new("/proc/self")).unwrap();
            assert_eq!(rustix::process::getpriority_process(None).unwrap(), NICE);
        })
        .join()
        .unwrap();
    }
}
