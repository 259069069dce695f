//! Limits of what the connections of a torrent share: rates, upload slots, piece order and trust.

use std::time::Duration;

use super::is_at_most;

/// Smallest value of `--up` and `--down` in bytes per second. At one block per second no peer takes us for silent.
pub const RATE_LIMIT_MIN: u64 = 16 << 10;
/// Longest sleep of a task that waits for a rate limit; then it checks whether its connection is still open.
pub const RATE_WAIT_MAX: Duration = Duration::from_millis(250);

/// The least number of upload slots of a download. BEP 3: "unchoking the four peers".
pub const UPLOAD_SLOTS_GET: usize = 4;
/// Upload slots of a seeder at least: an origin's uplink exists to serve peers.
pub const UPLOAD_SLOTS_SEED_MIN: usize = 16;
/// Upload slots at most, on a fast uplink or one that fewer slots leave idle.
pub const UPLOAD_SLOTS_MAX: usize = 64;
/// Upload rate in bytes per second for which one more slot is added. With few slots on a fast link, peers form cliques
/// that newcomers cannot enter.
pub const SLOT_RATE_AMPLE: u64 = 500_000;
/// Divisor of the used slots for growth: while the uplink is idle, each step adds one slot and this part of the used
/// ones, so that a starting swarm need not wait.
pub const SPARE_SLOTS_GROWTH: usize = 2;
/// Divisor of the spare slots for decay: a choke round during which the uplink was never idle removes this part of
/// them.
pub const SPARE_SLOTS_PART: usize = 4;
/// Bytes that a seeder serves one peer in a turn. The turn lasts [`TURN_TIME_MIN`] to [`TURN_TIME_MAX`]; then waiting
/// peers have theirs.
pub const TURN_LEN: u64 = 32 << 20;
/// Shortest turn of a peer at a seeder while other peers wait.
pub const TURN_TIME_MIN: Duration = Duration::from_secs(20);
/// Longest turn of a peer at a seeder while other peers wait.
pub const TURN_TIME_MAX: Duration = Duration::from_secs(60);
/// One of this number of free slots of a seeder goes to a peer that was never served.
pub const NEWCOMER_SHARE: usize = 4;
/// Interval of choke rounds. BEP 3: "only changing who's choked once every ten seconds".
pub const CHOKE_INTERVAL: Duration = Duration::from_secs(10);
/// Interval of the optimistic unchoke. BEP 3: it "rotates every 30 seconds".
pub const OPTIMISTIC_INTERVAL: Duration = Duration::from_secs(30);

/// Pieces downloaded in random order before rarest first begins (BEP 3: "random order").
pub const RANDOM_FIRST_PIECES: u32 = 4;
/// Interval at which the rarest-first order is rebuilt while availability changes.
pub const ORDER_INTERVAL: Duration = Duration::from_secs(1);
/// Announced pieces that one connection keeps beside its order of missing pieces. After more announcements it searches
/// the order from the start.
pub const ANNOUNCED_PIECES_MAX: usize = 256;
/// Time over which a peer's rates are averaged: two choke rounds.
pub const RATE_WINDOW: Duration = Duration::from_secs(20);

/// Trust that a host gains with each verified piece it contributed to.
pub const TRUST_GOOD_PIECE: i32 = 1;
/// Change of a host's trust, below zero, with each failed piece that it sent alone. If several hosts contributed to a
/// failed piece, none loses trust: each gets pieces of its own until one of them is verified.
pub const TRUST_BAD_PIECE_ALONE: i32 = -4;
/// Highest trust of a host.
pub const TRUST_MAX: i32 = 8;
/// Trust at which a host is banned: an unproven host at its first failed piece, a proven one at its second or third.
pub const TRUST_BANNED: i32 = -4;

/// Hosts of one torrent that are remembered to report how many of them have all pieces; further ones are not counted.
pub const HOSTS_COUNTED_MAX: usize = 10_000;
/// Hosts of all torrents that are remembered to report how many of them have all pieces; further ones are not counted.
pub const HOSTS_COUNTED_IN_ALL_MAX: usize = 200_000;
/// Time after which a host counts as complete because its announcement left nothing to download, unless it shows within
/// this time that it lacks pieces. aria2 announces a magnet link with nothing left until it has the info dictionary.
pub const HOST_CLAIM_GRACE: Duration = Duration::from_secs(3);

const _: () = assert!(UPLOAD_SLOTS_GET <= UPLOAD_SLOTS_SEED_MIN && UPLOAD_SLOTS_SEED_MIN <= UPLOAD_SLOTS_MAX);
const _: () = assert!(is_at_most(TURN_TIME_MIN, TURN_TIME_MAX));
const _: () = assert!(is_at_most(CHOKE_INTERVAL, OPTIMISTIC_INTERVAL));
const _: () = assert!(RATE_WINDOW.as_secs() == 2 * CHOKE_INTERVAL.as_secs());
const _: () = assert!(TRUST_BANNED < 0 && 0 < TRUST_GOOD_PIECE && TRUST_GOOD_PIECE <= TRUST_MAX);
const _: () = assert!(TRUST_BAD_PIECE_ALONE <= TRUST_BANNED && TRUST_MAX + 3 * TRUST_BAD_PIECE_ALONE <= TRUST_BANNED);
const _: () = assert!(HOSTS_COUNTED_MAX <= HOSTS_COUNTED_IN_ALL_MAX);
