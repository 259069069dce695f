//! SHA-1 and SHA-256 over a vector of lanes, written once for all kinds of vectors.
//!
//! These are macros because a function with `#[target_feature]` can call another one without `unsafe` only by its name,
//! not through a generic parameter.

/// Defines the compression function `$name` with `$words` words of state, which are held in the named variables. The
/// function may use the processor's `$features`.
///
/// The caller must have in scope: `LANES` and `Vector`; `splat`, `add`, `xor`, `rotl` and `shr`; `choose`, `parity` and
/// `majority` (FIPS 180-4, 4.1); `from_words` and `to_words`; `load`, which reads a sixteenth of one block of every
/// lane; and `transpose`, which turns the sixteen parts into message words.
macro_rules! lanes {
    ($name:ident: $words:ident, $rounds:ident, $($word:ident)* $(, $features:literal)?) => {
        /// Compresses one run of blocks into each state. Takes at most `LANES` runs of equal length.
        $(#[target_feature(enable = $features)])?
        pub(super) fn $name(states: &mut [State<$words>], runs: &[&[Block]]) {
            let count = runs.first().map_or(0, |run| run.len());
            assert!(states.len() == runs.len() && runs.len() <= LANES && runs.iter().all(|run| run.len() == count));
            if count == 0 {
                return;
            }
            let mut words = [[0; LANES]; $words];
            // Idle lanes repeat the first.
            let mut all_runs = [runs[0]; LANES];
            for (lane, (state, run)) in states.iter().zip(runs).enumerate() {
                all_runs[lane] = run;
                for (word, value) in words.iter_mut().zip(state) {
                    word[lane] = *value;
                }
            }
            compress(&mut words, &all_runs, count);
            for (lane, state) in states.iter_mut().enumerate() {
                for (word, value) in words.iter().zip(state) {
                    *value = word[lane];
                }
            }

            $(#[target_feature(enable = $features)])?
            fn compress(words: &mut [[u32; LANES]; $words], runs: &[&[Block]; LANES], count: usize) {
                let [$(mut $word),*] = [splat(0); $words];
                for (vector, words) in [$(&mut $word),*].into_iter().zip(&*words) {
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
                    // The next block is loaded during the last rounds of this one. The last block is loaded twice.
                    for (block, run) in blocks.iter_mut().zip(runs) {
                        *block = &run[(index + 1).min(count - 1)];
                    }
                    let before = [$($word),*];
                    $rounds!($($word)*, w next blocks);
                    for (vector, before) in [$(&mut $word),*].into_iter().zip(before) {
                        *vector = add(*vector, before);
                    }
                }
                for (words, vector) in words.iter_mut().zip([$($word),*]) {
                    *words = to_words(vector);
                }
            }
        }
    };
}

/// The eighty rounds of SHA-1 (FIPS 180-4, 6.1.2).
macro_rules! sha1_rounds {
    ($a:ident $b:ident $c:ident $d:ident $e:ident, $($names:ident)*) => {
        twenty!(choose, splat(0x5a82_7999), 0, $a $b $c $d $e, $($names)*);
        twenty!(parity, splat(0x6ed9_eba1), 20, $a $b $c $d $e, $($names)*);
        twenty!(majority, splat(0x8f1b_bcdc), 40, $a $b $c $d $e, $($names)*);
        twenty!(parity, splat(0xca62_c1d6), 60, $a $b $c $d $e, $($names)*);
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

/// Five rounds. The variables rotate in each round and are in their first order after five.
macro_rules! five {
    ($f:ident, $k:expr, $t:expr, $a:ident $b:ident $c:ident $d:ident $e:ident, $($names:ident)*) => {
        sha1_round!($f, $k, $t, $a $b $c $d $e, $($names)*);
        sha1_round!($f, $k, $t + 1, $e $a $b $c $d, $($names)*);
        sha1_round!($f, $k, $t + 2, $d $e $a $b $c, $($names)*);
        sha1_round!($f, $k, $t + 3, $c $d $e $a $b, $($names)*);
        sha1_round!($f, $k, $t + 4, $b $c $d $e $a, $($names)*);
    };
}

/// Round `$t`. From round 16 on it computes its message word, which replaces the word of sixteen rounds before.
macro_rules! sha1_round {
    ($f:ident, $k:expr, $t:expr, $a:ident $b:ident $c:ident $d:ident $e:ident, $w:ident $next:ident $blocks:ident) => {
        if $t >= 16 {
            let newer = parity($w[($t + 13) % 16], $w[($t + 8) % 16], $w[($t + 2) % 16]);
            $w[$t % 16] = rotl::<1>(xor(newer, $w[$t % 16]));
        }
        $e = add(add(add($e, add($w[$t % 16], $k)), $f($b, $c, $d)), rotl::<5>($a));
        $b = rotl::<30>($b);
        if $t >= 64 {
            $next[$t % 16] = load(&$blocks, $t % 16);
        }
    };
}

/// The 64 rounds of SHA-256 (FIPS 180-4, 6.2.2).
macro_rules! sha256_rounds {
    ($($names:ident)*, $w:ident $next:ident $blocks:ident) => {
        eight!(0, $($names)*, $w $next $blocks);
        eight!(8, $($names)*, $w $next $blocks);
        eight!(16, $($names)*, $w $next $blocks);
        eight!(24, $($names)*, $w $next $blocks);
        eight!(32, $($names)*, $w $next $blocks);
        eight!(40, $($names)*, $w $next $blocks);
        eight!(48, $($names)*, $w $next $blocks);
        eight!(56, $($names)*, $w $next $blocks);
    };
}

/// Eight rounds. The variables rotate in each round and are in their first order after eight.
macro_rules! eight {
    ($t:expr, $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $($names:ident)*) => {
        sha256_round!($t, $a $b $c $d $e $f $g $h, $($names)*);
        sha256_round!($t + 1, $h $a $b $c $d $e $f $g, $($names)*);
        sha256_round!($t + 2, $g $h $a $b $c $d $e $f, $($names)*);
        sha256_round!($t + 3, $f $g $h $a $b $c $d $e, $($names)*);
        sha256_round!($t + 4, $e $f $g $h $a $b $c $d, $($names)*);
        sha256_round!($t + 5, $d $e $f $g $h $a $b $c, $($names)*);
        sha256_round!($t + 6, $c $d $e $f $g $h $a $b, $($names)*);
        sha256_round!($t + 7, $b $c $d $e $f $g $h $a, $($names)*);
    };
}

/// Round `$t`. From round 16 on it computes its message word, which replaces the word of sixteen rounds before.
///
/// The standard rotates right by n; this rotates left by 32 - n.
macro_rules! sha256_round {
    ($t:expr, $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $w:ident $next:ident $blocks:ident) => {
        if $t >= 16 {
            let (older, newer) = ($w[($t + 1) % 16], $w[($t + 14) % 16]);
            let older = parity(rotl::<25>(older), rotl::<14>(older), shr::<3>(older));
            let newer = parity(rotl::<15>(newer), rotl::<13>(newer), shr::<10>(newer));
            $w[$t % 16] = add(add($w[$t % 16], older), add($w[($t + 9) % 16], newer));
        }
        let mixed = parity(rotl::<26>($e), rotl::<21>($e), rotl::<7>($e));
        let first = add(add(add($h, add($w[$t % 16], splat(SHA256_K[$t]))), choose($e, $f, $g)), mixed);
        $d = add($d, first);
        let mixed = parity(rotl::<30>($a), rotl::<19>($a), rotl::<10>($a));
        $h = add(add(first, majority($a, $b, $c)), mixed);
        if $t >= 48 {
            $next[$t % 16] = load(&$blocks, $t % 16);
        }
    };
}
