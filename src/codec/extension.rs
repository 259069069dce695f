//! The extension handshake (BEP 10): a dictionary in which a peer announces its extensions and its limits.
//!
//! A single value of a wrong type or out of bounds is ignored; only bytes that are not a dictionary are an error.

use std::net::IpAddr;

use super::bencode::{self, BencodeError, Document, Node, Value};
use super::tracker_http::{ip_from_bytes, ip_to_bytes};
use crate::base::{PeerId, limits};

/// The id of the extension handshake inside an extended message.
pub const EXTENSION_HANDSHAKE_ID: u8 = 0;

/// Why a payload is not an extension handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    #[error("extension handshake: {0}")]
    Bencode(#[from] BencodeError),
    #[error("extension handshake: {0}, expected a dictionary")]
    NotDictionary(bencode::Kind),
}

/// The connections that one side agrees to have with the same peer (`bf_streams`, an extension of bt-fast).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Streams {
    /// `max`: the most connections, the first one included; at least 2.
    pub max: u8,
    /// `id`: the peer id with which the receiver may open a further connection. Only the side that accepted the first
    /// connection sends it.
    pub id: Option<PeerId>,
    /// `more`: the sender would like to have a further connection.
    pub wants_more: bool,
}

impl Streams {
    fn encode(&self) -> Value {
        let mut entries = vec![("max", Value::from(u32::from(self.max)))];
        entries.extend(self.id.map(|id| ("id", Value::Bytes(id.0.to_vec()))));
        entries.extend(self.wants_more.then(|| ("more", Value::from(1u32))));
        Value::dictionary(entries)
    }

    /// Returns `None` if the sender agrees to no further connection.
    fn decode(node: Node<'_, '_>) -> Option<Self> {
        let mut streams = Self::default();
        for (key, value) in node.entries() {
            match key {
                b"max" => streams.max = value.as_i64().map_or(0, |n| u8::try_from(n.max(0)).unwrap_or(u8::MAX)),
                b"id" => streams.id = value.as_bytes().and_then(|id| id.try_into().ok()).map(PeerId),
                b"more" => streams.wants_more = value.as_i64().is_some_and(|n| n != 0),
                _ => {}
            }
        }
        (streams.max > 1).then_some(streams)
    }
}

/// The extension handshake of one side. Every field is optional; an absent one is `None` or empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExtensionHandshake {
    /// `v`: name and version of the client in any form, cut at [`limits::EXTENSION_NAME_LEN_MAX`] bytes.
    pub client: Option<Vec<u8>>,
    /// `reqq`: requests that the sender queues before it drops or rejects any.
    pub requests_max: Option<u32>,
    /// `upload_only`: the sender does not download (BEP 21).
    pub upload_only: Option<bool>,
    /// `p`: the TCP port on which the sender listens.
    pub listen_port: Option<u16>,
    /// `metadata_size`: length in bytes of the info dictionary (BEP 9), at least 1 and within the metainfo bound.
    pub metadata_len: Option<u32>,
    /// `m`: names of extensions and the message ids that the sender assigns to them; 0 disables an extension. No name
    /// occurs twice.
    pub messages: Vec<(Vec<u8>, u8)>,
    /// `yourip`: the address of the receiver as the sender sees it.
    pub your_ip: Option<IpAddr>,
    /// `bf_streams`: further connections of the same two peers.
    pub streams: Option<Streams>,
}

impl ExtensionHandshake {
    /// Returns the payload, without the extension id.
    pub fn encode(&self) -> Vec<u8> {
        let messages = self.messages.iter().map(|(name, id)| (name.clone(), u32::from(*id).into()));
        let mut entries = vec![("m", Value::dictionary(messages))];
        entries.extend(self.client.as_deref().map(|client| ("v", client.into())));
        entries.extend(self.requests_max.map(|requests_max| ("reqq", requests_max.into())));
        entries.extend(self.upload_only.map(|upload_only| ("upload_only", u32::from(upload_only).into())));
        entries.extend(self.listen_port.map(|port| ("p", u32::from(port).into())));
        entries.extend(self.metadata_len.map(|len| ("metadata_size", len.into())));
        entries.extend(self.your_ip.map(|ip| ("yourip", Value::Bytes(ip_to_bytes(ip)))));
        entries.extend(self.streams.map(|streams| ("bf_streams", streams.encode())));
        Value::dictionary(entries).encode()
    }

    /// Returns the message id that the sender assigns to an extension, or `None` if it does not enable the extension.
    pub fn message_id(&self, name: &[u8]) -> Option<u8> {
        self.messages.iter().find(|(known, _)| known == name).map(|&(_, id)| id).filter(|&id| id != 0)
    }

    /// Reads a payload, without the extension id.
    pub fn decode(payload: &[u8]) -> Result<Self, ExtensionError> {
        let caps = bencode::Limits { depth_max: limits::EXTENSION_DEPTH_MAX, tokens_max: limits::SMALL_TOKENS_MAX };
        // Some clients send bytes after the dictionary, which are ignored.
        let (document, _) = Document::decode_prefix(payload, &caps)?;
        let root = document.root();
        if root.kind() != bencode::Kind::Dictionary {
            return Err(ExtensionError::NotDictionary(root.kind()));
        }
        let mut handshake = Self::default();
        for (key, value) in root.entries() {
            match key {
                b"m" => handshake.messages = messages(value),
                b"v" => handshake.client = value.as_bytes().map(cut),
                b"reqq" => handshake.requests_max = value.as_i64().map(|n| u32::try_from(n.max(0)).unwrap_or(u32::MAX)),
                b"upload_only" => handshake.upload_only = value.as_i64().map(|n| n != 0),
                b"p" => handshake.listen_port = number(value).filter(|&port| port != 0),
                b"metadata_size" => handshake.metadata_len = number(value).filter(is_metadata_len),
                b"bf_streams" => handshake.streams = Streams::decode(value),
                b"yourip" => handshake.your_ip = value.as_bytes().and_then(ip_from_bytes),
                _ => {}
            }
        }
        Ok(handshake)
    }
}

fn messages(node: Node<'_, '_>) -> Vec<(Vec<u8>, u8)> {
    let mut messages: Vec<(Vec<u8>, u8)> = Vec::new();
    for (name, id) in node.entries().filter(|(name, _)| name.len() <= limits::EXTENSION_NAME_LEN_MAX) {
        let is_new = messages.len() < limits::EXTENSION_NAMES_MAX && messages.iter().all(|(known, _)| known != name);
        messages.extend(number(id).filter(|_| is_new).map(|id| (name.to_vec(), id)));
    }
    messages
}

fn number<T: TryFrom<i64>>(node: Node<'_, '_>) -> Option<T> {
    T::try_from(node.as_i64()?).ok()
}

fn is_metadata_len(len: &u32) -> bool {
    (1..=limits::METAINFO_LEN_MAX).contains(&u64::from(*len))
}

fn cut(name: &[u8]) -> Vec<u8> {
    name.iter().copied().take(limits::EXTENSION_NAME_LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(payload: &[u8]) -> ExtensionHandshake {
        ExtensionHandshake::decode(payload).unwrap()
    }

    #[test]
    fn a_written_handshake_is_read_back() {
        let handshake = ExtensionHandshake {
            client: Some(b"bt-fast 0.1".to_vec()),
            requests_max: Some(4096),
            upload_only: Some(true),
            listen_port: Some(6881),
            metadata_len: Some(12_345),
            messages: vec![(b"lt_donthave".to_vec(), 7), (b"ut_metadata".to_vec(), 3)],
            your_ip: Some("10.1.2.3".parse().unwrap()),
            streams: Some(Streams { max: 2, id: Some(PeerId([9; 20])), wants_more: true }),
        };
        assert_eq!(decode(&handshake.encode()), handshake);
        let v6 = ExtensionHandshake { your_ip: Some("2001:db8::1".parse().unwrap()), ..Default::default() };
        assert_eq!(decode(&v6.encode()), v6);
        assert_eq!(ExtensionHandshake::default().encode(), b"d1:mdee");
    }

    #[test]
    fn the_example_of_bep_10_is_read() {
        let handshake = decode(b"d1:md11:LT_metadatai1e6:\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e");
        assert_eq!(handshake.messages, [(b"LT_metadata".to_vec(), 1), (b"\xb5T_PEX".to_vec(), 2)]);
        assert_eq!(handshake.listen_port, Some(6881));
        assert_eq!(handshake.client.unwrap(), b"\xc2\xb5Torrent 1.2");
    }

    #[test]
    fn values_of_wrong_type_or_out_of_bounds_are_ignored() {
        assert_eq!(decode(b"d1:mi1e1:pi0e1:vle4:reqq3:fiv6:yourip3:abce"), ExtensionHandshake::default());
        assert_eq!(decode(b"d1:md1:ai256e1:bi-1e1:ci255eee").messages, [(b"c".to_vec(), 255)]);
        assert_eq!(decode(b"d1:md1:ai7e1:ai3eee").messages, [(b"a".to_vec(), 7)]);
        for (text, expected) in [("-1", 0), ("2147483648", 1 << 31), ("99999999999", u32::MAX)] {
            assert_eq!(decode(format!("d4:reqqi{text}ee").as_bytes()).requests_max, Some(expected));
        }
        for streams in ["i3e", "de", "d3:maxi1ee", "d3:maxi-5ee", "d2:id20:aaaaaaaaaaaaaaaaaaaae"] {
            assert_eq!(decode(format!("d10:bf_streams{streams}e").as_bytes()).streams, None);
        }
        let streams = decode(b"d10:bf_streamsd2:id3:abc3:maxi999e4:more0:ee").streams;
        assert_eq!(streams, Some(Streams { max: 255, id: None, wants_more: false }));
        for text in ["-1", "0", "1099511627776", "67108865", "4294967297"] {
            assert_eq!(decode(format!("d13:metadata_sizei{text}ee").as_bytes()).metadata_len, None);
        }
        assert_eq!(decode(b"d13:metadata_sizei67108864ee").metadata_len, Some(64 << 20));
    }

    #[test]
    fn hostile_handshakes_are_refused_or_cut() {
        let deep = [b"d1:m".as_slice(), &[b'l'; 10_000]].concat();
        assert!(matches!(
            ExtensionHandshake::decode(&deep),
            Err(ExtensionError::Bencode(BencodeError::TooDeep { max: 16, .. }))
        ));
        assert_eq!(ExtensionHandshake::decode(b"le"), Err(ExtensionError::NotDictionary(bencode::Kind::List)));
        let many: Value =
            Value::dictionary((0..1000).map(|i: u32| (format!("{i:05}"), Value::from(1u32))).collect::<Vec<_>>());
        assert_eq!(decode(&Value::dictionary([("m", many)]).encode()).messages.len(), limits::EXTENSION_NAMES_MAX);
        let long = Value::dictionary([("v", Value::Bytes(vec![b'x'; 60_000]))]);
        assert_eq!(decode(&long.encode()).client.unwrap().len(), limits::EXTENSION_NAME_LEN_MAX);
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_are_refused_or_read_back(
            payload in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), likely_payload()]
        ) {
            if let Ok(mut read) = ExtensionHandshake::decode(&payload) {
                prop_assert!(read.messages.len() <= limits::EXTENSION_NAMES_MAX);
                let mut again = decode(&read.encode());
                // A written dictionary is sorted, the payload need not be.
                for handshake in [&mut read, &mut again] {
                    handshake.messages.sort();
                }
                prop_assert_eq!(again, read);
            }
        }
    }

    /// A dictionary of known keys with values of any type.
    fn likely_payload() -> impl Strategy<Value = Vec<u8>> {
        let value = || {
            prop_oneof![
                prop_oneof![any::<i64>(), 0..70_000_i64].prop_map(Value::Integer),
                prop::collection::vec(any::<u8>(), 0..80).prop_map(Value::Bytes),
                prop::collection::vec(any::<u8>(), 4).prop_map(Value::Bytes),
            ]
        };
        let names = prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..70), value(), 0..5);
        let keys =
            prop::sample::select(vec!["v", "reqq", "upload_only", "p", "metadata_size", "yourip", "bf_streams", "x"]);
        let entries = prop::collection::vec((keys, value()), 0..8);
        (names, entries).prop_map(|(names, entries)| {
            Value::dictionary(entries.into_iter().chain([("m", Value::Dictionary(names))])).encode()
        })
    }
}
