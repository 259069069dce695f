//! Bytes in memory that one thread hashes per second, for each kernel, number of pieces and piece length.

use std::hint::black_box;

use bt_fast::hash::{Kernel, Plan, sha1_batch_with, sha256_batch_with};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use sha1::{Digest, Sha1};
use sha2::Sha256;

const PIECE_COUNTS: [usize; 5] = [1, 2, 4, 8, 16];
const PIECE_LENS: [usize; 4] = [16 << 10, 256 << 10, 1 << 20, 4 << 20];

/// Pieces of one span each. The content lives as long as the benchmark.
type Pieces = Vec<[&'static [u8]; 1]>;

fn sha1(criterion: &mut Criterion) {
    hash::<Sha1, _>(criterion, "sha1", &PIECE_LENS, sha1_batch_with);
}

/// The leaves of BEP 52 are blocks of 16 KiB.
fn sha256(criterion: &mut Criterion) {
    hash::<Sha256, _>(criterion, "sha2", &PIECE_LENS[..1], sha256_batch_with);
}

fn hash<D: Digest, H>(
    criterion: &mut Criterion,
    crate_name: &str,
    piece_lens: &[usize],
    batch_with: fn(&Plan, Pieces) -> Vec<H>,
) {
    let len_max = PIECE_COUNTS.into_iter().max().unwrap_or(0) * piece_lens.iter().max().unwrap_or(&0);
    let mut content = vec![0; len_max];
    fastrand::Rng::with_seed(1).fill(&mut content);
    let content: &'static [u8] = content.leak();
    for &piece_len in piece_lens {
        let mut group = criterion.benchmark_group(format!("{crate_name}/{} KiB", piece_len >> 10));
        group.sampling_mode(SamplingMode::Flat);
        for piece_count in PIECE_COUNTS {
            let pieces: Pieces = content.chunks(piece_len).take(piece_count).map(|piece| [piece]).collect();
            group.throughput(Throughput::Bytes((piece_len * piece_count) as u64));
            group.bench_function(BenchmarkId::new(format!("{crate_name} crate"), piece_count), |bencher| {
                bencher.iter(|| black_box(&pieces).iter().map(|[piece]| D::digest(piece)).collect::<Vec<_>>());
            });
            for kernel in Kernel::available() {
                let Ok(plan) = kernel.plan() else { continue };
                group.bench_function(BenchmarkId::new(kernel.name(), piece_count), |bencher| {
                    bencher.iter(|| batch_with(plan, black_box(&pieces).clone()));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, sha1, sha256);
criterion_main!(benches);
