//! Starts with a low limit of descriptors.

use std::{process::Command, time::Duration};

use crate::loopback::{DEADLINE, Fixture, assert_fails, own_address, own_ip};
use crate::support::{
    bt_fast,
    process::{Finished, Running, run, wait_until},
};

const LEN: u64 = 1 << 20;
/// The time in which a command starts that has enough descriptors.
const START: Duration = Duration::from_millis(700);

fn limited(command: &Command, count: u32) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--nofile={count}:{count}")).arg(command.get_program()).args(command.get_args());
    limited
}

#[test]
fn auto_runs_wherever_plain_does() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let get = |driver: &str, count: u32| -> Finished {
        let target = fixture.scratch.folder(&format!("target {driver} {count}"));
        let mut get = fixture.get_command(&target, &[seed.address]);
        get.args(["--rings", "2", "--timeout", "2", "--io", driver]);
        run(&limited(&get, count), DEADLINE)
    };
    let least = (16..40).find(|&count| get("plain", count).code == Some(0)).expect("plain works with 40");
    assert_fails(&get("ring", least + 1), 1, "ulimit -n");
    // The threads race for the last descriptor.
    for count in (least + 1)..(least + 8) {
        let finished = get("auto", count);
        assert_eq!(finished.code, Some(0), "{count}: {finished:#?}");
        let note = "which may be slower: io_uring: Too many open files (os error 24): raise the limit with 'ulimit -n'";
        assert!(finished.stderr.contains(note), "{count}: {finished:#?}");
    }
    assert_eq!(get("auto", 100).stderr.matches("using epoll").count(), 0);
    seed.stop();
}

/// With each limit a server either runs or ends with one line.
#[test]
fn servers_without_descriptors_fail_in_one_line() {
    let fixture = Fixture::file(LEN);
    let mut track = bt_fast();
    track.args(["track", "--open", "--listen", &own_address().to_string()]);
    let mut seed = fixture.seed_command(own_address());
    seed.args(["--web", &format!("{}:7100", own_ip()), "--admin", "off"]);
    for (name, command) in [("track", track), ("seed", seed)] {
        for count in 4..24 {
            let log = fixture.scratch.join(name);
            let mut process = Running::start(name, &limited(&command, count), &log);
            wait_until(START, || !process.is_running());
            if process.is_running() {
                continue;
            }
            let status = process.wait(DEADLINE).unwrap();
            let output = process.output();
            let lines = output.lines().filter(|line| line.starts_with("bt-fast: ")).count();
            assert_eq!((status.code(), lines), (Some(1), 1), "{name} {count}: {output}");
            assert!(!output.contains("panicked"), "{name} {count}: {output}");
            if output.contains("can't listen") {
                assert!(output.contains("'ulimit -n'"), "{name} {count}: {output}");
            }
        }
    }
}
