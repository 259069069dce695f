//! The fuzz targets. A target panics if the program violates an invariant.
//!
//! Shared by libFuzzer (`tools/fuzz`) and the test that replays the corpus, so it uses only the crate under test and
//! the hash crates. The oracles are independent of the program, and short rather than fast.

#[path = "control.rs"]
mod control;
#[path = "sessions.rs"]
mod sessions;

use std::path::{Component, Path};

use bt_fast::base::{PieceHash, limits};
use bt_fast::codec::bencode::{Document, Kind, Limits, Node, Value};
use bt_fast::codec::extension::ExtensionHandshake;
use bt_fast::codec::handshake::{HANDSHAKE_LEN, Handshake};
use bt_fast::codec::message::{self, Bounds, Decoded, Message, MessageError, PIECE_HEAD_LEN};
use bt_fast::codec::metainfo::{Attributes, Draft, DraftFiles, FileEntry, Metainfo, MetainfoLimits};
use bt_fast::codec::tracker_http::{
    AnnounceQuery, AnnounceReply, PeerForm, PeerHost, QueryError, TrackerPeer, TrackerReplyError, decode_query,
    decode_reply, encode_reply,
};
use bt_fast::hash::{Kernel, PieceHasher, sha1_batch_with, sha256_batch_with};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

pub use control::{http_request, tracker_udp, tracker_udp_request};
pub use sessions::{magnet, parts, peer_session, receive_plan, resume};

/// The name and body of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. The corpus folder and the binary in `tools/fuzz` have the name of the target.
pub const TARGETS: [Target; 17] = [
    ("bencode", bencode),
    ("extension", extension),
    ("handshake", handshake),
    ("hash", hash),
    ("http_request", http_request),
    ("magnet", magnet),
    ("message", message),
    ("metainfo", metainfo),
    ("parts", parts),
    ("path", path),
    ("peer_session", peer_session),
    ("receive_plan", receive_plan),
    ("resume", resume),
    ("tracker_query", tracker_query),
    ("tracker_reply", tracker_reply),
    ("tracker_udp", tracker_udp),
    ("tracker_udp_request", tracker_udp_request),
];

/// Reads choices from the front of the fuzz bytes; zeros when the bytes are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first.into()
    }

    fn number(&mut self) -> usize {
        self.byte() << 8 | self.byte()
    }
}

/// Every kernel hashes pieces of any length, split in any way, like the reference crates.
pub fn hash(bytes: &[u8]) {
    const SPAN_LEN_MAX: usize = 700;
    let mut choices = Choices(bytes);
    let piece_count = choices.byte() % 36;
    let content: Vec<u8> =
        (0..4 * SPAN_LEN_MAX).map(|at| bytes.get(at % 251).unwrap_or(&0).wrapping_add(at as u8)).collect();
    let span = |choices: &mut Choices<'_>| {
        let start = choices.number() % (content.len() - SPAN_LEN_MAX);
        &content[start..][..choices.number() % (SPAN_LEN_MAX + 1)]
    };
    let pieces: Vec<Vec<&[u8]>> =
        (0..piece_count).map(|_| (0..choices.byte() % 4).map(|_| span(&mut choices)).collect()).collect();
    let sha1: Vec<_> = pieces.iter().map(|spans| PieceHash(Sha1::digest(spans.concat()).into())).collect();
    let sha256: Vec<[u8; 32]> = pieces.iter().map(|spans| Sha256::digest(spans.concat()).into()).collect();
    for kernel in Kernel::available() {
        let plan = kernel.plan().expect("it is available");
        let spans = || pieces.iter().map(|spans| spans.iter().copied());
        assert_eq!(sha1_batch_with(plan, spans()), sha1, "{kernel}");
        assert_eq!(sha256_batch_with(plan, spans()), sha256, "{kernel}");
    }
    let mut hashers = vec![PieceHasher::default(); piece_count];
    for part in 0..3 {
        let parts: Vec<&[u8]> = pieces.iter().map(|spans| spans.get(part).copied().unwrap_or_default()).collect();
        PieceHasher::update_batch(&mut hashers, &parts);
    }
    let mut hashes = vec![PieceHash([0; 20]); piece_count];
    PieceHasher::finish_batch(&mut hashers, &mut hashes);
    assert_eq!(hashes, sha1);
}

const DEPTH_MAX: usize = 8;

/// Values of BEP 3's grammar are accepted and encode to the same bytes; all other input is refused.
pub fn bencode(bytes: &[u8]) {
    let caps = Limits { depth_max: DEPTH_MAX, tokens_max: usize::MAX };
    let expected = value_len(bytes, DEPTH_MAX);
    let found = Document::decode_prefix(bytes, &caps);
    assert_eq!(found.as_ref().ok().map(|(_, len)| *len), expected, "{found:?}");
    assert_eq!(Document::decode(bytes, &caps).is_ok(), expected == Some(bytes.len()));
    let Ok((document, len)) = found else { return };
    assert_eq!(document.root().raw(), &bytes[..len]);
    if document.disorder().is_none() {
        assert_eq!(value(document.root()).encode(), &bytes[..len]);
    }
}

/// Returns the length of the value at the front by BEP 3's grammar.
fn value_len(bytes: &[u8], depth: usize) -> Option<usize> {
    let items_end = |is_dictionary: bool| {
        let mut end = 1;
        for at in 0.. {
            let rest = bytes.get(end..)?;
            match rest.first()? {
                b'e' if is_dictionary && at % 2 == 1 => return None,
                b'e' => return Some(end + 1),
                first if is_dictionary && at % 2 == 0 && !first.is_ascii_digit() => return None,
                _ => end += value_len(rest, depth - 1)?,
            }
        }
        None
    };
    match bytes.first()? {
        b'i' => {
            let end = bytes.iter().position(|byte| *byte == b'e')?;
            let digits = bytes[1..end].strip_prefix(b"-").unwrap_or(&bytes[1..end]);
            (is_number(digits) && &bytes[1..end] != b"-0").then_some(end + 1)
        }
        b'l' | b'd' if depth > 0 => items_end(bytes[0] == b'd'),
        b'0'..=b'9' => {
            let colon = bytes.iter().position(|byte| *byte == b':')?;
            let digits = std::str::from_utf8(&bytes[..colon]).ok()?;
            let len = is_number(digits.as_bytes()).then(|| digits.parse::<usize>().ok())??;
            Some(colon + 1 + len).filter(|end| *end <= bytes.len())
        }
        _ => None,
    }
}

fn is_number(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_digit) && !digits.is_empty() && (digits.len() == 1 || digits[0] != b'0')
}

fn value(node: Node<'_, '_>) -> Value {
    match node.kind() {
        Kind::Bytes => Value::from(node.as_bytes().expect("a string has bytes")),
        Kind::Integer => Value::Raw(node.raw().to_vec()),
        Kind::List => Value::List(node.items().map(value).collect()),
        Kind::Dictionary => Value::dictionary(node.entries().map(|(key, entry)| (key, value(entry)))),
    }
}

/// Decoded torrents satisfy every rule, and their encoding is the same torrent.
pub fn metainfo(bytes: &[u8]) {
    let decode = |bytes: &[u8]| Metainfo::decode(bytes, &MetainfoLimits::default());
    let Ok(mut first) = decode(bytes) else { return };
    assert_eq!(first.info_hash.0, <[u8; 20]>::from(Sha1::digest(&first.info_bytes)));
    assert!(bytes.windows(first.info_bytes.len()).any(|window| *window == *first.info_bytes));
    let info = &first.info;
    assert_eq!(info.pieces.len(), info.geometry.piece_count() as usize);
    assert_eq!(info.files.iter().map(|file| file.len).sum::<u64>(), info.geometry.total_len());
    for file in &info.files {
        assert!(file.path.first() == Some(&info.name) && file.path.iter().all(|element| is_safe(element)), "{file:?}");
    }
    assert!(first.warnings.iter().all(|line| is_printable(line)), "{:?}", first.warnings);
    assert!(first.tiers.iter().flatten().chain(&first.web_seeds).all(|url| is_printable(url)));
    let mut again = decode(&first.encode()).expect("an encoded value can be decoded");
    assert_eq!(again.info_bytes, first.info_bytes);
    // The corrected encoding causes no warning.
    (first.warnings, again.warnings) = (Vec::new(), Vec::new());
    assert_eq!(again, first);
}

/// A torrent of arbitrary paths, one per line with tabs between elements; the first line is its name, and a path that
/// begins with `_` is a pad file. Mapped names stay in their folder and do not collide, and valid names are unchanged.
pub fn path(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n').take(50);
    let name = lines.next().unwrap_or_default();
    let files: Vec<FileEntry> = (1..)
        .zip(lines)
        .map(|(len, line)| FileEntry {
            path: line.split(|byte| *byte == b'\t').map(<[u8]>::to_vec).collect(),
            len,
            pad: line.starts_with(b"_"),
            symlink: None,
        })
        .collect();
    let piece_count = files.iter().map(|file| file.len).sum::<u64>().div_ceil(16);
    let draft = Draft {
        name: name.to_vec(),
        piece_len: 16,
        files: DraftFiles::Many(files.clone()),
        pieces: (0..piece_count).map(|_| PieceHash([7; 20])).collect(),
        attributes: Attributes {
            private: files.len() % 2 == 1,
            tiers: vec![vec!["http://t/a".to_owned()]],
            creation_date: Some(-1),
            ..Attributes::default()
        },
    };
    let fits = |path: &[Vec<u8>]| {
        let len = name.len() + path.iter().map(|element| 1 + element.len()).sum::<usize>();
        path.len() <= limits::PATH_DEPTH_MAX && len <= limits::PATH_LEN_MAX
    };
    let is_harmful = |element: &[u8]| element == b".." || element.contains(&0);
    let harms = is_harmful(name) || files.iter().flat_map(|file| &file.path).any(|element| is_harmful(element));
    let decoded = Metainfo::decode(&draft.encode(), &MetainfoLimits::default());
    let Ok(metainfo) = decoded else {
        assert!(files.is_empty() || harms || !files.iter().all(|file| fits(&file.path)), "{decoded:?}");
        return;
    };
    assert!(!files.is_empty() && !harms, "{metainfo:?}");
    let clash = |files: &[FileEntry]| {
        let real: Vec<&FileEntry> = files.iter().filter(|file| !file.pad).collect();
        let meets = |a: &FileEntry, b: &FileEntry| a.path.starts_with(&b.path) || b.path.starts_with(&a.path);
        (0..real.len()).any(|i| (0..i).any(|j| meets(real[i], real[j])))
    };
    let found = &metainfo.info.files;
    assert!(found.iter().flat_map(|file| &file.path).all(|element| is_safe(element)) && !clash(found), "{metainfo:?}");
    let was_right = is_safe(name) && files.iter().flat_map(|file| &file.path).all(|element| is_safe(element));
    if was_right && !clash(&files) {
        let named = files.into_iter().map(|mut file| {
            file.path.insert(0, name.to_vec());
            file
        });
        assert_eq!(*found, named.collect::<Vec<_>>());
        assert_eq!(metainfo.warnings, [""; 0]);
    }
    assert_eq!((&metainfo.tiers, metainfo.info.private), (&draft.attributes.tiers, draft.attributes.private));
    assert_eq!(metainfo.creation_date, draft.attributes.creation_date);
}

/// Returns whether a file can have this name and the name is no path.
fn is_safe(element: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let path = Path::new(std::ffi::OsStr::from_bytes(element));
    let is_one_name =
        matches!(path.components().collect::<Vec<_>>()[..], [Component::Normal(name)] if name.as_bytes() == element);
    is_one_name && !element.contains(&0) && element.len() <= limits::PATH_ELEMENT_LEN_MAX
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// Input is refused as soon as it cannot become a handshake, and decoded handshakes encode to the same bytes.
pub fn handshake(bytes: &[u8]) {
    const PREFIX: &[u8] = b"\x13BitTorrent protocol";
    for len in 0..=bytes.len().min(HANDSHAKE_LEN + 1) {
        let compared = len.min(PREFIX.len());
        assert_eq!(Handshake::check_prefix(&bytes[..len]).is_ok(), bytes[..compared] == PREFIX[..compared]);
    }
    let Some(bytes) = bytes.first_chunk() else { return };
    match Handshake::decode(bytes) {
        Ok(handshake) => assert_eq!(handshake.encode(), *bytes),
        Err(_) => assert!(!bytes.starts_with(PREFIX)),
    }
}

/// A stream decodes to the same messages however it is split, and each message encodes to the same bytes.
pub fn message(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let piece_count = choices.byte() as u32;
    let bounds = Bounds { piece_count, block_len_max: 1 << (choices.byte() % 18) };
    let cuts: Vec<usize> = (0..choices.byte() % 8).map(|_| choices.byte()).collect();
    let stream = choices.0;
    let whole = Stream::default().fed(stream, &bounds);
    let mut parts = Stream::default();
    let mut rest = stream;
    for cut in cuts.iter().cycle() {
        let (part, later) = rest.split_at(*cut.min(&rest.len()));
        parts = parts.fed(part, &bounds);
        rest = later;
        if rest.is_empty() || cuts.iter().all(|cut| *cut == 0) {
            break;
        }
    }
    assert_eq!(parts.fed(rest, &bounds), whole);
}

/// The state of a decoded stream.
#[derive(Default, PartialEq, Debug)]
struct Stream {
    waiting: Vec<u8>,
    /// The missing payload bytes of a `piece` message.
    payload_len: usize,
    messages: Vec<String>,
    error: Option<MessageError>,
}

impl Stream {
    fn fed(mut self, bytes: &[u8], bounds: &Bounds) -> Self {
        self.waiting.extend_from_slice(bytes);
        while self.error.is_none() {
            let payload_len = self.payload_len.min(self.waiting.len());
            self.waiting.drain(..payload_len);
            self.payload_len -= payload_len;
            match message::decode(&self.waiting, bounds) {
                _ if self.payload_len > 0 => break,
                Ok(Decoded::Incomplete { needed }) => {
                    assert!(needed > self.waiting.len());
                    break;
                }
                Ok(Decoded::Message { message, consumed }) => {
                    let mut written = Vec::new();
                    message.encode(&mut written);
                    let is_same = written == self.waiting[..consumed];
                    assert!(is_same || matches!(message, Message::Unknown { .. }), "{message:?}");
                    self.messages.push(format!("{message:?}"));
                    self.waiting.drain(..consumed);
                }
                Ok(Decoded::Piece { index, begin, length }) => {
                    assert!((1..=bounds.block_len_max).contains(&length));
                    let head = message::encode_piece_head(index, begin, length);
                    assert_eq!(head, self.waiting[..PIECE_HEAD_LEN]);
                    self.messages.push(format!("piece {index} {begin} {length}"));
                    self.waiting.drain(..PIECE_HEAD_LEN);
                    self.payload_len = length as usize;
                }
                Err(error) => self.error = Some(error),
            }
        }
        self
    }
}

/// Decoded extension handshakes are within bounds and encode to the same handshake.
pub fn extension(bytes: &[u8]) {
    let Ok(mut first) = ExtensionHandshake::decode(bytes) else { return };
    assert!(first.messages.len() <= limits::EXTENSION_NAMES_MAX);
    let names = first.messages.iter().map(|(name, _)| name).chain(&first.client);
    assert!(names.into_iter().all(|name| name.len() <= limits::EXTENSION_NAME_LEN_MAX));
    assert_ne!(first.listen_port, Some(0));
    let again = ExtensionHandshake::decode(&first.encode()).expect("an encoded value can be decoded");
    first.messages.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(again, first);
}

/// Decoded replies are within bounds, are printable, and round-trip in both peer formats.
pub fn tracker_reply(bytes: &[u8]) {
    let reply = match decode_reply(bytes) {
        Ok(reply) => reply,
        Err(TrackerReplyError::Failure { reason, .. }) => return assert!(is_printable(&reason), "{reason:?}"),
        Err(_) => return,
    };
    assert!(reply.warning.as_deref().is_none_or(is_printable), "{:?}", reply.warning);
    assert!(reply.peers.len() <= limits::TRACKER_REPLY_PEERS_MAX);
    assert!(reply.tracker_id.as_ref().is_none_or(|id| id.len() <= limits::TRACKER_ID_LEN_MAX));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    for peer in &reply.peers {
        assert!(
            peer.port != 0 && !matches!(&peer.host, PeerHost::Name(name) if !name.bytes().all(is_name)),
            "{peer:?}"
        );
    }
    let written = AnnounceReply { interval: Some(reply.interval.unwrap_or(0)), warning: None, ..reply };
    let again = |form| decode_reply(&encode_reply(&written, form)).expect("an encoded value can be decoded");
    let expected = |peers| AnnounceReply { peers, peers_skipped: 0, ..written.clone() };
    assert_eq!(again(PeerForm::Dictionaries { peer_ids: true }), expected(written.peers.clone()));
    let of_family = |wanted: bool| {
        let is_it = move |peer: &&TrackerPeer| matches!(peer.host, PeerHost::Ip(ip) if ip.is_ipv4() == wanted);
        written.peers.iter().filter(is_it).map(|peer| TrackerPeer { peer_id: None, ..peer.clone() })
    };
    assert_eq!(again(PeerForm::Compact), expected(of_family(true).chain(of_family(false)).collect()));
}

/// Decoded queries encode to the same query.
pub fn tracker_query(bytes: &[u8]) {
    let Ok(first) = decode_query(&String::from_utf8_lossy(bytes)) else { return };
    let query = AnnounceQuery {
        info_hash: first.info_hash,
        peer_id: first.peer_id,
        ip: first.ip.as_deref(),
        port: first.port,
        uploaded: first.uploaded,
        downloaded: first.downloaded,
        left: first.left,
        event: first.event,
        numwant: first.numwant.unwrap_or(50),
        key: 0xbead_0007,
        tracker_id: first.tracker_id.as_deref(),
    };
    let url = query.append_to("http://t/announce?a=b#c");
    assert!(url.is_ascii() && is_printable(&url) && !url.contains([' ', '#']), "{url}");
    let again = match decode_query(url.split_once('?').expect("it has a query").1) {
        // Escapes make the query longer.
        Err(QueryError::TooLong { .. }) => return,
        again => again.expect("an encoded value can be decoded"),
    };
    let key = Some(b"BEAD0007".to_vec());
    let expected = bt_fast::codec::tracker_http::OwnedAnnounceQuery {
        numwant: Some(query.numwant),
        key,
        compact: Some(true),
        no_peer_id: false,
        ..first.clone()
    };
    assert_eq!(again, expected);
}
