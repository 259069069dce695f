//! Messages of the metadata extension (BEP 9, `ut_metadata`), which transfer the info dictionary in parts of 16 KiB.

use std::ops::Range;

use super::bencode::{self, BencodeError, Document, Kind, Value};
use crate::base::limits;

/// The extension's name in an extension handshake (BEP 10).
pub const METADATA_EXTENSION: &[u8] = b"ut_metadata";
/// Length in bytes of every part but the last.
const METADATA_PART_LEN: u32 = 16 << 10;

/// One message, without the id of the extended message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetadataMessage<'a> {
    Request {
        part: u32,
    },
    Data {
        part: u32,
        /// Length in bytes of the whole info dictionary.
        total_len: u32,
        bytes: &'a [u8],
    },
    /// The sender does not have the part, or does not send it.
    Reject {
        part: u32,
    },
    /// A message of an unknown type. BEP 9: "Unrecognized message IDs MUST be ignored".
    Unknown,
}

/// Why a payload is not a metadata message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    #[error("metadata message: {0}")]
    Bencode(#[from] BencodeError),
    #[error("metadata message: {0}, expected a dictionary")]
    NotDictionary(Kind),
    #[error("metadata message: {0} is missing or out of range")]
    Field(&'static str),
}

impl<'a> MetadataMessage<'a> {
    /// Reads a payload, without the id of the extended message.
    pub fn decode(payload: &'a [u8]) -> Result<Self, MetadataError> {
        let caps = bencode::Limits { depth_max: limits::EXTENSION_DEPTH_MAX, tokens_max: limits::SMALL_TOKENS_MAX };
        let (document, consumed) = Document::decode_prefix(payload, &caps)?;
        let root = document.root();
        if root.kind() != Kind::Dictionary {
            return Err(MetadataError::NotDictionary(root.kind()));
        }
        let number = |key: &'static str| {
            let number = root.get(key.as_bytes()).and_then(|node| u32::try_from(node.as_i64()?).ok());
            number.ok_or(MetadataError::Field(key))
        };
        Ok(match root.get(b"msg_type").and_then(|node| node.as_i64()) {
            Some(0) => Self::Request { part: number("piece")? },
            Some(1) => {
                let bytes = payload.get(consumed..).unwrap_or_default();
                Self::Data { part: number("piece")?, total_len: number("total_size")?, bytes }
            }
            Some(2) => Self::Reject { part: number("piece")? },
            Some(_) => Self::Unknown,
            None => return Err(MetadataError::Field("msg_type")),
        })
    }

    /// Returns the payload; empty for [`Self::Unknown`].
    pub fn encode(&self) -> Vec<u8> {
        let head = |kind: u32, part: u32, total_len: Option<u32>| {
            let mut entries = vec![("msg_type", Value::from(kind)), ("piece", part.into())];
            entries.extend(total_len.map(|len| ("total_size", len.into())));
            Value::dictionary(entries).encode()
        };
        match *self {
            Self::Request { part } => head(0, part, None),
            Self::Data { part, total_len, bytes } => [&head(1, part, Some(total_len)), bytes].concat(),
            Self::Reject { part } => head(2, part, None),
            Self::Unknown => Vec::new(),
        }
    }
}

/// Returns the number of parts of an info dictionary of `len` bytes.
pub fn metadata_part_count(len: u32) -> u32 {
    len.div_ceil(METADATA_PART_LEN)
}

/// Returns the range of a part in an info dictionary of `len` bytes, or `None` if the part begins after its end.
pub fn metadata_part(len: u32, part: u32) -> Option<Range<usize>> {
    let start = part.checked_mul(METADATA_PART_LEN).filter(|&start| start < len)?;
    let end = len.min(start.saturating_add(METADATA_PART_LEN));
    Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_those_of_bep_9() {
        let request = MetadataMessage::Request { part: 0 };
        assert_eq!(request.encode(), b"d8:msg_typei0e5:piecei0ee");
        let data = MetadataMessage::Data { part: 0, total_len: 3425, bytes: b"xxxx" };
        assert_eq!(data.encode(), b"d8:msg_typei1e5:piecei0e10:total_sizei3425eexxxx");
        let reject = MetadataMessage::Reject { part: 7 };
        assert_eq!(reject.encode(), b"d8:msg_typei2e5:piecei7ee");
        for message in [request, data, reject] {
            assert_eq!(MetadataMessage::decode(&message.encode()), Ok(message));
        }
        assert_eq!(MetadataMessage::decode(b"d8:msg_typei9ee"), Ok(MetadataMessage::Unknown));
    }

    #[test]
    fn payloads_that_are_no_message_are_refused() {
        for (payload, error) in [
            (&b"le"[..], MetadataError::NotDictionary(Kind::List)),
            (b"de", MetadataError::Field("msg_type")),
            (b"d8:msg_typei0ee", MetadataError::Field("piece")),
            (b"d8:msg_typei0e5:piecei-1ee", MetadataError::Field("piece")),
            (b"d8:msg_typei1e5:piecei0e10:total_sizei4294967296ee", MetadataError::Field("total_size")),
        ] {
            assert_eq!(MetadataMessage::decode(payload), Err(error));
        }
        assert!(matches!(MetadataMessage::decode(&[b'l'; 20_000]), Err(MetadataError::Bencode(_))));
    }

    #[test]
    fn parts_cover_the_whole_dictionary() {
        assert_eq!((metadata_part_count(1), metadata_part_count(16_384), metadata_part_count(16_385)), (1, 1, 2));
        assert_eq!(metadata_part(16_385, 0), Some(0..16_384));
        assert_eq!(metadata_part(16_385, 1), Some(16_384..16_385));
        assert_eq!(
            (metadata_part(16_385, 2), metadata_part(16_384, 1), metadata_part(1, u32::MAX)),
            (None, None, None)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_are_refused_or_read_back(
            payload in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), likely_payload()]
        ) {
            match MetadataMessage::decode(&payload) {
                Ok(MetadataMessage::Unknown) | Err(_) => {}
                Ok(message) => {
                    let written = message.encode();
                    prop_assert_eq!(MetadataMessage::decode(&written), Ok(message));
                }
            }
        }

        #[test]
        fn parts_are_contiguous(len in 1..=u32::MAX, part in any::<u32>()) {
            let count = metadata_part_count(len);
            let range = metadata_part(len, part % count).unwrap();
            prop_assert_eq!(range.start, (part % count * METADATA_PART_LEN) as usize);
            prop_assert_eq!(range.end, (range.start + METADATA_PART_LEN as usize).min(len as usize));
            prop_assert_eq!(metadata_part(len, count), None);
        }
    }

    /// A dictionary of the known keys with numbers near their bounds, followed by bytes.
    fn likely_payload() -> impl Strategy<Value = Vec<u8>> {
        let number = || prop_oneof![-1..4_i64, any::<i64>(), Just(u32::MAX.into())];
        let bytes = prop::collection::vec(any::<u8>(), 0..20);
        (-1..4_i64, number(), number(), bytes).prop_map(|(kind, part, total_len, bytes)| {
            let entries = [("msg_type", kind), ("piece", part), ("total_size", total_len)];
            [Value::dictionary(entries.map(|(key, number)| (key, Value::Integer(number)))).encode(), bytes].concat()
        })
    }
}
