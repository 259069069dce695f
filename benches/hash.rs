//! Bytes hashed per second, on one thread, in memory: each kernel by number of pieces and piece length.

use std::hint::black_box;

use bt_fast::hash::{Kernel, sha1_batch_with};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use sha1::{Digest as _, Sha1};

const PIECE_COUNTS: [usize; 5] = [1, 2, 4, 8, 16];
const PIECE_LENS: [usize; 4] = [16 << 10, 256 << 10, 1 << 20, 4 << 20];

fn hash(criterion: &mut Criterion) {
    let len_max = PIECE_COUNTS.into_iter().max().unwrap_or(0) * PIECE_LENS.into_iter().max().unwrap_or(0);
    let mut content = vec![0; len_max];
    fastrand::Rng::with_seed(1).fill(&mut content);
    for piece_len in PIECE_LENS {
        let mut group = criterion.benchmark_group(format!("sha1/{} KiB", piece_len >> 10));
        group.sampling_mode(SamplingMode::Flat);
        for piece_count in PIECE_COUNTS {
            let pieces: Vec<&[u8]> = content.chunks(piece_len).take(piece_count).collect();
            group.throughput(Throughput::Bytes((piece_len * piece_count) as u64));
            group.bench_function(BenchmarkId::new("sha1 crate", piece_count), |bencher| {
                bencher.iter(|| black_box(&pieces).iter().map(Sha1::digest).collect::<Vec<_>>());
            });
            for kernel in Kernel::available() {
                let Ok(plan) = kernel.plan() else { continue };
                group.bench_function(BenchmarkId::new(kernel.name(), piece_count), |bencher| {
                    bencher.iter(|| sha1_batch_with(plan, black_box(&pieces).iter().map(|piece| [*piece])));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, hash);
criterion_main!(benches);
