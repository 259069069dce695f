//! Control groups with a limit on memory or on processes. They need root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

const DEADLINE: Duration = Duration::from_secs(60);

/// A control group with a limit, which is removed on drop.
pub(crate) struct ControlGroup {
    /// The mount point of the hierarchy.
    root: PathBuf,
    folder: PathBuf,
    /// The hierarchy is of the first version, with a mount point for each resource.
    is_old: bool,
}

impl ControlGroup {
    /// Creates a group of at most `bytes` of memory, page cache included.
    pub(crate) fn new(bytes: u64) -> Self {
        Self::limited("memory", ["memory.limit_in_bytes", "memory.max"], bytes)
    }

    /// Creates a group of at most `count` processes and threads.
    pub(crate) fn of_processes(count: u64) -> Self {
        Self::limited("pids", ["pids.max", "pids.max"], count)
    }

    /// `names` are those of the limit in the two versions of control groups.
    fn limited(resource: &str, names: [&str; 2], limit: u64) -> Self {
        let own = Path::new("/sys/fs/cgroup").join(resource);
        let is_old = own.join("cgroup.procs").exists();
        let root = if is_old {
            own
        } else {
            fs::write("/sys/fs/cgroup/cgroup.subtree_control", format!("+{resource}")).unwrap();
            "/sys/fs/cgroup".into()
        };
        let folder = root.join(format!("bt-fast-{}-{}", std::process::id(), fastrand::u32(..)));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(names[usize::from(!is_old)]), limit.to_string()).unwrap();
        Self { root, folder, is_old }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns `command`, run in this group.
    pub(crate) fn command(&self, of: &Command) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0"; exec "$@""#]).arg(self.folder.join("cgroup.procs"));
        command.arg(of.get_program()).args(of.get_args());
        command
    }

    pub(crate) fn dirty_len(&self) -> u64 {
        let stat = fs::read_to_string(self.folder.join("memory.stat")).unwrap();
        let key = if self.is_old { "total_dirty" } else { "file_dirty" };
        let value = stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        value.expect("a count of dirty pages")
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // Removal fails until the kernel has noticed that the last process has ended.
        let until = Instant::now() + DEADLINE;
        while fs::remove_dir(&self.folder).is_err() && Instant::now() < until {
            sleep(Duration::from_millis(20));
        }
    }
}
