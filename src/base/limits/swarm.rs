//! Limits of what connections of a torrent share: rates, upload slots, piece order, trust.

use std::time::Duration;

/// `--up` and `--down` are at least this, in bytes per second: a block each second, so that nobody takes us for silent.
pub const RATE_LIMIT_MIN: u64 = 16 << 10;
/// What waits for a rate limit looks again at least so often: whether there is still somebody to wait for.
pub const RATE_WAIT_MAX: Duration = Duration::from_millis(250);

/// BEP 3: "unchoking the four peers"; a fast uplink, or one that these do not fill, has more, up to the last.
pub const UPLOAD_SLOTS_GET: usize = 4;
/// An origin serves more peers at once: its uplink is what it is for.
pub const UPLOAD_SLOTS_SEED_MIN: usize = 16;
pub const UPLOAD_SLOTS_MAX: usize = 64;
/// A slot for each so many bytes per second of upload: on a fast link few slots make cliques, which pass newcomers by.
pub const SLOT_RATE_AMPLE: u64 = 500_000;
/// Slots beside the first ones come while the uplink is idle, each time one and this part of those that are used: a swarm
/// that starts can't wait. They go by the second part in a round in which it never was.
pub const SPARE_SLOTS_GROWTH: usize = 2;
pub const SPARE_SLOTS_PART: usize = 4;
/// A seeder serves a peer this many bytes, within these times, before others have their turn.
pub const TURN_LEN: u64 = 32 << 20;
pub const TURN_TIME_MIN: Duration = Duration::from_secs(20);
pub const TURN_TIME_MAX: Duration = Duration::from_secs(60);
/// One in so many of a seeder's free slots goes to somebody who was never served first.
pub const NEWCOMER_SHARE: usize = 4;
/// BEP 3: "only changing who's choked once every ten seconds".
pub const CHOKE_INTERVAL: Duration = Duration::from_secs(10);
/// BEP 3: the optimistic unchoke "rotates every 30 seconds".
pub const OPTIMISTIC_INTERVAL: Duration = Duration::from_secs(30);

/// Pieces downloaded at random before rarest first begins (BEP 3: "random order").
pub const RANDOM_FIRST_PIECES: u32 = 4;
/// How often the rarest-first order is made anew while availability changes.
pub const ORDER_INTERVAL: Duration = Duration::from_secs(1);
/// Announced pieces a connection remembers until the next order, for want of anything else to ask for.
pub const FRESH_PIECES_MAX: usize = 256;
/// A peer's rates are averages over this time: two choke rounds.
pub const RATE_WINDOW: Duration = Duration::from_secs(20);

/// Trust of a peer address: a piece it had a part in passed, or failed with nobody else to blame; banned at or below the
/// last: a stranger at its first wrong piece, whoever brought good ones at the second or third. Of several senders of a wrong
/// piece nobody knows which it was: each gets pieces of its own until one of them is right.
pub const TRUST_GOOD_PIECE: i32 = 1;
pub const TRUST_BAD_PIECE_ALONE: i32 = -4;
pub const TRUST_MAX: i32 = 8;
pub const TRUST_BANNED: i32 = -4;
