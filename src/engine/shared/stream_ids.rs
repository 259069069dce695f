//! The peer ids with which peers open further connections, without a table: an id is a keyed hash of the first
//! connection's key.

use std::hash::{BuildHasher as _, RandomState};

use crate::base::PeerId;

/// Distinguishes these ids from those of peers.
const PREFIX: &[u8; 4] = b"-FBs";

/// Issues ids for further connections, and checks them.
#[derive(Debug, Default)]
pub(in crate::engine) struct StreamIds {
    /// Random keys of SipHash: a host that was not told an id cannot guess it.
    keys: RandomState,
}

impl StreamIds {
    /// Returns the id for further connections beside the connection with this key.
    pub(in crate::engine) fn issue(&self, key: u32) -> PeerId {
        let mut id = [0; 20];
        let parts = [&PREFIX[..], &key.to_be_bytes(), &self.secret(key, 0).to_be_bytes()[..]].concat();
        let (head, tail) = id.split_at_mut(parts.len());
        head.copy_from_slice(&parts);
        tail.copy_from_slice(&self.secret(key, 1).to_be_bytes()[..tail.len()]);
        PeerId(id)
    }

    /// Returns the key of the first connection if the id was issued by [`Self::issue`].
    pub(in crate::engine) fn first_of(&self, id: PeerId) -> Option<u32> {
        let key = u32::from_be_bytes(*id.0.strip_prefix(PREFIX)?.first_chunk()?);
        (self.issue(key) == id).then_some(key)
    }

    fn secret(&self, key: u32, part: u8) -> u64 {
        self.keys.hash_one((key, part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    #[test]
    fn an_id_names_its_connection_in_this_session_alone() {
        let ids = StreamIds::default();
        for key in [0, 1, 0xdead_beef, u32::MAX] {
            let id = ids.issue(key);
            assert_eq!(ids.first_of(id), Some(key));
            assert_eq!(StreamIds::default().first_of(id), None);
            for at in 0..id.0.len() {
                let mut other = id;
                other.0[at] ^= 1;
                assert_eq!(ids.first_of(other), None, "byte {at}");
            }
        }
        assert_eq!(ids.first_of(PeerId::generate(&mut Rng::with_seed(1))), None);
    }
}
