//! Control groups with a memory limit. They need root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

const DEADLINE: Duration = Duration::from_secs(60);

/// A control group with a limit on memory, page cache included, which is removed on drop.
pub(crate) struct ControlGroup {
    /// The mount point of the hierarchy.
    root: &'static Path,
    folder: PathBuf,
    /// The key in `memory.stat` for dirty pages.
    dirty: &'static str,
}

impl ControlGroup {
    /// Creates a group of at most `memory` bytes.
    pub(crate) fn new(memory: u64) -> Self {
        let name = format!("bt-fast-{}-{}", std::process::id(), fastrand::u32(..));
        let (root, limit, dirty) = if fs::exists("/sys/fs/cgroup/memory/cgroup.procs").unwrap() {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "total_dirty")
        } else {
            fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").unwrap();
            ("/sys/fs/cgroup", "memory.max", "file_dirty")
        };
        let (root, folder) = (Path::new(root), Path::new(root).join(name));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(limit), memory.to_string()).unwrap();
        Self { root, folder, dirty }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root
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
        let value = stat.lines().find_map(|line| line.strip_prefix(self.dirty)?.trim().parse().ok());
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
