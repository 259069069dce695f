//! Files that change between the check and the send: no byte that differs from the torrent is sent.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, SystemTime},
};

use bt_fast::{base::limits, codec::message::Message};

use crate::loopback::{DEADLINE, Fixture, NAME, PIECE_LEN, Seed, faults::environment::unchoked, own_address};
use crate::support::{
    content::write_random,
    process::{Running, wait_until},
    wire_peer::{Received, WirePeer},
};

const BLOCK_LEN: u32 = 16 << 10;
/// Pieces in each of the two files. The files are long enough to be checked in every interval.
const PIECE_COUNT: u32 = 40;
const FILE_LEN: u64 = (PIECE_COUNT * PIECE_LEN) as u64;

test_on_both_drivers!(
    a_file_changed_before_its_first_request_is_not_served,
    a_file_changed_after_it_was_sent_is_not_served,
    a_file_changed_after_a_trusted_check_is_hashed,
    a_touched_file_with_the_same_bytes_stays_served,
    a_symlink_of_the_user_is_followed_and_its_change_noticed,
    a_seeding_download_notices_writes_of_other_programs,
);

fn two_files() -> Fixture {
    Fixture::files(&[("a", FILE_LEN), ("b", FILE_LEN)])
}

fn seed(fixture: &Fixture, flags: &[&str]) -> Seed {
    let address = own_address();
    Seed::start(fixture.seed_command(address).args(flags), address, &fixture.scratch.join("seed.log"))
}

/// Requests a block; returns `None` if the seed rejects the request or closes the connection.
fn ask(peer: &mut WirePeer, index: u32, begin: u32) -> Option<Vec<u8>> {
    peer.send_message(&Message::Request { index, begin, length: BLOCK_LEN });
    loop {
        match peer.receive() {
            Received::Piece { index: i, begin: b, block } if (i, b) == (index, begin) => return Some(block),
            Received::Closed | Received::Silence | Received::Reject { .. } => return None,
            _ => {}
        }
    }
}

/// Requests each block of these pieces, reconnects after a refusal, and returns the number of received blocks.
#[track_caller]
fn ask_all(fixture: &Fixture, seed: &Seed, content: &[u8], pieces: std::ops::Range<u32>) -> u32 {
    let mut peer = unchoked(fixture, seed);
    let mut count = 0;
    for index in pieces {
        for begin in (0..PIECE_LEN).step_by(BLOCK_LEN as usize) {
            let at = (index * PIECE_LEN + begin) as usize;
            match ask(&mut peer, index, begin) {
                Some(block) => {
                    assert!(block == content[at..][..BLOCK_LEN as usize], "piece {index} differs from the torrent");
                    count += 1;
                }
                None => peer = unchoked(fixture, seed),
            }
        }
    }
    count
}

/// Creates a file with random bytes of the same length next to `path`.
fn other(path: &Path) -> PathBuf {
    let other = path.with_extension("other");
    write_random(&other, fs::metadata(path).unwrap().len(), fastrand::u64(..));
    other
}

fn replace(path: &Path) {
    fs::rename(other(path), path).unwrap();
}

/// Replaces the file by a symbolic link to another file of the same length.
fn link(path: &Path) {
    let other = other(path);
    fs::remove_file(path).unwrap();
    symlink(other, path).unwrap();
}

/// Overwrites the file in place and restores its modification time.
fn overwrite(path: &Path) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut file = File::options().write(true).open(path).unwrap();
    file.write_all(&fs::read(other(path)).unwrap()).unwrap();
    file.set_modified(modified).unwrap();
}

/// The ways to change the bytes at a path.
pub(crate) const CHANGES: [fn(&Path); 3] = [replace, link, overwrite];
const BLOCKS: u32 = PIECE_COUNT * PIECE_LEN / BLOCK_LEN;

fn a_file_changed_before_its_first_request_is_not_served() {
    for change in CHANGES {
        let fixture = two_files();
        let content = fixture.content();
        // Wait longer than a timestamp tick of the file system.
        sleep(2 * limits::FILE_TIME_GRAIN);
        let seed = seed(&fixture, &["--verify", "full"]);
        change(&fixture.source.join(NAME).join("a"));
        sleep(2 * limits::FILE_CHECK_INTERVAL);
        assert_eq!(ask_all(&fixture, &seed, &content, 0..1), 0);
        assert_eq!(ask_all(&fixture, &seed, &content, PIECE_COUNT..2 * PIECE_COUNT), BLOCKS);
        assert_eq!(ask_all(&fixture, &seed, &content, 1..PIECE_COUNT), 0);
        seed.stop();
    }
}

fn a_file_changed_after_it_was_sent_is_not_served() {
    for verify in ["full", "lazy"] {
        for change in CHANGES {
            let fixture = two_files();
            let content = fixture.content();
            sleep(2 * limits::FILE_TIME_GRAIN);
            let seed = seed(&fixture, &["--verify", verify]);
            assert_eq!(ask_all(&fixture, &seed, &content, 0..PIECE_COUNT), BLOCKS);
            change(&fixture.source.join(NAME).join("a"));
            sleep(2 * limits::FILE_CHECK_INTERVAL);
            assert_eq!(ask_all(&fixture, &seed, &content, 0..PIECE_COUNT), 0);
            assert_eq!(ask_all(&fixture, &seed, &content, PIECE_COUNT..2 * PIECE_COUNT), BLOCKS);
            seed.stop();
        }
    }
}

fn a_file_changed_after_a_trusted_check_is_hashed() {
    let fixture = two_files();
    let content = fixture.content();
    let seed = seed(&fixture, &["--verify", "none"]);
    replace(&fixture.source.join(NAME).join("b"));
    assert_eq!(ask_all(&fixture, &seed, &content, PIECE_COUNT..2 * PIECE_COUNT), 0);
    assert_eq!(ask_all(&fixture, &seed, &content, 0..PIECE_COUNT), BLOCKS);
    seed.stop();
}

/// The peer is served without interruption.
fn a_touched_file_with_the_same_bytes_stays_served() {
    let fixture = two_files();
    let content = fixture.content();
    let seed = seed(&fixture, &["--verify", "full"]);
    let mut peer = unchoked(&fixture, &seed);
    for round in 0..20 {
        let file = File::options().write(true).open(fixture.source.join(NAME).join("a")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(round)).unwrap();
        sleep(limits::FILE_CHECK_INTERVAL);
        for index in 0..PIECE_COUNT {
            let at = (index * PIECE_LEN) as usize;
            assert!(ask(&mut peer, index, 0).unwrap() == content[at..][..BLOCK_LEN as usize], "piece {index}");
        }
    }
    seed.stop();
}

fn a_symlink_of_the_user_is_followed_and_its_change_noticed() {
    let fixture = Fixture::made_by(&[], PIECE_LEN, |root| {
        let elsewhere = root.parent().unwrap().join("elsewhere");
        fs::create_dir(root).unwrap();
        write_random(&elsewhere, FILE_LEN, fastrand::u64(..));
        symlink("../elsewhere", root.join("a")).unwrap();
        write_random(&root.join("b"), FILE_LEN, fastrand::u64(..));
    });
    let content = fixture.content();
    for verify in ["full", "lazy"] {
        let seed = seed(&fixture, &["--verify", verify]);
        assert_eq!(ask_all(&fixture, &seed, &content, 0..2 * PIECE_COUNT), 2 * BLOCKS);
        seed.stop();
    }
    let seed = seed(&fixture, &["--verify", "full"]);
    let path = fixture.source.join(NAME).join("a");
    fs::remove_file(&path).unwrap();
    symlink("b", &path).unwrap();
    assert_eq!(ask_all(&fixture, &seed, &content, 0..PIECE_COUNT), 0);
    assert_eq!(ask_all(&fixture, &seed, &content, PIECE_COUNT..2 * PIECE_COUNT), BLOCKS);
    seed.stop();
}

/// Bytes that the download wrote itself are served; bytes that another program writes afterwards are not.
fn a_seeding_download_notices_writes_of_other_programs() {
    for change in CHANGES {
        let fixture = two_files();
        let content = fixture.content();
        let origin = fixture.seed();
        let target = fixture.scratch.folder("target");
        let mut command = fixture.get_command(&target, &[origin.address]);
        let address = command.get_args().skip_while(|arg| *arg != "--listen").nth(1).unwrap();
        let address = address.to_str().unwrap().parse().unwrap();
        let mut process = Running::start("get", command.arg("--seed"), &fixture.scratch.join("get.log"));
        let is_complete = || process.output().contains("complete; uploading");
        assert!(wait_until(DEADLINE, is_complete), "{}", process.log_tail());
        origin.stop();
        let getter = Seed { process, address };
        assert_eq!(ask_all(&fixture, &getter, &content, 0..2 * PIECE_COUNT), 2 * BLOCKS);
        change(&target.join(NAME).join("a"));
        sleep(2 * limits::FILE_CHECK_INTERVAL);
        assert_eq!(ask_all(&fixture, &getter, &content, 0..PIECE_COUNT), 0);
        assert_eq!(ask_all(&fixture, &getter, &content, PIECE_COUNT..2 * PIECE_COUNT), BLOCKS);
    }
}
