//! The periodic decisions of one torrent: choking, the order of pieces, completion, whether to look for more peers.
//!
//! Without I/O or clock. The engine's control thread and the simulator run these same steps and carry out what they
//! return.

use std::sync::Arc;

use super::availability::Unavailable;
use super::choke_driver::ChokeDriver;
use super::choker::{Role, Slots};
use super::open_piece::PieceMemory;
use super::peer_shared::PeerShared;
use super::shared::Swarm;
use crate::base::{Rng, Time, limits};

/// Makes the periodic decisions of one torrent, without I/O or clock.
#[derive(Debug)]
pub struct TorrentControl {
    choke_driver: ChokeDriver,
    reorder_at: Time,
    is_complete: bool,
    unavailable: UnavailableNotice,
}

/// A download has got every wanted piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Completion {
    /// All pieces: announced to trackers (BEP 3).
    Content,
    /// The selected pieces of a partial selection.
    Selection,
}

/// The last report to the user that no peer has the missing pieces.
#[derive(Debug, Default)]
struct UnavailableNotice {
    since: Option<Time>,
    reported_count: u32,
}

impl TorrentControl {
    pub fn new<S: PieceMemory>(slots: Slots, swarm: &Swarm<S>, now: Time) -> Self {
        Self {
            choke_driver: ChokeDriver::new(slots, now),
            reorder_at: now,
            is_complete: swarm.pieces.is_complete(),
            unavailable: UnavailableNotice::default(),
        }
    }

    /// Every wanted piece was on disk at the last [`Self::poll_completion`].
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub fn choke_driver(&self) -> &ChokeDriver {
        &self.choke_driver
    }

    /// Rebuilds the order of missing pieces when that is due, and runs the choker. To be called many times a second
    /// with all connections. Returns true if a peer was choked or unchoked: connections have to follow.
    pub fn step<S: PieceMemory>(
        &mut self,
        now: Time,
        swarm: &Swarm<S>,
        peers: &[Arc<PeerShared>],
        rng: &mut Rng,
    ) -> bool {
        if now >= self.reorder_at {
            self.reorder_at = now + limits::ORDER_INTERVAL;
            swarm.reorder_if_changed(rng);
        }
        swarm.compare_progress(peers);
        let role = if swarm.pieces.is_complete() { Role::Seeding } else { Role::Downloading };
        self.choke_driver.step(now, peers, role, rng)
    }

    /// Returns once that every wanted piece has been received.
    pub fn poll_completion<S: PieceMemory>(&mut self, swarm: &Swarm<S>) -> Option<Completion> {
        if self.is_complete || !swarm.pieces.is_complete() {
            return None;
        }
        self.is_complete = true;
        Some(if swarm.pieces.has_all() { Completion::Content } else { Completion::Selection })
    }

    /// The number of connections below which a download opens more and asks trackers for peers.
    pub fn connections_sought<S: PieceMemory>(&self, now: Time, swarm: &Swarm<S>, peers: &[Arc<PeerShared>]) -> usize {
        self.choke_driver.connections_sought(now, swarm, peers)
    }

    /// The missing pieces that no connected peer has, to be reported to the user: once for each number of pieces, after
    /// [`limits::UNAVAILABLE_NOTICE`]. `has_peers`: some peer is connected.
    pub fn poll_unavailable<S: PieceMemory>(
        &mut self,
        now: Time,
        swarm: &Swarm<S>,
        has_peers: bool,
    ) -> Option<Unavailable> {
        let notice = &mut self.unavailable;
        let unavailable = if has_peers && !self.is_complete { swarm.unavailable() } else { None };
        let Some(unavailable) = unavailable else {
            notice.since = None;
            return None;
        };
        let since = *notice.since.get_or_insert(now);
        if now < since + limits::UNAVAILABLE_NOTICE || notice.reported_count == unavailable.count {
            return None;
        }
        notice.reported_count = unavailable.count;
        Some(unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Bitfield, Geometry};
    use crate::swarm::testing::NoMemory;

    fn download() -> (Swarm<NoMemory>, Rng) {
        let mut rng = Rng::with_seed(1);
        let geometry = Arc::new(Geometry::new(1, [3]).unwrap());
        (Swarm::new(geometry, &Bitfield::new(3), vec![NoMemory; 3], &mut rng), rng)
    }

    fn finish(swarm: &Swarm<NoMemory>, index: u32) {
        let open = swarm.pieces.open(swarm.geometry.piece(index).unwrap()).unwrap();
        swarm.pieces.handle_written(&open);
    }

    #[test]
    fn completion_is_returned_once() {
        let (swarm, mut rng) = download();
        let mut control = TorrentControl::new(Slots::Auto, &swarm, Time::ZERO);
        (0..2).for_each(|index| finish(&swarm, index));
        assert_eq!(control.poll_completion(&swarm), None);
        finish(&swarm, 2);
        assert!(!control.step(Time::ZERO, &swarm, &[], &mut rng));
        assert_eq!(control.poll_completion(&swarm), Some(Completion::Content));
        assert!(control.is_complete());
        assert_eq!(control.poll_completion(&swarm), None);
        assert!(TorrentControl::new(Slots::Auto, &swarm, Time::ZERO).is_complete());
    }

    #[test]
    fn unavailable_pieces_are_reported_once_for_each_number() {
        let (swarm, _) = download();
        let mut control = TorrentControl::new(Slots::Auto, &swarm, Time::ZERO);
        let later = limits::UNAVAILABLE_NOTICE;
        let mut reported = |now, has_peers| control.poll_unavailable(now, &swarm, has_peers).map(|found| found.count);
        assert_eq!(reported(Time::ZERO, true), None);
        assert_eq!(reported(later, false), None, "without peers the wait starts again");
        assert_eq!(reported(later, true), None);
        assert_eq!(reported(2 * later, true), Some(3));
        assert_eq!(reported(3 * later, true), None);
        finish(&swarm, 0);
        assert_eq!(reported(4 * later, true), Some(2));
        swarm.availability.add(swarm.geometry.piece(1).unwrap());
        assert_eq!(reported(5 * later, true), None);
    }
}
