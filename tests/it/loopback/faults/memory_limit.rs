//! Content far larger than memory: each process runs in its own control group. Needs root.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::loopback::{DEADLINE, Fixture, Seed, exit_code, own_address};
use crate::support::process::Running;

const LEN: u64 = 384 << 20;
const MEMORY: u64 = 48 << 20;

/// A control group of [`MEMORY`] bytes, page cache included, which is removed on drop.
struct Group {
    folder: PathBuf,
    /// The key in `memory.stat` for dirty pages.
    dirty: &'static str,
}

impl Group {
    fn new() -> Self {
        let name = format!("bt-fast-{}-{}", std::process::id(), fastrand::u32(..));
        let (root, limit, dirty) = if fs::exists("/sys/fs/cgroup/memory/cgroup.procs").unwrap() {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "total_dirty")
        } else {
            fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").unwrap();
            ("/sys/fs/cgroup", "memory.max", "file_dirty")
        };
        let folder = PathBuf::from(root).join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(limit), MEMORY.to_string()).unwrap();
        Self { folder, dirty }
    }

    fn command(&self, of: &Command) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0"; exec "$@""#]).arg(self.folder.join("cgroup.procs"));
        command.arg(of.get_program()).args(of.get_args());
        command
    }

    fn dirty_len(&self) -> u64 {
        let stat = fs::read_to_string(self.folder.join("memory.stat")).unwrap();
        let value = stat.lines().find_map(|line| line.strip_prefix(self.dirty)?.trim().parse().ok());
        value.expect("a count of dirty pages")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Removal fails until the kernel has noticed that the last process has ended.
        let until = Instant::now() + DEADLINE;
        while fs::remove_dir(&self.folder).is_err() && Instant::now() < until {
            sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn content_far_larger_than_memory_is_transferred() {
    let fixture = Fixture::file(LEN);
    let group = Group::new();
    let seed = {
        let address = own_address();
        let command = group.command(&fixture.seed_command(address));
        Seed::start(&command, address, &fixture.scratch.join("seed.log"))
    };
    for write in ["direct", "buffered"] {
        let group = Group::new();
        let target = fixture.scratch.folder(write);
        let mut get = fixture.get_command(&target, &[seed.address]);
        get.args(["--write", write]);
        let mut get = Running::start("get", &group.command(&get), &fixture.scratch.join("get.log"));
        let mut dirty_max = 0;
        while get.is_running() {
            dirty_max = group.dirty_len().max(dirty_max);
            sleep(Duration::from_millis(20));
        }
        assert_eq!(exit_code(&mut get, DEADLINE), Some(0), "{write}: {}", get.log_tail());
        fixture.assert_complete(&target);
        assert!(dirty_max <= MEMORY / 2, "{write}: {dirty_max} bytes were dirty");
        fs::remove_dir_all(target).unwrap();
    }
    seed.stop();
}
