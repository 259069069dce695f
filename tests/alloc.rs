//! Allocations per block in the connection state: none from the request to the piece memory.
#![allow(unsafe_code, reason = "a counting allocator")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bt_fast::base::{Bitfield, BlockRef, Geometry, Rng, Time};
use bt_fast::codec::message::Message;
use bt_fast::peer::{InitialHave, ReceivePlan, Setup, Transmit};
use bt_fast::swarm::testing::NoMemory;
use bt_fast::swarm::{Link, PeerShared, Swarm};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system allocator with a counter of allocations per thread.
struct Counting;

// SAFETY: every method forwards its arguments to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller upholds the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the same contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller upholds the same contract.
        unsafe { System.realloc(memory, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A download from one peer that answers in order.
struct Download {
    link: Link<NoMemory>,
    swarm: Arc<Swarm<NoMemory>>,
    now: Time,
    transmit: Transmit,
    plan: ReceivePlan,
}

impl Download {
    fn new(piece_len: u32, piece_count: u32) -> Self {
        let geometry = Geometry::new(piece_len, [u64::from(piece_len) * u64::from(piece_count)]).unwrap();
        let geometry = Arc::new(geometry);
        let buffers = (0..32).map(|_| NoMemory).collect();
        let swarm =
            Arc::new(Swarm::new(geometry.clone(), &Bitfield::new(piece_count), buffers, &mut Rng::with_seed(7)));
        let setup = Setup {
            geometry,
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
        let now = Duration::from_secs(1000);
        let mut link = Link::new(setup, swarm.clone(), shared, now);
        link.handle_message(now, &Message::HaveAll).unwrap();
        link.handle_message(now, &Message::Unchoke).unwrap();
        let mut download = Self { link, swarm, now, transmit: Transmit::default(), plan: ReceivePlan::default() };
        download.ask();
        download
    }

    fn ask(&mut self) {
        self.link.advance(self.now).unwrap();
        while self.link.poll_transmit(self.now, &mut self.transmit, |_| true) {}
    }

    /// Receives as many blocks at a time as the engine does, at 1 GB/s.
    fn receive(&mut self, blocks: &mut [Option<BlockRef>]) {
        self.plan.begin(&[], None);
        blocks.fill(None);
        for (place, (block, _)) in blocks.iter_mut().zip(self.link.expected()) {
            *place = Some(block);
            self.plan.push(block);
        }
        for block in blocks.iter().flatten() {
            self.now += Duration::from_micros(16);
            let BlockRef { piece, begin, len } = *block;
            let receipt = self.link.receive(self.now, piece.get(), begin, len, |_, _| true).unwrap();
            if let Some(open) = receipt.completed {
                self.swarm.pieces.handle_written(&open);
            }
        }
        self.link.end_receive(self.now);
        self.ask();
    }
}

#[test]
fn blocks_of_an_open_piece_allocate_nothing() {
    // One piece of 128 MiB, so that no piece is opened or completed during the measurement.
    let mut download = Download::new(128 << 20, 2);
    let mut blocks = [None; 32];
    (0..100).for_each(|_| download.receive(&mut blocks));
    let before = COUNT.get();
    (0..100).for_each(|_| download.receive(&mut blocks));
    assert_eq!(COUNT.get() - before, 0, "allocations in 3200 blocks");
}

#[test]
fn each_piece_allocates_a_bounded_number_of_times() {
    let mut download = Download::new(1 << 20, 400);
    let mut blocks = [None; 32];
    (0..200).for_each(|_| download.receive(&mut blocks));
    let before = COUNT.get();
    (0..400).for_each(|_| download.receive(&mut blocks));
    let for_each_piece = (COUNT.get() - before) as f64 / 200.0;
    println!("{for_each_piece:.1} allocations for each piece of 64 blocks");
    assert!(for_each_piece <= 16.0, "{for_each_piece:.1}");
}
