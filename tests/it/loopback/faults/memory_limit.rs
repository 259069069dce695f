//! Content far larger than memory: each process runs in its own control group. Needs root.

use std::{fs, thread::sleep, time::Duration};

use crate::loopback::{DEADLINE, Fixture, Seed, exit_code, own_address};
use crate::support::{control_group::ControlGroup, process::Running};

const LEN: u64 = 384 << 20;
/// Memory of each process, page cache included.
const MEMORY: u64 = 48 << 20;

#[test]
fn content_far_larger_than_memory_is_transferred() {
    let fixture = Fixture::file(LEN);
    let group = ControlGroup::new(MEMORY);
    let seed = {
        let address = own_address();
        let command = group.command(&fixture.seed_command(address));
        Seed::start(&command, address, &fixture.scratch.join("seed.log"))
    };
    for write in ["direct", "buffered"] {
        let group = ControlGroup::new(MEMORY);
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
