//! The resume record of a download: the pieces that are on disk, and the identity of the files that hold them. The
//! format is our own.
//!
//! The record holds `MAGIC` and a byte for the version; the info-hash; one byte, 0 or 1, whether the run that wrote it
//! has ended; the time of writing in seconds since 1970; the number of files, and seven numbers for each; the number of
//! pieces, and a `bitfield` (BEP 3) of those that we have; and the SHA-1 of all that. Numbers are 64 bits wide and
//! big-endian.

use sha1::{Digest as _, Sha1};

use super::reader::Reader;
use crate::base::ids::SHA1_LEN;
use crate::base::{Bitfield, FileIdentity, FileTime, InfoHash};

const MAGIC: [u8; 15] = *b"bt-fast resume\n";
const VERSION: u8 = 2;
const FILE_LEN: usize = 7 * size_of::<u64>();
/// Length in bytes of a record without files and pieces.
const FRAME_LEN: usize = MAGIC.len() + 1 + SHA1_LEN + 1 + 3 * size_of::<u64>() + SHA1_LEN;

/// The content of a resume record; see the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeRecord {
    pub info_hash: InfoHash,
    /// The run ended in order, so the files are exactly as the record says.
    pub ended: bool,
    /// Seconds since 1970.
    pub written_at: i64,
    /// In the torrent's order, without pad files (BEP 47).
    pub files: Vec<FileIdentity>,
    /// Pieces whose bytes were synced to disk.
    pub have: Bitfield,
}

/// Why a record cannot be used. In each case the files of the torrent must be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    #[error("it is not a resume record")]
    NoRecord,
    #[error("it was written by another version of bt-fast (format {0})")]
    Version(u8),
    #[error("it is damaged")]
    Damaged,
    #[error("it belongs to another torrent")]
    Foreign,
}

impl ResumeRecord {
    /// Returns the length in bytes of a record for this number of files and pieces.
    pub fn encoded_len(file_count: usize, piece_count: usize) -> usize {
        FRAME_LEN + file_count * FILE_LEN + piece_count.div_ceil(8)
    }

    pub fn encode(&self) -> Vec<u8> {
        let pieces = self.have.to_wire();
        let mut bytes = Vec::with_capacity(Self::encoded_len(self.files.len(), self.have.piece_count()));
        bytes.extend(MAGIC);
        bytes.push(VERSION);
        bytes.extend(self.info_hash.0);
        bytes.push(u8::from(self.ended));
        bytes.extend(self.written_at.to_be_bytes());
        bytes.extend((self.files.len() as u64).to_be_bytes());
        for FileIdentity { dev, ino, len, mtime, ctime } in &self.files {
            let times = [mtime.s, mtime.ns, ctime.s, ctime.ns].map(i64::cast_unsigned);
            bytes.extend([*dev, *ino, *len].into_iter().chain(times).flat_map(u64::to_be_bytes));
        }
        bytes.extend((self.have.piece_count() as u64).to_be_bytes());
        bytes.extend(pieces);
        let hash = Sha1::digest(&bytes);
        bytes.extend(hash);
        bytes
    }

    /// Reads the record of a torrent with this number of pieces and of files, not counting pad files.
    pub fn decode(bytes: &[u8], info_hash: InfoHash, file_count: usize, piece_count: u32) -> Result<Self, ResumeError> {
        let mut reader = open_frame(bytes, MAGIC, VERSION, info_hash)?;
        if bytes.len() != Self::encoded_len(file_count, piece_count as usize) {
            return Err(ResumeError::Damaged);
        }
        Self::decode_body(&mut reader, info_hash, file_count, piece_count).ok_or(ResumeError::Damaged)
    }

    /// Reads the part after the info-hash. The length of the record must be right for the counts.
    fn decode_body(reader: &mut Reader<'_>, info_hash: InfoHash, file_count: usize, piece_count: u32) -> Option<Self> {
        let ended = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let number = |reader: &mut Reader<'_>| reader.array().map(u64::from_be_bytes);
        let written_at = number(reader)?.cast_signed();
        if number(reader)? != file_count as u64 {
            return None;
        }
        let mut files = Vec::with_capacity(file_count);
        for _ in 0..file_count {
            let (dev, ino, len) = (number(reader)?, number(reader)?, number(reader)?);
            let mut time = || Some(FileTime { s: number(reader)?.cast_signed(), ns: number(reader)?.cast_signed() });
            files.push(FileIdentity { dev, ino, len, mtime: time()?, ctime: time()? });
        }
        if number(reader)? != u64::from(piece_count) {
            return None;
        }
        let pieces = reader.take((piece_count as usize).div_ceil(8))?;
        let have = Bitfield::from_wire(pieces, piece_count).ok()?;
        Some(Self { info_hash, ended, written_at, files, have })
    }
}

/// Checks magic, version, info-hash and closing SHA-1 of a file, and returns a reader of the bytes between the last
/// two.
pub(super) fn open_frame<const MAGIC_LEN: usize>(
    bytes: &[u8],
    magic: [u8; MAGIC_LEN],
    version: u8,
    info_hash: InfoHash,
) -> Result<Reader<'_>, ResumeError> {
    let mut reader = Reader::new(bytes);
    if reader.array() != Some(magic) {
        return Err(ResumeError::NoRecord);
    }
    match reader.u8().ok_or(ResumeError::Damaged)? {
        found if found == version => {}
        other => return Err(ResumeError::Version(other)),
    }
    // Before the checksum, since the caller reads no more bytes of a file than this torrent's file can have.
    if reader.array().map(InfoHash).ok_or(ResumeError::Damaged)? != info_hash {
        return Err(ResumeError::Foreign);
    }
    let (sealed, hash) = bytes.split_last_chunk::<SHA1_LEN>().ok_or(ResumeError::Damaged)?;
    if Sha1::digest(sealed).as_slice() != hash {
        return Err(ResumeError::Damaged);
    }
    let mut reader = Reader::new(sealed);
    reader.take(MAGIC_LEN + 1 + SHA1_LEN).ok_or(ResumeError::Damaged)?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Geometry;

    const INFO_HASH: InfoHash = InfoHash([7; 20]);

    fn record() -> ResumeRecord {
        let mut have = Bitfield::new(11);
        let geometry = Geometry::new(1, [11]).unwrap();
        for index in [0, 3, 10] {
            have.insert(geometry.piece(index).unwrap());
        }
        let time = |s| FileTime { s, ns: 999_999_999 };
        let file = |ino| FileIdentity { dev: u64::MAX, ino, len: 1 << 60, mtime: time(-1), ctime: time(1 << 40) };
        let files = vec![file(1), file(2)];
        ResumeRecord { info_hash: INFO_HASH, ended: true, written_at: 1_700_000_000, files, have }
    }

    fn decode(bytes: &[u8]) -> Result<ResumeRecord, ResumeError> {
        ResumeRecord::decode(bytes, INFO_HASH, 2, 11)
    }

    #[test]
    fn a_written_record_is_read_back() {
        for ended in [false, true] {
            let record = ResumeRecord { ended, ..record() };
            let bytes = record.encode();
            assert_eq!(bytes.len(), ResumeRecord::encoded_len(2, 11));
            assert_eq!(decode(&bytes), Ok(record));
        }
    }

    #[test]
    fn flipped_bits_and_prefixes_are_refused() {
        let bytes = record().encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let expected = match at {
                    0..15 => ResumeError::NoRecord,
                    15 => ResumeError::Version(damaged[15]),
                    16..36 => ResumeError::Foreign,
                    _ => ResumeError::Damaged,
                };
                assert_eq!(decode(&damaged), Err(expected), "byte {at}, bit {bit}");
            }
            assert!(decode(&bytes[..at]).is_err(), "{at} bytes");
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), Err(ResumeError::Damaged));
    }

    #[test]
    fn a_foreign_record_of_any_length_is_refused_as_foreign() {
        for pieces in [3, 11, 1000] {
            let record = ResumeRecord { info_hash: InfoHash([8; 20]), have: Bitfield::new(pieces), ..record() };
            let mut bytes = record.encode();
            bytes.truncate(ResumeRecord::encoded_len(2, 11) + 1);
            assert_eq!(decode(&bytes), Err(ResumeError::Foreign), "{pieces} pieces");
        }
    }

    /// A right checksum does not make impossible contents valid.
    #[test]
    fn impossible_contents_with_a_right_checksum_are_refused() {
        let sealed = |change: fn(&mut Vec<u8>)| {
            let mut bytes = record().encode();
            bytes.truncate(bytes.len() - SHA1_LEN);
            change(&mut bytes);
            let hash = Sha1::digest(&bytes);
            bytes.extend(hash);
            decode(&bytes)
        };
        assert_eq!(sealed(|_| ()), Ok(record()));
        assert_eq!(sealed(|bytes| bytes[16] ^= 1), Err(ResumeError::Foreign));
        assert_eq!(sealed(|bytes| bytes[36] = 2), Err(ResumeError::Damaged));
        assert_eq!(sealed(|bytes| bytes[52] = 3), Err(ResumeError::Damaged), "files");
        assert_eq!(sealed(|bytes| *bytes.last_mut().unwrap() |= 1), Err(ResumeError::Damaged), "spare bits");
        assert_eq!(sealed(|bytes| bytes.push(0)), Err(ResumeError::Damaged));
        assert_eq!(ResumeRecord::decode(&record().encode(), INFO_HASH, 1, 11), Err(ResumeError::Damaged));
        assert_eq!(ResumeRecord::decode(&record().encode(), INFO_HASH, 2, 12), Err(ResumeError::Damaged));
    }
}
