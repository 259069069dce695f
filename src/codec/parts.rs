//! The file of partial pieces, kept over a restart of a download. The format is our own.
//!
//! The file holds `MAGIC` and a byte for the version; the info-hash; the number of pieces, and for each piece its
//! index, a `bitfield` (BEP 3) of the blocks present, and the bytes of these blocks; and the SHA-1 of all that. Numbers
//! are 64 bits wide and big-endian. The blocks are as peers sent them; they are verified when their piece is complete.

use std::io::{self, Write};

use sha1::{Digest as _, Sha1};

use super::reader::Reader;
use super::resume::{ResumeError, open_frame};
use crate::base::ids::SHA1_LEN;
use crate::base::{Bitfield, Geometry, InfoHash, PieceIndex};

const MAGIC: [u8; 14] = *b"bt-fast parts\n";
const VERSION: u8 = 1;

/// A piece with the grid blocks of it that are present, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    pub piece: PieceIndex,
    /// The index and the bytes of each block.
    pub blocks: Vec<(usize, &'a [u8])>,
}

impl Part<'_> {
    /// Returns the bytes of all blocks.
    pub fn len(&self) -> usize {
        self.blocks.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// Returns the length in bytes of a file without parts, and the bytes that each part adds besides its blocks.
pub fn frame_len(geometry: &Geometry) -> (usize, usize) {
    let bits = geometry.piece(0).map_or(0, |piece| geometry.block_count(piece).div_ceil(8) as usize);
    (MAGIC.len() + 1 + SHA1_LEN + size_of::<u64>() + SHA1_LEN, size_of::<u64>() + bits)
}

/// Writes parts in the given order, without copying the blocks.
pub fn write_parts(
    out: &mut impl Write,
    info_hash: InfoHash,
    geometry: &Geometry,
    parts: &[Part<'_>],
) -> io::Result<()> {
    let mut hash = Sha1::new();
    let mut write = |bytes: &[u8]| {
        hash.update(bytes);
        out.write_all(bytes)
    };
    write(&MAGIC)?;
    write(&[VERSION])?;
    write(&info_hash.0)?;
    write(&(parts.len() as u64).to_be_bytes())?;
    for Part { piece, blocks } in parts {
        let mut bits = vec![0u8; geometry.block_count(*piece).div_ceil(8) as usize];
        for (block_index, _) in blocks {
            if let Some(byte) = bits.get_mut(block_index / 8) {
                *byte |= 0x80 >> (block_index % 8);
            }
        }
        write(&u64::from(piece.get()).to_be_bytes())?;
        write(&bits)?;
        blocks.iter().try_for_each(|(_, bytes)| write(bytes))?;
    }
    out.write_all(&hash.finalize())
}

/// Reads the parts of a torrent's pieces.
pub fn read_parts<'a>(bytes: &'a [u8], info_hash: InfoHash, geometry: &Geometry) -> Result<Vec<Part<'a>>, ResumeError> {
    let mut reader = open_frame(bytes, MAGIC, VERSION, info_hash)?;
    read_body(&mut reader, geometry).filter(|_| reader.is_empty()).ok_or(ResumeError::Damaged)
}

/// Reads the part of the file after the info-hash.
fn read_body<'a>(reader: &mut Reader<'a>, geometry: &Geometry) -> Option<Vec<Part<'a>>> {
    let number = |reader: &mut Reader<'a>| reader.array().map(u64::from_be_bytes);
    let count = number(reader)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        let piece = geometry.piece(u32::try_from(number(reader)?).ok()?)?;
        let block_count = geometry.block_count(piece);
        let present = Bitfield::from_wire(reader.take(block_count.div_ceil(8) as usize)?, block_count).ok()?;
        let mut blocks = Vec::with_capacity(present.count());
        for block_index in present.iter() {
            let block = geometry.block(piece, u32::try_from(block_index).ok()?)?;
            blocks.push((block_index, reader.take(block.len as usize)?));
        }
        parts.push(Part { piece, blocks });
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO_HASH: InfoHash = InfoHash([7; 20]);

    /// Returns a geometry of three blocks per piece, with a last piece of one short block.
    fn geometry() -> Geometry {
        Geometry::new(40_000, [80_005]).unwrap()
    }

    fn written(parts: &[Part<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_parts(&mut bytes, INFO_HASH, &geometry(), parts).unwrap();
        bytes
    }

    fn example() -> Vec<u8> {
        let geometry = geometry();
        let piece = |index| geometry.piece(index).unwrap();
        let first = Part { piece: piece(1), blocks: vec![(0, &[1; 16_384]), (2, &[3; 40_000 - 32_768])] };
        written(&[first, Part { piece: piece(2), blocks: vec![(0, &[9; 5])] }])
    }

    #[test]
    fn written_parts_are_read_back() {
        let (bytes, geometry) = (example(), geometry());
        let parts = read_parts(&bytes, INFO_HASH, &geometry).unwrap();
        let shown: Vec<_> = parts.iter().map(|part| (part.piece.get(), part.blocks.len(), part.len())).collect();
        assert_eq!(shown, [(1, 2, 16_384 + 7_232), (2, 1, 5)]);
        assert_eq!(parts[0].blocks[1], (2, &[3; 7_232][..]));
        assert_eq!(written(&parts), bytes);
        let (frame, each) = frame_len(&geometry);
        assert_eq!(bytes.len(), frame + 2 * each + parts.iter().map(Part::len).sum::<usize>());
        assert_eq!(read_parts(&written(&[]), INFO_HASH, &geometry), Ok(Vec::new()));
    }

    #[test]
    fn damaged_foreign_and_other_versions_are_refused() {
        let (bytes, geometry) = (example(), geometry());
        let read = |bytes: &[u8]| read_parts(bytes, INFO_HASH, &geometry).unwrap_err();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let expected = match at {
                0..14 => ResumeError::NoRecord,
                14 => ResumeError::Version(damaged[14]),
                15..35 => ResumeError::Foreign,
                _ => ResumeError::Damaged,
            };
            assert_eq!(read(&damaged), expected, "byte {at}");
            read(&bytes[..at]);
        }
        assert_eq!(read(&[&bytes[..], &[0]].concat()), ResumeError::Damaged);
        assert_eq!(read_parts(&bytes, InfoHash([8; 20]), &geometry), Err(ResumeError::Foreign));
    }

    /// A right checksum does not make impossible contents valid.
    #[test]
    fn impossible_contents_with_a_right_checksum_are_refused() {
        let geometry = geometry();
        let read = |change: fn(&mut Vec<u8>)| {
            let mut bytes = example();
            bytes.truncate(bytes.len() - SHA1_LEN);
            change(&mut bytes);
            let hash = Sha1::digest(&bytes);
            bytes.extend(hash);
            read_parts(&bytes, INFO_HASH, &geometry).err()
        };
        assert_eq!(read(|_| ()), None);
        let changes: [fn(&mut Vec<u8>); 7] = [
            |bytes| bytes[42] = 3,
            |bytes| bytes[35] = 0xff,
            |bytes| bytes[50] = 3,
            |bytes| bytes[51] |= 1,
            |bytes| bytes[51] |= 0x40,
            |bytes| bytes.truncate(1000),
            |bytes| bytes.push(0),
        ];
        for change in changes {
            assert_eq!(read(change), Some(ResumeError::Damaged));
        }
    }
}
