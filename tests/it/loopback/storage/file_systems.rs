//! File systems in loop-mounted images: power cuts, freezes, hangs, and coherence of writes with mapped reads.
//! Needs root.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use crate::loopback::{
    DEADLINE, DRIVER, Fixture, NAME, Seed, event, exit_code, failures,
    faults::killed::{assert_claims, assert_no_litter},
    own_address,
};
use crate::support::{
    bt_fast,
    process::{Finished, Running, run, wait_until},
};
use rustix::process::{Pid, Signal, kill_process};

test_on_both_drivers!(
    a_frozen_file_system_delays_a_download,
    a_hung_file_system_blocks_only_its_own_torrents,
    a_hung_file_system_does_not_delay_shutdown,
    writes_are_seen_through_maps,
);

/// Runs a shell script that can call `get`, which downloads into `$TARGET`, and `get_again`, which downloads the same
/// torrent from the first downloader into `$COPY`. Mounts vanish with the script.
struct Stage<'a> {
    fixture: &'a Fixture,
    target: PathBuf,
    kept: PathBuf,
    copy: PathBuf,
}

impl<'a> Stage<'a> {
    fn new(fixture: &'a Fixture) -> Self {
        let [target, kept, copy] = ["target", "kept", "copy"].map(|name| fixture.scratch.folder(name));
        Self { fixture, target, kept, copy }
    }

    /// Runs the script with `$IMAGE`, the path of a file for a file system to be mounted at `$TARGET`.
    fn run(&self, seed: &Seed, script: &str) -> Finished {
        let words = |command: &Command| {
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            words.map(|word| format!("'{}'", word.display())).collect::<Vec<_>>().join(" ")
        };
        let get = self.fixture.get_command(&self.target, &[seed.address]);
        let listens_at = get.get_args().skip_while(|arg| *arg != "--listen").nth(1).unwrap();
        let first: SocketAddr = listens_at.to_str().unwrap().parse().unwrap();
        let (get, again) = (words(&get), words(&self.fixture.get_command(&self.copy, &[first])));
        let script = format!("get() {{ {get} \"$@\"; }}\nget_again() {{ {again}; }}\n{script}");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        command.env("TARGET", &self.target).env("KEPT", &self.kept).env("SOURCE", self.fixture.source.join(NAME));
        command.env("IMAGE", self.fixture.scratch.join("image")).env("COPY", &self.copy);
        run(&command, DEADLINE)
    }
}

fn codes(finished: &Finished) -> Vec<&str> {
    finished.stdout.lines().filter(|line| line.starts_with("code ")).collect()
}

/// The file system is shut down without flushing its journal, as by a power cut.
#[test]
fn a_power_cut_loses_no_claimed_piece() {
    const LEN: u64 = 40 << 20;
    // Cut the power before the first checkpoint, after it, and during the next one.
    for seconds in ["1.3", "7", "10.2"] {
        let fixture = Fixture::file(LEN);
        let (seed, stage) = (fixture.seed(), Stage::new(&fixture));
        let script = format!(
            r#"truncate -s 128m "$IMAGE"; mkfs.ext4 -q -F "$IMAGE"; mount -o loop "$IMAGE" "$TARGET"
               get --down 3M & sleep {seconds}
               python3 -c 'import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack("I", 2))' "$TARGET"
               wait $!; echo "code $?"
               umount "$TARGET"; mount -o loop "$IMAGE" "$TARGET"; cp -a "$TARGET/." "$KEPT"
               get; echo "code $?"; cmp "$SOURCE" "$TARGET/{NAME}" && echo equal"#
        );
        let finished = stage.run(&seed, &script);
        assert_eq!(codes(&finished), ["code 5", "code 0"], "{seconds}: {finished:#?}");
        assert!(finished.stdout.ends_with("equal\n"), "{seconds}: {finished:#?}");
        let claimed = assert_claims(&fixture, &stage.kept);
        assert_eq!(claimed > 0, seconds != "1.3", "{seconds}: {claimed} {finished:#?}");
        // Claimed pieces are not fetched again.
        let downloaded = event(&finished.stdout, "complete").unwrap()["downloaded"].as_u64().unwrap();
        let claimed_len = claimed as u64 * u64::from(fixture.metainfo.info.geometry.piece_len());
        assert!(downloaded <= LEN - claimed_len, "{seconds}: {downloaded}, {claimed} pieces were claimed");
        seed.stop();
    }
}

fn a_frozen_file_system_delays_a_download() {
    let fixture = Fixture::file(24 << 20);
    let (seed, stage) = (fixture.seed(), Stage::new(&fixture));
    let script = format!(
        r#"truncate -s 128m "$IMAGE"; mkfs.ext4 -q -F "$IMAGE"; mount -o loop "$IMAGE" "$TARGET"
           get --down 8M & sleep 1; fsfreeze --freeze "$TARGET"; sleep 3; fsfreeze --unfreeze "$TARGET"
           wait $!; echo "code $?"; cmp "$SOURCE" "$TARGET/{NAME}" && cp -a "$TARGET/." "$KEPT"; rm -r "$KEPT/lost+found""#
    );
    let finished = stage.run(&seed, &script);
    assert_eq!(codes(&finished), ["code 0"], "{finished:#?}");
    assert!(failures(&finished.stderr).is_empty(), "{finished:#?}");
    assert_no_litter(&stage.kept);
    seed.stop();
}

/// All calls to one of two file systems block: torrents on the other one are served, to new peers as well.
fn a_hung_file_system_blocks_only_its_own_torrents() {
    let (hung, other) = (Fixture::file(24 << 20), Fixture::file(4 << 20));
    let (seed, daemon, mut waiting) = hang(&hung, &other);
    (0..3).for_each(|_| other.get_by_peer(seed.address));
    assert!(waiting.is_running(), "{}", waiting.log_tail());
    daemon.signal(Signal::CONT);
    assert_eq!(exit_code(&mut waiting, DEADLINE), Some(0), "{}", waiting.log_tail());
    hung.assert_complete(&hung.scratch.join("target"));
    seed.stop();
}

fn a_hung_file_system_does_not_delay_shutdown() {
    let (hung, other) = (Fixture::file(24 << 20), Fixture::file(4 << 20));
    let (seed, _daemon, _waiting) = hang(&hung, &other);
    seed.stop();
}

/// Starts a seed of both torrents, hangs the file system of the first, and starts a download that waits for it.
fn hang(hung: &Fixture, other: &Fixture) -> (Seed, Daemon, Running) {
    for fixture in [hung, other] {
        fs::copy(&fixture.torrent, fixture.source.join("a.torrent")).unwrap();
    }
    let (mount, pid) = (hung.scratch.folder("mount"), hung.scratch.join("pid"));
    let mut seed = bt_fast();
    let address = own_address();
    seed.args(["seed", "--json", "--listen", &address.to_string()]);
    seed.args(DRIVER.get().iter().flat_map(|driver| ["--io", driver]));
    seed.arg(mount.join("a.torrent")).arg(other.source.join("a.torrent"));
    let script = r#"bindfs -f "$FROM" "$TO" & echo $! > "$PID"
        until mountpoint -q "$TO"; do sleep 0.02; done; exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(seed.get_program()).args(seed.get_args());
    command.env("FROM", &hung.source).env("TO", &mount).env("PID", &pid);
    let mut seed = Seed::start(&command, address, &hung.scratch.join("seed.log"));
    let all = || seed.process.output().matches("\"event\":\"seeding\"").count() == 2;
    assert!(wait_until(DEADLINE, all), "{}", seed.process.log_tail());

    let daemon = Daemon(Pid::from_raw(fs::read_to_string(&pid).unwrap().trim().parse().unwrap()).unwrap());
    daemon.signal(Signal::STOP);
    let target = hung.scratch.folder("target");
    let waiting = Running::start("get", &hung.get_command(&target, &[address]), &hung.scratch.join("get.log"));
    // Let the download send its requests.
    std::thread::sleep(Duration::from_secs(1));
    (seed, daemon, waiting)
}

/// The process of a FUSE file system, ended on drop. Drop it before its users, which cannot end while it hangs.
struct Daemon(Pid);

impl Daemon {
    fn signal(&self, signal: Signal) {
        kill_process(self.0, signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
    }
}

/// Both drivers make the same kinds of writes, so one of them runs on few file systems.
fn writes_are_seen_through_maps() {
    let is_tested = |name: &str| DRIVER.get() == Some("ring") || ["ext4", "FUSE"].contains(&name);
    let image = r#"truncate -s 400m "$IMAGE" &&"#;
    let mounted = r#"&& mount -o loop "$IMAGE" "$TARGET""#;
    for (name, make) in [
        ("ext4", format!(r#"{image} mkfs.ext4 -q -F "$IMAGE" {mounted}"#)),
        ("xfs", format!(r#"{image} mkfs.xfs -q "$IMAGE" {mounted}"#)),
        ("btrfs", format!(r#"{image} mkfs.btrfs -q "$IMAGE" {mounted}"#)),
        (
            "btrfs, compressed",
            format!(r#"{image} mkfs.btrfs -q "$IMAGE" {mounted} && mount -o remount,compress-force=zstd "$TARGET""#),
        ),
        ("tmpfs", r#"mount -t tmpfs none "$TARGET""#.to_owned()),
        (
            "FUSE",
            r#"mount -t tmpfs none "$KEPT" && bindfs "$KEPT" "$TARGET" && trap 'umount -l "$TARGET"' EXIT"#.to_owned(),
        ),
        (
            "overlay",
            r#"mount -t tmpfs none "$KEPT" && mkdir "$KEPT/lower" "$KEPT/upper" "$KEPT/work" &&
               mount -t overlay -o "lowerdir=$KEPT/lower,upperdir=$KEPT/upper,workdir=$KEPT/work" none "$TARGET""#
                .to_owned(),
        ),
    ] {
        for write in ["buffered", "direct"].into_iter().filter(|_| is_tested(name)) {
            let fixture = Fixture::file((12 << 20) + 77);
            let (seed, stage) = (fixture.seed(), Stage::new(&fixture));
            // The second downloader fetches each piece from the first as soon as the first has it.
            let script = format!(
                r#"{make} || exit 9
                   get --write {write} --down 12M --seed & get_again; echo "code $?"
                   kill $(cat /proc/$!/task/$!/children); wait $!; cmp "$SOURCE" "$TARGET/{NAME}" && cmp "$SOURCE" "$COPY/{NAME}" && echo equal"#
            );
            let finished = stage.run(&seed, &script);
            assert!(finished.stdout.ends_with("equal\n"), "{name}, {write}: {finished:#?}");
            assert_eq!(codes(&finished), ["code 0"], "{name}, {write}: {finished:#?}");
            let complete = event(&finished.stdout, "complete").unwrap();
            assert_eq!(complete["corrupt"], 0, "{name}, {write}: {finished:#?}");
            seed.stop();
        }
    }
}

/// With too little address space the process ends with an error line or with the allocator's abort.
#[test]
fn a_download_with_little_address_space_claims_nothing_wrong() {
    let fixture = Fixture::file(4 << 20);
    let seed = fixture.seed();
    let (mut failed, mut done) = (0, 0);
    for mib in (8..=48).step_by(8).chain((64..=640).step_by(48)) {
        let target = fixture.scratch.folder(&format!("{mib}"));
        let get = fixture.get_command(&target, &[seed.address]);
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--as={}", mib << 20)).arg(get.get_program()).args(get.get_args());
        let finished = run(&limited, DEADLINE);
        assert_claims(&fixture, &target);
        match finished.code {
            Some(0) => done += 1,
            Some(1 | 5 | 127) | None => failed += 1,
            other => panic!("{mib} MiB: {other:?} {finished:#?}"),
        }
        fixture.get(&target, &[seed.address]);
        assert_no_litter(&target);
        fs::remove_dir_all(target).unwrap();
    }
    assert!(failed > 3 && done > 0, "{failed} failed, {done} done");
    seed.stop();
}
