//! The default piece length. The rule must not change, since the same content must always give the same info-hash.

use crate::base::Geometry;
use crate::base::limits::{PIECE_COUNT_PORTABLE_MAX, PIECE_LEN_CREATE_MAX, PIECE_LEN_CREATE_MIN};
use crate::base::units::Bytes;

/// The target number of pieces: enough for peers to share the work, and few enough for a small `.torrent`.
const PIECE_COUNT_TARGET: u64 = 2048;

/// The longest piece that the target may lead to: a peer cannot upload a piece before it has all of it.
const PIECE_LEN_COMFORTABLE: u32 = 16 << 20;

/// The smallest power of two, from 16 KiB to 16 MiB, that divides the content into at most 2048 pieces. Longer pieces,
/// up to 256 MiB, are used only if 16 MiB would give more pieces than all clients can load.
pub fn automatic(total_len: u64) -> u32 {
    let mut piece_len = PIECE_LEN_CREATE_MIN;
    loop {
        let piece_count = total_len.div_ceil(u64::from(piece_len));
        let count_max =
            if piece_len < PIECE_LEN_COMFORTABLE { PIECE_COUNT_TARGET } else { u64::from(PIECE_COUNT_PORTABLE_MAX) };
        if piece_count <= count_max || piece_len == PIECE_LEN_CREATE_MAX {
            return piece_len;
        }
        piece_len *= 2;
    }
}

/// The default of libtorrent's `load_torrent_limits::max_buffer_size`.
const LIBTORRENT_METAINFO_LEN_MAX: usize = 10_000_000;

/// The maximum length of pieces that libtorrent creates. It loads longer ones.
const LIBTORRENT_PIECE_LEN_CREATE_MAX: u32 = 128 << 20;

/// Names the clients that cannot load a torrent with this geometry and metainfo length, one line each.
pub fn caveats(geometry: &Geometry, metainfo_len: usize) -> Vec<String> {
    let (piece_len, piece_count) = (geometry.piece_len(), geometry.piece_count());
    let mut caveats = Vec::new();
    if piece_count > PIECE_COUNT_PORTABLE_MAX {
        caveats.push(format!(
            "{piece_count} pieces: rqbit can't download more than {PIECE_COUNT_PORTABLE_MAX}: give a larger -l"
        ));
    }
    if piece_len > LIBTORRENT_PIECE_LEN_CREATE_MAX {
        caveats.push(format!(
            "pieces of {}: libtorrent creates none longer than {}, so clients may not expect them: give a smaller -l",
            Bytes(u64::from(piece_len)),
            Bytes(u64::from(LIBTORRENT_PIECE_LEN_CREATE_MAX))
        ));
    }
    if metainfo_len > LIBTORRENT_METAINFO_LEN_MAX {
        caveats.push(format!(
            "a .torrent of {metainfo_len} bytes: programs that use libtorrent load at most \
             {LIBTORRENT_METAINFO_LEN_MAX} by default: give a larger -l or fewer files"
        ));
    }
    caveats
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;

    #[test]
    fn the_rule_is_stable() {
        for (total_len, piece_len) in [
            (1, 16 * KIB),
            (MIB, 16 * KIB),
            (32 * MIB, 16 * KIB),
            (32 * MIB + 1, 32 * KIB),
            (64 * MIB, 32 * KIB),
            (100 * MIB, 64 * KIB),
            (700 * MIB, 512 * KIB),
            (GIB, 512 * KIB),
            (2 * GIB, MIB),
            (4 * GIB, 2 * MIB),
            (10 * GIB, 8 * MIB),
            (16 * GIB, 8 * MIB),
            (32 * GIB, 16 * MIB),
            (33 * GIB, 16 * MIB),
            (TIB, 16 * MIB),
            (3 * TIB, 16 * MIB),
            (4 * TIB, 32 * MIB),
            (8 * TIB, 64 * MIB),
            (crate::base::limits::CONTENT_LEN_MAX, 256 * MIB),
        ] {
            assert_eq!(u64::from(automatic(total_len)), piece_len, "{total_len} bytes");
        }
    }

    #[test]
    fn clients_that_cannot_load_a_torrent_are_named() {
        let caveats = |piece_len: u32, total_len: u64, metainfo_len| {
            caveats(&Geometry::new(piece_len, [total_len]).unwrap(), metainfo_len)
        };
        assert!(caveats(16 << 20, 262_000 * 16 * MIB, 6_000_000).is_empty());
        assert!(caveats(128 << 20, GIB, 1000).is_empty());
        let many = caveats(16 << 10, 300_000 * 16 * KIB, 6_000_000);
        assert!(many.len() == 1 && many[0].contains("rqbit"), "{many:?}");
        let long = caveats(256 << 20, GIB, 1000);
        assert!(long.len() == 1 && long[0].contains("256 MiB: libtorrent"), "{long:?}");
        let large = caveats(16 << 10, GIB, 11_000_000);
        assert!(large.len() == 1 && large[0].contains("libtorrent load"), "{large:?}");
    }
}
