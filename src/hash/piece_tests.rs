//! Compares every kernel with the crates `sha1` and `sha2`.

use std::io::Write as _;
use std::sync::LazyLock;

use proptest::prelude::*;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::*;
use crate::hash::kernels::portable_plans;
use crate::hash::{Kernel, choose};

fn expected(bytes: &[u8]) -> PieceHash {
    PieceHash(Sha1::digest(bytes).into())
}

/// Returns each plan that can run on this processor, with its name.
fn plans() -> impl Iterator<Item = &'static (String, &'static Plan)> {
    static PLANS: LazyLock<Vec<(String, &'static Plan)>> = LazyLock::new(|| {
        let forced = Kernel::available().map(|kernel| (kernel.to_string(), kernel.plan().unwrap()));
        let portable_plans = portable_plans().map(|(name, plan)| (name, &*Box::leak(Box::new(plan))));
        forced.chain(portable_plans).collect()
    });
    PLANS.iter()
}

/// Writes past the capture of the test harness, so that the output of a run shows which kernels it did not test.
#[test]
fn each_kernel_is_tested_or_reported() {
    for kernel in Kernel::ALL {
        let line = match kernel.plan() {
            Ok(plan) => format!("hash kernel {kernel}: tested: {plan}\n"),
            Err(_) => format!("hash kernel {kernel}: NOT TESTED: this processor lacks it\n"),
        };
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
}

fn bytes(len: usize, rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

#[track_caller]
fn check(plan: &Plan, pieces: &[Vec<&[u8]>]) {
    let hashes = sha1_batch_with(plan, pieces.iter().map(|spans| spans.iter().copied()));
    let wanted: Vec<_> = pieces.iter().map(|spans| expected(&spans.concat())).collect();
    assert_eq!(hashes, wanted, "{plan}");
    let hashes = sha256_batch_with(plan, pieces.iter().map(|spans| spans.iter().copied()));
    let wanted: Vec<_> = pieces.iter().map(|spans| Sha256Hash::from(Sha256::digest(spans.concat()))).collect();
    assert_eq!(hashes, wanted, "SHA-256, {}", plan.sha256);
}

/// FIPS 180-2, appendices A and B, and the empty message.
#[test]
fn nist_vectors() {
    let million = vec![b'a'; 1_000_000];
    let long = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    let messages: [&[u8]; 4] = [b"abc", long, &million, b""];
    let sha1 = [
        "a9993e364706816aba3e25717850c26c9cd0d89d",
        "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
        "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    ];
    let sha256 = [
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ];
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for &(ref kernel, plan) in plans() {
        // All messages at once, then one at a time.
        for chunk_len in [4, 1] {
            for (messages, (sha1, sha256)) in
                messages.chunks(chunk_len).zip(sha1.chunks(chunk_len).zip(sha256.chunks(chunk_len)))
            {
                let hashes = sha1_batch_with(plan, messages.iter().map(|message| [*message]));
                assert_eq!(hashes.iter().map(|hash| hex(&hash.0)).collect::<Vec<_>>(), sha1, "{kernel}");
                let hashes = sha256_batch_with(plan, messages.iter().map(|message| [*message]));
                assert_eq!(hashes.iter().map(|hash| hex(hash)).collect::<Vec<_>>(), sha256, "{kernel}");
            }
        }
    }
}

#[test]
fn lengths_around_every_boundary() {
    let rng = &mut fastrand::Rng::with_seed(1);
    let content = bytes(64 * 8 + 2, rng);
    for &(_, plan) in plans() {
        for len in 0..content.len() {
            check(plan, &[vec![&content[..len]]]);
        }
        // All at once: lanes of every length, refilled at different times.
        let pieces: Vec<_> = (0..content.len()).map(|len| vec![&content[..len]]).collect();
        check(plan, &pieces);
    }
}

#[test]
fn batches_of_every_size() {
    let rng = &mut fastrand::Rng::with_seed(2);
    let content = bytes(40 << 10, rng);
    for &(_, plan) in plans() {
        check(plan, &[]);
        for count in 1..=40 {
            let equal: Vec<_> = content.chunks(1 << 10).take(count).map(|piece| vec![piece]).collect();
            check(plan, &equal);
            let unequal: Vec<_> = (0..count)
                .map(|_| {
                    let start = rng.usize(..content.len());
                    vec![&content[start..][..rng.usize(..2000.min(content.len() - start))]]
                })
                .collect();
            check(plan, &unequal);
        }
    }
}

#[test]
fn spans_split_anywhere() {
    let rng = &mut fastrand::Rng::with_seed(3);
    let content = bytes(600, rng);
    for &(_, plan) in plans() {
        for split in 0..content.len() {
            let (front, back) = content.split_at(split);
            let (other_front, other_back) = content.split_at(content.len() - split);
            check(plan, &[vec![front, back], vec![other_front, &[], other_back], vec![front], vec![back, front, back]]);
        }
        // A byte at a time.
        check(plan, &[content.chunks(1).collect()]);
    }
}

#[test]
fn starts_at_any_address() {
    let rng = &mut fastrand::Rng::with_seed(6);
    let content = bytes(64 * 5 + 64, rng);
    for &(_, plan) in plans() {
        for start in 0..64 {
            // Every lane at the same offset, then each at its own.
            check(plan, &vec![vec![&content[start..][..64 * 5]]; 16]);
            let own: Vec<_> = (0..17).map(|lane| vec![&content[(start + 7 * lane) % 64..][..64 * 5 - lane]]).collect();
            check(plan, &own);
        }
    }
}

#[test]
fn lanes_split_around_block_boundaries() {
    let rng = &mut fastrand::Rng::with_seed(7);
    let content = bytes(64 * 6, rng);
    let splits: Vec<usize> = (1..6).flat_map(|block| 64 * block - 9..=64 * block + 9).collect();
    for &(_, plan) in plans() {
        for lane_count in 1..=40 {
            // Neighboring pieces are split at different offsets, some of them twice in one block.
            let pieces: Vec<Vec<&[u8]>> = (0..lane_count)
                .map(|_| {
                    let [a, b] = [(); 2].map(|()| splits[rng.usize(..splits.len())]);
                    vec![&content[..a.min(b)], &content[a.min(b)..a.max(b)], &content[a.max(b)..]]
                })
                .collect();
            check(plan, &pieces);
        }
        for &split in &splits {
            let (front, back) = content.split_at(split);
            check(plan, &vec![vec![front, back]; 16]);
            for &other in splits.iter().filter(|other| **other > split) {
                check(plan, &[vec![front, &back[..other - split], &content[other..]]]);
            }
        }
    }
}

#[test]
fn long_pieces_stagger() {
    let rng = &mut fastrand::Rng::with_seed(4);
    let content = bytes(17 * (32 << 10), rng);
    for &(_, plan) in plans() {
        for count in [1, 2, 4, 5, 8, 9, 12, 13, 15, 16, 17] {
            let aligned: Vec<_> = content.chunks(32 << 10).take(count).map(|piece| vec![piece]).collect();
            check(plan, &aligned);
            let ragged: Vec<_> =
                aligned.iter().enumerate().map(|(i, piece)| vec![&piece[0][i..], &piece[0][..i * 777]]).collect();
            check(plan, &ragged);
        }
    }
}

#[test]
fn parts_hash_as_one_piece() {
    let rng = &mut fastrand::Rng::with_seed(5);
    let content = bytes(64 << 10, rng);
    for count in [1, 3, 16, 21] {
        let mut hashers = vec![PieceHasher::default(); count];
        for _ in 0..2 {
            let mut wholes = vec![Vec::new(); count];
            for _ in 0..20 {
                let parts: Vec<&[u8]> = (0..count)
                    .map(|_| &content[rng.usize(..content.len() / 2)..][..rng.usize(..content.len() / 2)])
                    .collect();
                PieceHasher::update_batch(&mut hashers, &parts);
                wholes.iter_mut().zip(parts).for_each(|(whole, part)| whole.extend_from_slice(part));
            }
            let mut hashes = vec![PieceHash([0; 20]); count];
            PieceHasher::finish_batch(&mut hashers, &mut hashes);
            assert_eq!(hashes, wholes.iter().map(|whole| expected(whole)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_hasher_starts_a_new_piece_after_finish() {
    let mut hasher = PieceHasher::default();
    hasher.update(b"something else");
    hasher.finish();
    hasher.update(b"a");
    hasher.update(b"bc");
    assert_eq!(hasher.finish(), expected(b"abc"));
    assert_eq!(hasher.finish(), expected(b""));
}

#[test]
fn the_chosen_kernel_hashes() {
    for kernel in Kernel::available() {
        choose(kernel).unwrap();
        assert_eq!(sha1_batch([[&b"abc"[..]]; 20]), [expected(b"abc"); 20]);
        assert_eq!(sha1(&[b"a", b"", b"bc"]), expected(b"abc"));
        assert_eq!(sha256_batch([[&b"abc"[..]]; 20]), [Sha256Hash::from(Sha256::digest(b"abc")); 20]);
    }
    choose(Kernel::Auto).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_pieces_in_any_spans(lens in prop::collection::vec(prop::collection::vec(0..700usize, 0..6), 0..41), seed: u64) {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let content = bytes(2000, rng);
        let pieces: Vec<Vec<&[u8]>> = lens
            .iter()
            .map(|spans| spans.iter().map(|len| &content[rng.usize(..1000)..][..*len]).collect())
            .collect();
        for &(_, plan) in plans() {
            check(plan, &pieces);
        }
    }
}
