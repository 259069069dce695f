//! SHA-1 over a vector of lanes, written once for every kind of vector.
//!
//! Macros and not generic functions: functions with `#[target_feature]` call each other without `unsafe` by name alone.

/// Defines `compress` for `$lanes` lanes.
///
/// In scope where it is used: `Vector`; `splat`, `add`, `xor`, `rotl1`, `rotl5`, `rotl30`; `choose`, `parity`, `majority`
/// (FIPS 180-4, 4.1.1); `from_words`, `to_words`; `load`, which reads a sixteenth of one block of every lane, and
/// `transpose`, which makes message words of the sixteen parts.
macro_rules! lanes {
    ($lanes:literal, $features:literal) => {
        const LANES: usize = $lanes;

        /// Takes one run of blocks into each state. Runs are equally long; there are at most as many as lanes.
        #[target_feature(enable = $features)]
        pub(super) fn compress(states: &mut [State], runs: &[&[Block]]) {
            let count = runs.first().map_or(0, |run| run.len());
            assert!(states.len() == runs.len() && runs.len() <= LANES && runs.iter().all(|run| run.len() == count));
            if count == 0 {
                return;
            }
            let mut words = [[0; LANES]; 5];
            // Idle lanes repeat the first.
            let mut all_runs = [runs[0]; LANES];
            for (lane, (state, run)) in states.iter().zip(runs).enumerate() {
                all_runs[lane] = run;
                for (word, value) in words.iter_mut().zip(state) {
                    word[lane] = *value;
                }
            }
            compress_lanes(&mut words, &all_runs, count);
            for (lane, state) in states.iter_mut().enumerate() {
                for (word, value) in words.iter().zip(state) {
                    *value = word[lane];
                }
            }
        }

        #[target_feature(enable = $features)]
        fn compress_lanes(words: &mut [[u32; LANES]; 5], runs: &[&[Block]; LANES], count: usize) {
            let [mut a, mut b, mut c, mut d, mut e] = [splat(0); 5];
            for (vector, words) in [&mut a, &mut b, &mut c, &mut d, &mut e].into_iter().zip(&*words) {
                *vector = from_words(words);
            }
            let mut blocks = [&runs[0][0]; LANES];
            let mut next = [splat(0); 16];
            for (block, run) in blocks.iter_mut().zip(runs) {
                *block = &run[0];
            }
            for (part, vector) in next.iter_mut().enumerate() {
                *vector = load(&blocks, part);
            }
            for index in 0..count {
                let mut w = transpose(&next);
                // The next block comes in during the last rounds of this one. After the last block it is read again, for nothing.
                for (block, run) in blocks.iter_mut().zip(runs) {
                    *block = &run[(index + 1).min(count - 1)];
                }
                let before = [a, b, c, d, e];
                twenty!(choose, splat(0x5a82_7999), 0, a b c d e, w next blocks);
                twenty!(parity, splat(0x6ed9_eba1), 20, a b c d e, w next blocks);
                twenty!(majority, splat(0x8f1b_bcdc), 40, a b c d e, w next blocks);
                twenty!(parity, splat(0xca62_c1d6), 60, a b c d e, w next blocks);
                for (vector, before) in [&mut a, &mut b, &mut c, &mut d, &mut e].into_iter().zip(before) {
                    *vector = add(*vector, before);
                }
            }
            for (words, vector) in words.iter_mut().zip([a, b, c, d, e]) {
                *words = to_words(vector);
            }
        }
    };
}

/// Twenty rounds with one function and one constant.
macro_rules! twenty {
    ($f:ident, $k:expr, $t:expr, $a:ident $b:ident $c:ident $d:ident $e:ident, $($names:ident)*) => {
        five!($f, $k, $t, $a $b $c $d $e, $($names)*);
        five!($f, $k, $t + 5, $a $b $c $d $e, $($names)*);
        five!($f, $k, $t + 10, $a $b $c $d $e, $($names)*);
        five!($f, $k, $t + 15, $a $b $c $d $e, $($names)*);
    };
}

/// The variables change places each round; after five they are home again.
macro_rules! five {
    ($f:ident, $k:expr, $t:expr, $a:ident $b:ident $c:ident $d:ident $e:ident, $($names:ident)*) => {
        round!($f, $k, $t, $a $b $c $d $e, $($names)*);
        round!($f, $k, $t + 1, $e $a $b $c $d, $($names)*);
        round!($f, $k, $t + 2, $d $e $a $b $c, $($names)*);
        round!($f, $k, $t + 3, $c $d $e $a $b, $($names)*);
        round!($f, $k, $t + 4, $b $c $d $e $a, $($names)*);
    };
}

/// Round `$t`. From round 16 on it makes its own message word, in the place of the one sixteen rounds ago.
macro_rules! round {
    ($f:ident, $k:expr, $t:expr, $a:ident $b:ident $c:ident $d:ident $e:ident, $w:ident $next:ident $blocks:ident) => {
        if $t >= 16 {
            let newer = parity($w[($t + 13) % 16], $w[($t + 8) % 16], $w[($t + 2) % 16]);
            $w[$t % 16] = rotl1(xor(newer, $w[$t % 16]));
        }
        $e = add(add(add($e, add($w[$t % 16], $k)), $f($b, $c, $d)), rotl5($a));
        $b = rotl30($b);
        if $t >= 64 {
            $next[$t % 16] = load(&$blocks, $t % 16);
        }
    };
}
