//! Hierarchies of control groups, of version 1 and version 2.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long the processes of a group may take to end, or the engine to remove the group of a container.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// A mounted hierarchy of control groups.
#[derive(Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Mount point, which is the root group.
    pub root: PathBuf,
    /// Whether it is the hierarchy of version 2.
    pub unified: bool,
    /// Mount options, which name the controllers in version 1.
    options: String,
}

impl Hierarchy {
    /// Whether the hierarchy has a controller.
    pub fn controls(&self, controller: &str) -> bool {
        if self.unified {
            let controllers = fs::read_to_string(self.root.join("cgroup.controllers")).unwrap_or_default();
            return controllers.split_whitespace().any(|one| one == controller);
        }
        self.options.split(',').any(|one| one == controller)
    }

    /// Name of the controller for block I/O in this version.
    pub fn io_controller(&self) -> &'static str {
        if self.unified { "io" } else { "blkio" }
    }

    /// Whether the root is that of the machine. Below the root of a container, the engine would not find our group.
    pub fn is_of_the_machine(&self) -> bool {
        if self.unified { !self.root.join("cgroup.type").exists() } else { self.root.join("release_agent").exists() }
    }

    /// Creates a group below the root, unless it exists; returns its folder.
    pub fn create_group(&self, name: &str) -> io::Result<PathBuf> {
        self.delegate(&self.root);
        Self::create_below(&self.root, name)
    }

    /// Creates a group below another one, unless it exists; returns its folder.
    pub fn create_below(group: &Path, name: &str) -> io::Result<PathBuf> {
        let folder = group.join(name);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(folder),
        }
    }

    /// Enables the controllers that are used for the groups below a group: in version 2, those that are not enabled have no
    /// files there.
    pub fn delegate(&self, group: &Path) {
        if self.unified {
            for controller in ["+cpu", "+io", "+memory", "+pids"] {
                let _ = fs::write(group.join("cgroup.subtree_control"), controller);
            }
        }
    }
}

/// The machine's hierarchy with a controller.
pub fn of_the_machine<'a>(hierarchies: &'a [Hierarchy], controller: &str) -> Option<&'a Hierarchy> {
    hierarchies.iter().find(|hierarchy| hierarchy.controls(controller) && hierarchy.is_of_the_machine())
}

/// Removes a group, if it exists and no process is in it. Blocks for up to [`BUSY_TIMEOUT`] while its last processes end.
pub fn remove_group(folder: &Path) {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    while fs::remove_dir(folder).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
        && Instant::now() < deadline
    {
        std::thread::sleep(BUSY_TIMEOUT / 40);
    }
}

/// Removes a group and those below it, as [`remove_group`] does. Most hierarchies have no group of a name. Blocks.
pub fn remove_group_and_below(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for below in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_group(&below.path());
    }
    remove_group(folder);
}

/// Hierarchies in a table of mounts (proc(5)).
pub fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (root, kind, options) = (words.next()?, words.next()?, words.next()?);
        let unified = kind == "cgroup2";
        let root = Path::new(root).to_owned();
        (unified || kind == "cgroup").then(|| Hierarchy { root, unified, options: options.to_owned() })
    });
    mounts.collect()
}
