//! Bitfields and extension handshakes that arrive later than BEP 3, 6 and 10 specify: accepted if they take nothing
//! back.

use super::*;

#[test]
fn a_bitfield_is_the_first_message_or_only_adds_pieces() {
    let pieces = |indices: &[u32]| Event::HaveMany(indices.iter().map(|&index| block(index, 0).piece).collect());
    let bitfield = Message::Bitfield(&[0x81, 0x40]);
    let mut connection = connection(false);
    assert_eq!(connection.handle_message(START, &bitfield).unwrap(), pieces(&[0, 7, 9]));
    assert_eq!(connection.handle_message(START, &Message::Bitfield(&[0x91, 0x40])).unwrap(), pieces(&[3]));
    assert_eq!(connection.peer_have().iter().collect::<Vec<_>>(), [0, 3, 7, 9]);
    assert!(matches!(connection.handle_message(START, &bitfield), Err(PeerFault::LateBitfield)));
}

/// webtorrent announces its pieces when it has a magnet link's metadata, whatever it has announced before.
#[test]
fn late_have_all_and_have_none_are_accepted_as_additions() {
    let pieces: Vec<_> = setup(true, InitialHave::None).geometry.pieces().collect();
    for first in [Message::Unchoke, Message::Interested, Message::Port(1), Message::Unknown { id: 99 }] {
        let mut late = connection(true);
        late.handle_message(START, &first).unwrap();
        for _ in 0..2 {
            assert_eq!(late.handle_message(START, &Message::HaveNone).unwrap(), Event::Quiet, "{first:?}");
        }
        assert!(matches!(late.handle_message(START, &Message::Have { index: 1 }), Ok(Event::Have(_))));
        let missing = pieces.iter().copied().filter(|piece| piece.get() != 1).collect();
        assert_eq!(late.handle_message(START, &Message::HaveAll).unwrap(), Event::HaveMany(missing));
        assert!(late.peer_has_all());
        assert_eq!(late.handle_message(START, &Message::HaveAll).unwrap(), Event::Quiet);
        assert!(matches!(late.handle_message(START, &Message::HaveNone), Err(PeerFault::LateBitfield)));
    }
}

/// Messages that leave now, without their lengths.
fn control(connection: &mut Connection) -> Vec<u8> {
    let mut transmit = Transmit::default();
    connection.poll_transmit(START, &mut transmit, |_| true);
    transmit.control
}

#[test]
fn a_further_connection_needs_the_agreement_of_both() {
    let offer = Streams { max: 3, id: Some(PeerId([7; 20])), wants_more: false };
    let setup = setup(true, InitialHave::None);
    let mut connection = Connection::new(Setup { extension: true, streams: Some(offer), ..setup }, START);
    let told = |bytes: &[u8]| {
        let at = bytes.windows(2).position(|pair| pair == [20, 0]).map(|at| at + 2);
        at.and_then(|at| ExtensionHandshake::decode(&bytes[at..]).unwrap().streams)
    };
    assert_eq!(told(&control(&mut connection)), Some(offer));
    connection.want_stream();
    assert_eq!((connection.streams_max(), control(&mut connection)), (None, vec![]), "the peer agrees to none");
    let take = |connection: &mut Connection, payload: &[u8]| {
        connection.handle_message(START, &Message::Extended { id: 0, payload }).unwrap();
        (connection.streams_max(), connection.peer_wants_stream())
    };
    assert_eq!(take(&mut connection, b"d10:bf_streamsd3:maxi2eee"), (Some(2), false));
    connection.want_stream();
    assert_eq!(told(&control(&mut connection)), Some(Streams { wants_more: true, ..offer }));
    connection.want_stream();
    assert!(control(&mut connection).is_empty(), "told once");
    let id = b"d10:bf_streamsd2:id20:bbbbbbbbbbbbbbbbbbbb3:maxi9e4:morei1eee";
    assert_eq!(take(&mut connection, id), (Some(3), true));
    assert_eq!(connection.stream_id(), Some(PeerId([b'b'; 20])));
}

/// BEP 10: "subsequent handshakes" change what they name.
#[test]
fn keys_missing_from_a_second_extension_handshake_stay() {
    let mut connection = connection(true);
    let mut take = |payload: &[u8]| {
        connection.handle_message(START, &Message::Extended { id: 0, payload }).unwrap();
        (connection.peer_upload_only(), connection.peer_client().map(<[u8]>::to_vec), connection.peer_sees_us())
    };
    let first = take(b"d11:upload_onlyi1e1:v3:abc6:yourip4:\x0a\x01\x02\x03e");
    assert_eq!(first, (true, Some(b"abc".to_vec()), Some([10, 1, 2, 3].into())));
    assert_eq!(take(b"d1:md11:ut_metadatai0eee"), first);
    assert!(!take(b"d11:upload_onlyi0ee").0);
}
