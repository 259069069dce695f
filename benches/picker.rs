//! Blocks picked per second by one connection to a complete peer, in a torrent of 262,144 pieces.
//!
//! `pick` times [`Link::advance`]: following the swarm, and choosing and queueing requests. `whole life` also times the
//! arrival of each block and the end of each piece, as on one ring thread. Neither moves payload.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark panics on an error, and it reads the clock"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bt_fast::base::{Bitfield, Geometry, Rng};
use bt_fast::codec::message::{Bounds, Decoded, Message, decode};
use bt_fast::peer::{InitialHave, Setup, Transmit};
use bt_fast::swarm::testing::NoMemory;
use bt_fast::swarm::{Link, PeerShared, Swarm};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const PIECE_COUNT: u32 = 262_144;
const BLOCK_LEN: u32 = 16 << 10;
const PIECE_LEN: u32 = 16 * BLOCK_LEN;
const BUFFER_COUNT: usize = 1024;
/// Time from a request to its block.
const ROUND_TRIP: Duration = Duration::from_millis(1);

/// A download in virtual time.
struct Download {
    swarm: Arc<Swarm<NoMemory>>,
    link: Link<NoMemory>,
    transmit: Transmit,
    now: Duration,
}

/// The blocks picked in one turn, and the time for picking and for the whole turn.
struct Turn {
    picked: u64,
    picking: Duration,
    whole: Duration,
}

impl Download {
    fn start() -> Self {
        let geometry = Geometry::new(PIECE_LEN, [u64::from(PIECE_COUNT) * u64::from(PIECE_LEN)]).unwrap();
        let buffers = std::iter::repeat_with(|| NoMemory).take(BUFFER_COUNT).collect();
        let have = Bitfield::new(PIECE_COUNT);
        let swarm = Arc::new(Swarm::new(Arc::new(geometry), &have, buffers, &mut Rng::with_seed(1)));
        let setup = Setup {
            geometry: swarm.geometry.clone(),
            fast: true,
            extension: false,
            have: InitialHave::None,
            upload_only: false,
            info_hash: None,
            listen_port: None,
            peer_ip: None,
            metadata: None,
            streams: None,
        };
        let shared = Arc::new(PeerShared::new(1, ([127, 0, 0, 1], 6881).into()));
        let now = Duration::from_secs(1);
        let mut link = Link::new(setup, swarm.clone(), shared, now);
        for message in [Message::HaveAll, Message::Unchoke] {
            link.handle_message(now, &message).unwrap();
        }
        Self { swarm, link, transmit: Transmit::default(), now }
    }

    /// Fills the request window, and answers all requests one round trip later.
    fn turn(&mut self) -> Turn {
        let started = Instant::now();
        self.link.advance(self.now).unwrap();
        let picking = started.elapsed();
        self.link.poll_transmit(self.now, &mut self.transmit, |_| false);
        self.now += ROUND_TRIP;
        let bounds = Bounds { piece_count: PIECE_COUNT, block_len_max: BLOCK_LEN };
        let mut control = &self.transmit.control[..];
        let mut picked = 0;
        while let Ok(Decoded::Message { message, consumed }) = decode(control, &bounds) {
            control = &control[consumed..];
            if let Message::Request { index, begin, length } = message {
                picked += 1;
                let receipt = self.link.receive(self.now, index, begin, length, |_, _| true).unwrap();
                if let Some(open) = receipt.completed {
                    self.swarm.pieces.handle_written(&open);
                }
            }
        }
        Turn { picked, picking, whole: started.elapsed() }
    }
}

fn picker(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("picker");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for (name, time) in [("pick", (|turn| turn.picking) as fn(&Turn) -> Duration), ("whole life", |turn| turn.whole)] {
        let mut download = Download::start();
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|blocks| {
                let (mut picked, mut took) = (0, Duration::ZERO);
                while picked < blocks {
                    let turn = download.turn();
                    if turn.picked == 0 {
                        assert!(download.swarm.pieces.is_complete());
                        download = Download::start();
                    }
                    picked += turn.picked;
                    took += time(&turn);
                }
                took.mul_f64(blocks as f64 / picked as f64)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, picker);
criterion_main!(benches);
