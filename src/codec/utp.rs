//! The refusal of uTP (BEP 29): a connection attempt is answered with a reset, so that the peer tries TCP at once.

use super::reader::Reader;

/// Length in bytes of a packet's header, and of a whole ST_SYN or ST_RESET without extensions.
pub const UTP_HEADER_LEN: usize = 20;

const VERSION: u8 = 1;
const ST_RESET: u8 = 3;
const ST_SYN: u8 = 4;

/// Returns the ST_RESET that refuses `packet`, or `None` if that is not an ST_SYN. The answer is never longer than the
/// packet.
pub fn reset_for(packet: &[u8]) -> Option<[u8; UTP_HEADER_LEN]> {
    let mut reader = Reader::new(packet.get(..UTP_HEADER_LEN)?);
    if reader.u8()? != ST_SYN << 4 | VERSION {
        return None;
    }
    let _extension = reader.u8()?;
    let connection_id = reader.u16()?;
    let _timestamps_and_window = reader.take(12)?;
    let seq_nr = reader.u16()?;
    let mut reset = [0; UTP_HEADER_LEN];
    // Timestamps and window stay zero, since the peer measures nothing by a reset. An ST_SYN carries the id under which
    // its sender receives.
    let fields = [ST_RESET << 4 | VERSION, 0].into_iter().chain(connection_id.to_be_bytes()).chain([0; 14]);
    let fields = fields.chain(seq_nr.to_be_bytes());
    reset.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
    Some(reset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An ST_SYN as libtorrent sends it.
    const SYN: [u8; UTP_HEADER_LEN] = [0x41, 0, 0xab, 0xcd, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0x10, 0, 0, 0x12, 0x34, 0, 0];

    #[test]
    fn a_syn_is_refused_under_the_receive_id_of_its_sender() {
        let reset = reset_for(&SYN).unwrap();
        assert_eq!(reset[..4], [0x31, 0, 0xab, 0xcd]);
        assert_eq!(reset[4..18], [0; 14]);
        assert_eq!(reset[18..], [0x12, 0x34], "the acknowledged sequence number");
        let with_extension = [&SYN[..1], &[2], &SYN[2..], &[0, 8, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(reset_for(&with_extension), Some(reset));
    }

    #[test]
    fn other_packets_are_not_answered() {
        for len in 0..SYN.len() {
            assert_eq!(reset_for(&SYN[..len]), None);
        }
        for first in (0..=u8::MAX).filter(|&first| first != 0x41) {
            let packet = [&[first], &SYN[1..]].concat();
            assert_eq!(reset_for(&packet), None, "{first:#x}");
        }
        assert_eq!(reset_for(&reset_for(&SYN).unwrap()), None, "a reset is not answered");
    }

    proptest! {
        #[test]
        fn an_answer_is_no_longer_than_its_packet(packet in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(reset_for(&packet).is_none_or(|reset| reset.len() <= packet.len()));
        }
    }
}
