//! Files that are truncated, removed or replaced while a hundred peers read them: the origin reports it within seconds
//! and keeps serving the rest.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
    time::Duration,
};

use bt_fast::{base::limits, codec::message::Message};

use crate::loopback::{
    DEADLINE, Fixture, NAME, PIECE_LEN, Seed, faults::environment::unchoked, own_address, own_ip,
    seed::crowd::seed_for_all, warnings,
};
use crate::support::{
    content::write_random,
    crowd::{Behavior, Crowd},
    process::wait_until,
    wire_peer::Received,
};

const COUNT: usize = 100;
const BLOCK_LEN: u32 = 16 << 10;
/// Pieces in each of the two files.
const PIECE_COUNT: u32 = 32;
const FILE_LEN: u64 = (PIECE_COUNT * PIECE_LEN) as u64;
/// The origin notices within a second; the rest is tolerance for a busy machine.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

test_on_both_drivers!(
    blocks_across_the_new_end_of_a_foreign_file_are_never_sent,
    a_removed_file_is_reported_and_the_rest_served,
    a_replaced_file_is_reported_and_the_rest_served,
    a_file_replaced_by_the_same_bytes_stays_served,
);

fn two_files() -> Fixture {
    Fixture::files(&[("a", FILE_LEN), ("b", FILE_LEN)])
}

fn first_file(fixture: &Fixture) -> std::path::PathBuf {
    fixture.source.join(NAME).join("a")
}

/// Changes the first file while a crowd reads it and asserts that all unaffected pieces are still served. `warning` is
/// a part of the expected warning; `None` asserts that there is none. Returns the number of wrong blocks that were
/// sent.
#[track_caller]
fn touched(fixture: &Fixture, mut seed: Seed, warning: Option<&str>, touch: impl FnOnce(&Path)) -> usize {
    let content = fixture.content();
    let crowd = Crowd::start(seed.address, fixture.metainfo.clone(), content.clone(), COUNT, Behavior::Reading, own_ip);
    let begun = || crowd.received().iter().all(|&len| len > 0);
    assert!(wait_until(DEADLINE, begun), "{:?}", crowd.received());
    touch(&first_file(fixture));
    let noticed = || warning.is_none_or(|warning| seed.process.output().contains(warning));
    assert!(wait_until(NOTICED_WITHIN, noticed), "{warning:?}: {}", seed.process.log_tail());
    let mut late = unchoked(fixture, &seed);
    // Fetch every piece that is not affected.
    let first = if warning.is_some() { PIECE_COUNT } else { 0 };
    for index in first..2 * PIECE_COUNT {
        for begin in (0..PIECE_LEN).step_by(BLOCK_LEN as usize) {
            let at = (index * PIECE_LEN + begin) as usize;
            assert!(late.fetch(index, begin, BLOCK_LEN) == content[at..][..BLOCK_LEN as usize], "piece {index}");
        }
    }
    assert!(seed.process.is_running(), "{}", seed.process.log_tail());
    let output = seed.process.output();
    assert_eq!(warnings(&output).is_empty(), warning.is_none(), "{output}");
    let wrong = crowd.wrong();
    drop(crowd);
    seed.stop();
    wrong
}

/// `mincore` does not report the page cache of files that the process does not own. The page with the new end stays
/// cached with zeros behind the end, so a read of these bytes faults no missing page.
fn blocks_across_the_new_end_of_a_foreign_file_are_never_sent() {
    let fixture = Fixture::files(&[("long", FILE_LEN), ("short", 9000)]);
    let content = fixture.content();
    let files = ["long", "short"].map(|name| fixture.source.join(NAME).join(name));
    files.iter().for_each(|path| chown(path, Some(12_345), Some(12_345)).unwrap());
    let address = own_address();
    let command = fixture.seed_command(address);
    let mut bound = Command::new("setpriv");
    bound.arg("--bounding-set=-dac_override,-dac_read_search,-fowner").arg(command.get_program());
    let seed = Seed::start(bound.args(command.get_args()), address, &fixture.scratch.join("seed.log"));
    for (path, new_len, index, len) in
        [(&files[0], u64::from(10 * PIECE_LEN + 100), 10, BLOCK_LEN), (&files[1], 8999, PIECE_COUNT, 9000)]
    {
        let mut peer = unchoked(&fixture, &seed);
        for index in 0..10 {
            (0..PIECE_LEN).step_by(BLOCK_LEN as usize).for_each(|begin| drop(peer.fetch(index, begin, BLOCK_LEN)));
        }
        peer.fetch(index, 0, len);
        File::options().write(true).open(path).unwrap().set_len(new_len).unwrap();
        std::thread::sleep(2 * limits::FILE_CHECK_INTERVAL);
        peer.send_message(&Message::Request { index, begin: 0, length: len });
        let answer = std::iter::repeat_with(|| peer.receive()).find(|received| {
            matches!(received, Received::Reject { .. } | Received::Closed | Received::Silence | Received::Piece { .. })
        });
        assert!(matches!(answer, Some(Received::Reject { .. } | Received::Closed)), "{new_len}: {answer:?}");
        assert!(warnings(&seed.process.output()).iter().any(|reported| reported.contains("became shorter")));
        assert!(
            unchoked(&fixture, &seed).fetch(2, 0, BLOCK_LEN) == content[2 * PIECE_LEN as usize..][..BLOCK_LEN as usize]
        );
    }
    seed.stop();
}

fn a_removed_file_is_reported_and_the_rest_served() {
    let fixture = two_files();
    let seed = seed_for_all(&fixture, &[]);
    assert_eq!(touched(&fixture, seed, Some("is gone"), |path| fs::remove_file(path).unwrap()), 0);
}

fn a_replaced_file_is_reported_and_the_rest_served() {
    let fixture = two_files();
    let seed = seed_for_all(&fixture, &[]);
    let other = fixture.scratch.join("other");
    write_random(&other, FILE_LEN, fastrand::u64(..));
    let wrong = touched(&fixture, seed, Some("does not match"), |path| fs::rename(&other, path).unwrap());
    assert_eq!(wrong, 0);
}

/// Programs often write a new copy of a file and rename it over the old one.
fn a_file_replaced_by_the_same_bytes_stays_served() {
    let fixture = two_files();
    let copy = fixture.scratch.join("copy");
    fs::copy(first_file(&fixture), &copy).unwrap();
    let seed = seed_for_all(&fixture, &[]);
    assert_eq!(touched(&fixture, seed, None, |path| fs::rename(&copy, path).unwrap()), 0);
    let seed = seed_for_all(&fixture, &[]);
    let read_only = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o444)).unwrap();
    assert_eq!(touched(&fixture, seed, None, read_only), 0);
}
