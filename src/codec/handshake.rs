//! The handshake (BEP 3): 68 bytes with the protocol, the extensions of its sender, the torrent and the peer.
//!
//! The caller checks the info-hash and the peer id.

use crate::base::{InfoHash, PeerId};

/// Length in bytes of a handshake.
pub const HANDSHAKE_LEN: usize = 68;

/// BEP 3: "character ninteen (decimal) followed by the string 'BitTorrent protocol'".
const PREFIX: &[u8; 20] = b"\x13BitTorrent protocol";

/// Why bytes are not a BitTorrent handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("handshake starts with {first} where BitTorrent has 19: another protocol, or an encrypted connection")]
    WrongLengthPrefix { first: u8 },
    #[error("handshake of another protocol than 'BitTorrent protocol'")]
    WrongProtocol,
}

/// The eight reserved bytes (BEP 3), which announce extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// Bit in byte 7: the fast extension (BEP 6).
    const FAST: u8 = 0x04;
    /// Bit in byte 5: the extension protocol (BEP 10).
    const EXTENSION: u8 = 0x10;

    /// Returns the extensions of this program: the fast extension and the extension protocol.
    pub fn ours() -> Self {
        Self([0, 0, 0, 0, 0, Self::EXTENSION, 0, Self::FAST])
    }

    /// Returns whether the fast extension (BEP 6) is announced.
    pub fn has_fast(&self) -> bool {
        let [.., byte] = self.0;
        byte & Self::FAST != 0
    }

    /// Returns whether the extension protocol (BEP 10) is announced.
    pub fn has_extension(&self) -> bool {
        let [_, _, _, _, _, byte, ..] = self.0;
        byte & Self::EXTENSION != 0
    }
}

/// The handshake of one side, the first bytes that it sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    pub reserved: Reserved,
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
}

impl Handshake {
    pub fn encode(&self) -> [u8; HANDSHAKE_LEN] {
        let mut bytes = [0; HANDSHAKE_LEN];
        let fields = PREFIX.iter().chain(&self.reserved.0).chain(&self.info_hash.0).chain(&self.peer_id.0);
        bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = *field);
        bytes
    }

    pub fn decode(bytes: &[u8; HANDSHAKE_LEN]) -> Result<Self, HandshakeError> {
        Self::check_prefix(bytes)?;
        let mut rest = bytes.iter().skip(PREFIX.len()).copied();
        let mut next = || rest.next().unwrap_or_default();
        Ok(Self {
            reserved: Reserved(std::array::from_fn(|_| next())),
            info_hash: InfoHash(std::array::from_fn(|_| next())),
            peer_id: PeerId(std::array::from_fn(|_| next())),
        })
    }

    /// Checks the first bytes of a handshake, however few, and refuses them if no handshake begins with them.
    pub fn check_prefix(bytes: &[u8]) -> Result<(), HandshakeError> {
        match bytes.iter().zip(PREFIX).position(|(byte, expected)| byte != expected) {
            None => Ok(()),
            Some(0) => Err(HandshakeError::WrongLengthPrefix { first: bytes.first().copied().unwrap_or_default() }),
            Some(_) => Err(HandshakeError::WrongProtocol),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Handshake {
        Handshake {
            reserved: Reserved::ours(),
            info_hash: InfoHash(std::array::from_fn(|i| u8::try_from(i).unwrap())),
            peer_id: PeerId(*b"-FB0100-abcdefghijkl"),
        }
    }

    #[test]
    fn fields_have_their_offsets_of_bep_3() {
        let bytes = sample().encode();
        assert_eq!(bytes[..20], *b"\x13BitTorrent protocol");
        assert_eq!(bytes[20..28], [0, 0, 0, 0, 0, 0x10, 0, 4]);
        assert_eq!(bytes[28..48], sample().info_hash.0);
        assert_eq!(bytes[48..], *b"-FB0100-abcdefghijkl");
        assert_eq!(Handshake::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn extension_bits_are_read_one_by_one() {
        assert!(Reserved::ours().has_fast() && Reserved::ours().has_extension());
        assert!(!Reserved::default().has_fast() && !Reserved::default().has_extension());
        assert!(Reserved([0, 0, 0, 0, 0, 0, 0, 0x0d]).has_fast());
        assert!(!Reserved([0xff, 0xff, 0xff, 0xff, 0xff, 0xef, 0xff, 0xfb]).has_fast());
        assert!(!Reserved([0xff, 0xff, 0xff, 0xff, 0xff, 0xef, 0xff, 0xfb]).has_extension());
        assert!(Reserved([0xff; 8]).has_fast() && Reserved([0xff; 8]).has_extension());
    }

    #[test]
    fn a_wrong_prefix_is_refused_at_its_first_wrong_byte() {
        let bytes = sample().encode();
        for len in 0..=bytes.len() {
            assert_eq!(Handshake::check_prefix(&bytes[..len]), Ok(()));
        }
        for at in 0..20 {
            let mut wrong = bytes;
            wrong[at] ^= 1;
            let error =
                if at == 0 { HandshakeError::WrongLengthPrefix { first: 0x12 } } else { HandshakeError::WrongProtocol };
            assert_eq!(Handshake::check_prefix(&wrong[..at]), Ok(()));
            assert_eq!(Handshake::check_prefix(&wrong[..=at]), Err(error));
            assert_eq!(Handshake::decode(&wrong), Err(error));
        }
    }
}
