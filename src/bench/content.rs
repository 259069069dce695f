//! Random content, which does not compress.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::base::Rng;

const CHUNK_LEN: usize = 1 << 20;

/// Writes a new file of `len` random bytes. The same seed gives the same bytes.
pub(super) fn write_random(path: &Path, len: u64, rng_seed: u64) -> io::Result<()> {
    let mut rng = Rng::with_seed(rng_seed);
    let mut file = File::create_new(path)?;
    let mut chunk = vec![0; CHUNK_LEN];
    let mut left = len;
    while left > 0 {
        rng.fill(&mut chunk);
        let part = usize::try_from(left).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
        file.write_all(&chunk[..part])?;
        left -= part as u64;
    }
    // Writeback must not disturb the measurement that follows.
    file.sync_data()
}
