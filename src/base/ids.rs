//! Fixed-size identifiers of the wire: info-hash, piece hash and peer id.

use std::fmt;

/// Length in bytes of a SHA-1 digest (BEP 3).
pub const SHA1_LEN: usize = 20;

/// SHA-1 of the raw bytes of the info dictionary (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InfoHash(pub [u8; SHA1_LEN]);

/// SHA-1 of one piece (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PieceHash(pub [u8; SHA1_LEN]);

/// The 20 bytes by which a peer identifies itself (BEP 3, BEP 20).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub [u8; 20]);

impl InfoHash {
    /// Reads forty hexadecimal digits in either case; `None` for any other text.
    pub fn from_hex(text: &str) -> Option<Self> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
        let bytes: Option<Vec<u8>> = pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
        if rest.is_empty() { Some(Self(bytes?.try_into().ok()?)) } else { None }
    }
}

/// Our prefix in the style of BEP 20: client `FB`, version 0.1.0.0.
const PEER_ID_PREFIX: &[u8; 8] = b"-FB0100-";

impl PeerId {
    /// Generates an id of our prefix and twelve random letters and digits. BEP 3 asks for a new one in each run.
    pub fn generate(rng: &mut fastrand::Rng) -> Self {
        let mut id = [0; 20];
        let (prefix, rest) = id.split_at_mut(PEER_ID_PREFIX.len());
        prefix.copy_from_slice(PEER_ID_PREFIX);
        rest.fill_with(|| u8::try_from(rng.alphanumeric()).unwrap_or(b'0'));
        Self(id)
    }
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHash({self})")
    }
}

impl fmt::Display for PieceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for PieceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PieceHash({self})")
    }
}

/// Shows printable ASCII unchanged and any other byte as `.`, which is safe on a terminal.
impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| {
            let shown = if byte.is_ascii_graphic() { char::from(byte) } else { '.' };
            write!(f, "{shown}")
        })
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_peer_id_has_our_prefix_and_is_printable() {
        let id = PeerId::generate(&mut fastrand::Rng::with_seed(1));
        assert!(id.0.starts_with(b"-FB0100-"));
        assert!(id.0.iter().all(u8::is_ascii_graphic));
        assert_ne!(id, PeerId::generate(&mut fastrand::Rng::with_seed(2)));
    }

    #[test]
    fn ids_print_as_hex_or_safe_text() {
        assert_eq!(InfoHash([0xab; 20]).to_string(), "ab".repeat(20));
        assert_eq!(InfoHash::from_hex(&"aB".repeat(20)), Some(InfoHash([0xab; 20])));
        for bad in ["ab".repeat(19), "ab".repeat(21), "a".repeat(41), "zz".repeat(20)] {
            assert_eq!(InfoHash::from_hex(&bad), None);
        }
        assert_eq!(PeerId(*b"-FB0100-\x1b[31mabcdefg").to_string(), "-FB0100-.[31mabcdefg");
    }
}
