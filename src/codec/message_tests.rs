use super::*;
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { piece_count: 20, block_len_max: 16 * 1024 };

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

/// Returns a message with this id and length prefix, filled with zeros.
fn zeros(id: u8, length: u32) -> Vec<u8> {
    let mut out = length.to_be_bytes().to_vec();
    out.push(id);
    out.resize(4 + length as usize, 0);
    out
}

#[test]
fn messages_have_the_bytes_of_their_specifications() {
    let cases: &[(Message<'_>, &[u8])] = &[
        (Message::KeepAlive, &[0, 0, 0, 0]),
        (Message::Choke, &[0, 0, 0, 1, 0]),
        (Message::Unchoke, &[0, 0, 0, 1, 1]),
        (Message::Interested, &[0, 0, 0, 1, 2]),
        (Message::NotInterested, &[0, 0, 0, 1, 3]),
        (Message::Have { index: 0x0102_0304 }, &[0, 0, 0, 5, 4, 1, 2, 3, 4]),
        (Message::Bitfield(&[0x80, 0, 0x10]), &[0, 0, 0, 4, 5, 0x80, 0, 0x10]),
        (Message::Request { index: 1, begin: 2, length: 3 }, &[0, 0, 0, 13, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]),
        (Message::Cancel { index: 1, begin: 2, length: 3 }, &[0, 0, 0, 13, 8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]),
        (Message::Port(6881), &[0, 0, 0, 3, 9, 0x1a, 0xe1]),
        (Message::Suggest { index: 7 }, &[0, 0, 0, 5, 13, 0, 0, 0, 7]),
        (Message::HaveAll, &[0, 0, 0, 1, 14]),
        (Message::HaveNone, &[0, 0, 0, 1, 15]),
        (Message::Reject { index: 1, begin: 2, length: 3 }, &[0, 0, 0, 13, 16, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]),
        (Message::AllowedFast { index: 7 }, &[0, 0, 0, 5, 17, 0, 0, 0, 7]),
        (Message::Extended { id: 3, payload: b"de" }, &[0, 0, 0, 4, 20, 3, b'd', b'e']),
        (Message::Unknown { id: 21 }, &[0, 0, 0, 1, 21]),
    ];
    for (message, bytes) in cases {
        assert_eq!(encoded(message), *bytes);
        assert_eq!(decode(bytes, &BOUNDS), Ok(Decoded::Message { message: *message, consumed: bytes.len() }));
    }
}

#[test]
fn only_the_head_of_a_piece_is_read() {
    let mut bytes = encode_piece_head(1, 2, 16 * 1024).to_vec();
    assert_eq!(bytes, [0, 0, 0x40, 9, 7, 0, 0, 0, 1, 0, 0, 0, 2]);
    let head = Decoded::Piece { index: 1, begin: 2, length: 16 * 1024 };
    assert_eq!(decode(&bytes, &BOUNDS), Ok(head));
    bytes.push(0xff);
    assert_eq!(decode(&bytes, &BOUNDS), Ok(head));
    for len in 5..PIECE_HEAD_LEN {
        assert_eq!(decode(&bytes[..len], &BOUNDS), Ok(Decoded::Incomplete { needed: PIECE_HEAD_LEN }));
    }
}

#[test]
fn every_id_has_its_exact_length() {
    let exact = [(0, 1), (1, 1), (2, 1), (3, 1), (4, 5), (6, 13), (8, 13), (9, 3), (13, 5), (14, 1), (15, 1)];
    for (id, expected) in exact.into_iter().chain([(16, 13), (17, 5)]) {
        assert!(matches!(decode(&zeros(id, expected), &BOUNDS), Ok(Decoded::Message { .. })), "id {id}");
        for length in [expected - 1, expected + 1, 100].into_iter().filter(|&length| length > 0) {
            let error = MessageError::WrongLength { id, length, expected };
            assert_eq!(decode(&zeros(id, length), &BOUNDS), Err(error));
            // The error does not wait for the payload.
            assert_eq!(decode(&zeros(id, length)[..5], &BOUNDS), Err(error));
        }
    }
    for length in [1, 3, 5] {
        let error = MessageError::WrongBitfieldLength { length, expected: 4 };
        assert_eq!(decode(&zeros(5, length), &BOUNDS), Err(error));
    }
    for length in [1, 8, 9] {
        assert_eq!(decode(&zeros(7, length), &BOUNDS), Err(MessageError::EmptyPiece { length }));
    }
    let error = MessageError::PieceTooLong { payload_len: 16 * 1024 + 1, max: 16 * 1024 };
    assert_eq!(decode(&zeros(7, 16 * 1024 + 10), &BOUNDS), Err(error));
    assert_eq!(decode(&zeros(20, 1), &BOUNDS), Err(MessageError::ExtendedTooShort { length: 1 }));
    let max = EXTENDED_MESSAGE_LEN_MAX;
    assert_eq!(decode(&zeros(20, max)[..5], &BOUNDS), Ok(Decoded::Incomplete { needed: 4 + max as usize }));
}

#[test]
fn unknown_messages_are_skipped() {
    for id in [10, 11, 12, 18, 19, 21, 22, 23, 255] {
        let message = Decoded::Message { message: Message::Unknown { id }, consumed: 54 };
        assert_eq!(decode(&[zeros(id, 50), vec![1, 2, 3]].concat(), &BOUNDS), Ok(message));
    }
}

#[test]
fn an_impossible_length_is_refused_at_the_prefix() {
    for length in [u32::MAX, 1 << 31, (1 << 20) + 1, EXTENDED_MESSAGE_LEN_MAX + 1] {
        let error = MessageError::TooLong { length, max: EXTENDED_MESSAGE_LEN_MAX };
        assert_eq!(decode(&length.to_be_bytes(), &BOUNDS), Err(error));
    }
    // A torrent of many pieces has a longer bitfield, but no longer extended messages.
    let many = Bounds { piece_count: 2_097_152, ..BOUNDS };
    assert_eq!(decode(&zeros(5, 262_145)[..9], &many), Ok(Decoded::Incomplete { needed: 262_149 }));
    let length = EXTENDED_MESSAGE_LEN_MAX + 1;
    for id in [20, 21] {
        let error = MessageError::ExtensionTooLong { id, length, max: EXTENDED_MESSAGE_LEN_MAX };
        assert_eq!(decode(&zeros(id, length)[..5], &many), Err(error));
    }
}

prop_compose! {
    fn numbers()(index in any::<u32>(), begin in any::<u32>(), length in any::<u32>()) -> (u32, u32, u32) {
        (index, begin, length)
    }
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let plain = prop::sample::select(vec![
        Message::KeepAlive,
        Message::Choke,
        Message::Unchoke,
        Message::Interested,
        Message::NotInterested,
        Message::HaveAll,
        Message::HaveNone,
    ]);
    prop_oneof![
        plain.prop_map(|message| encoded(&message)),
        any::<u32>().prop_map(|index| encoded(&Message::Have { index })),
        any::<u32>().prop_map(|index| encoded(&Message::Suggest { index })),
        any::<u32>().prop_map(|index| encoded(&Message::AllowedFast { index })),
        any::<u16>().prop_map(|port| encoded(&Message::Port(port))),
        numbers().prop_map(|(index, begin, length)| encoded(&Message::Request { index, begin, length })),
        numbers().prop_map(|(index, begin, length)| encoded(&Message::Cancel { index, begin, length })),
        numbers().prop_map(|(index, begin, length)| encoded(&Message::Reject { index, begin, length })),
        any::<[u8; 3]>().prop_map(|bits| encoded(&Message::Bitfield(&bits))),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(id, payload)| encoded(&Message::Extended { id, payload: &payload })),
    ]
}

proptest! {
    #[test]
    fn a_cut_message_needs_more_and_is_then_read_whole(
        bytes in any_message(), tail in prop::collection::vec(any::<u8>(), 0..20)
    ) {
        for cut in 0..bytes.len() {
            match decode(&bytes[..cut], &BOUNDS) {
                Ok(Decoded::Incomplete { needed }) => prop_assert!(needed > cut && needed <= bytes.len()),
                other => prop_assert!(false, "{:?} after {} bytes", other, cut),
            }
        }
        let stream = [bytes.clone(), tail].concat();
        let Ok(Decoded::Message { message, consumed }) = decode(&stream, &BOUNDS) else { panic!("{stream:?}") };
        prop_assert_eq!(consumed, bytes.len());
        prop_assert_eq!(encoded(&message), bytes);
    }

    #[test]
    fn arbitrary_bytes_advance_or_end_in_an_error(
        bytes in prop::collection::vec(prop_oneof![Just(0), 0u8..24, any::<u8>()], 0..100), piece_count in 0u32..100
    ) {
        let bounds = Bounds { piece_count, ..BOUNDS };
        match decode(&bytes, &bounds) {
            Ok(Decoded::Incomplete { needed }) => {
                prop_assert!(needed > bytes.len() && needed <= 4 + bounds.length_max() as usize);
            }
            Ok(Decoded::Message { consumed, .. }) => prop_assert!((4..=bytes.len()).contains(&consumed)),
            Ok(Decoded::Piece { length, .. }) => prop_assert!((1..=bounds.block_len_max).contains(&length)),
            Err(_) => {}
        }
    }
}

#[test]
fn complete_haves_at_the_front_are_read_together() {
    let have = |index| encoded(&Message::Have { index });
    let read = |bytes: &[u8]| decode_haves(bytes).collect::<Vec<_>>();
    let cut = [have(3), have(0x0102_0304), have(7)[..HAVE_LEN - 1].to_vec()].concat();
    assert_eq!(read(&cut), [3, 0x0102_0304]);
    let others = [have(1), encoded(&Message::Suggest { index: 2 }), have(3)].concat();
    assert_eq!(read(&others), [1]);
    // A message that only begins like a have is left to `decode`, which refuses it.
    assert!(read(&zeros(id::HAVE, 6)).is_empty() && read(&[]).is_empty());
}
