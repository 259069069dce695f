//! The cost of storage per block: writing it to the arena, compared with a plain copy, and leasing it for a send.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a benchmark panics on an error, and its constants fit"
)]

use std::fs::File;
use std::hint::black_box;

use bt_fast::base::Geometry;
use bt_fast::storage::{Landed, Layout, Store, piece_buffers};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memmap2::{Advice, MmapMut};

const BLOCK_LEN: usize = 16 << 10;
const BLOCKS: usize = 64;
const PIECE_LEN: u32 = (BLOCK_LEN * BLOCKS) as u32;
const BUFFERS: u32 = 64;

/// Times are for a piece of 64 blocks. Each iteration uses another buffer, so that the memory is not in the processor's
/// cache.
fn arena(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("arena, a piece of 64 blocks");
    group.throughput(Throughput::Bytes(u64::from(PIECE_LEN)));
    let block = vec![7u8; BLOCK_LEN];
    let mut buffers = piece_buffers(PIECE_LEN, BUFFERS).unwrap();
    let mut turn = 0;
    group.bench_function("land", |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % buffers.len();
            let buffer = &mut buffers[turn];
            assert!(buffer.clear(PIECE_LEN));
            let complete = (0..BLOCKS).any(|index| buffer.land(index, black_box(&block)) == Landed::Complete);
            assert!(complete);
        });
    });
    // With huge pages, like the arena.
    let mut memory = MmapMut::map_anon((PIECE_LEN * BUFFERS) as usize).unwrap();
    let _ = memory.advise(Advice::HugePage);
    let mut pieces: Vec<&mut [u8]> = memory.chunks_mut(PIECE_LEN as usize).collect();
    group.bench_function("copy alone", |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % pieces.len();
            pieces[turn].chunks_mut(BLOCK_LEN).for_each(|to| to.copy_from_slice(black_box(&block)));
        });
    });
    group.finish();
}

fn leases(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let len = 64 * u64::from(PIECE_LEN);
    let path = folder.path().join("content");
    File::create(&path).and_then(|file| file.set_len(len)).unwrap();
    let layout = Layout::open(folder.path(), [vec![b"content".to_vec()]]).unwrap();
    let geometry = Geometry::new(PIECE_LEN, [len]).unwrap();
    let store = Store::new(layout, geometry.clone(), [false].into()).unwrap();
    store.populate(0, len, &|_| ()).unwrap();
    let mut turn = 0;
    let mut group = criterion.benchmark_group("map");
    group.throughput(Throughput::Elements(1));
    group.bench_function("lease a block", |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % geometry.piece_count();
            let block = geometry.block(geometry.piece(turn).unwrap(), turn % 64).unwrap();
            store.lease(block).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, arena, leases);
criterion_main!(benches);
