//! Writing metainfo files.

use super::FileEntry;
use crate::base::PieceHash;
use crate::codec::bencode::{Value, write_bytes, write_integer};

/// The content of a new metainfo file. The same draft always gives the same bytes. Values are not checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    pub name: Vec<u8>,
    /// Length in bytes of every piece but the last.
    pub piece_len: u32,
    pub files: DraftFiles,
    pub pieces: Vec<PieceHash>,
    pub attributes: Attributes,
}

/// The values of a metainfo file that do not describe its content.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    /// Peers may come only from the trackers (BEP 27).
    pub private: bool,
    /// A text that makes the info-hash differ between trackers and has no other meaning.
    pub source: Option<String>,
    /// Tracker URLs by tier (BEP 12).
    pub tiers: Vec<Vec<String>>,
    /// Web seed URLs (BEP 19).
    pub web_seeds: Vec<String>,
    pub comment: Option<String>,
    pub created_by: Option<String>,
    /// Seconds since 1970.
    pub creation_date: Option<i64>,
}

/// BEP 3: "There is also a key `length` or a key `files`, but not both or neither."
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DraftFiles {
    /// One file of this length in bytes, with the torrent's name.
    Single(u64),
    /// Files in a folder with the torrent's name; paths are relative to that folder.
    Many(Vec<FileEntry>),
}

impl Draft {
    /// Returns a draft without attributes.
    pub fn new(name: Vec<u8>, piece_len: u32, files: DraftFiles, pieces: Vec<PieceHash>) -> Self {
        Self { name, piece_len, files, pieces, attributes: Attributes::default() }
    }

    /// Returns the bytes of the `.torrent` file.
    pub fn encode(&self) -> Vec<u8> {
        let Attributes { tiers, web_seeds, comment, created_by, creation_date, .. } = &self.attributes;
        Envelope {
            info: &self.encode_info(),
            tiers,
            web_seeds,
            comment: comment.as_deref(),
            created_by: created_by.as_deref(),
            creation_date: *creation_date,
            unknown_keys: &[],
        }
        .encode()
    }

    /// Returns the bytes of the info dictionary, whose SHA-1 is the info-hash.
    fn encode_info(&self) -> Vec<u8> {
        let mut entries = vec![
            ("name", Value::from(self.name.as_slice())),
            ("piece length", Value::from(self.piece_len)),
            ("pieces", Value::Bytes(self.pieces.iter().flat_map(|hash| hash.0).collect())),
        ];
        entries.push(match &self.files {
            DraftFiles::Single(len) => ("length", Value::from(*len)),
            DraftFiles::Many(files) => ("files", Value::Raw(file_list(files))),
        });
        entries.extend(self.attributes.private.then_some(("private", Value::Integer(1))));
        entries.extend(self.attributes.source.as_deref().map(|source| ("source", source.into())));
        Value::dictionary(entries).encode()
    }
}

/// Returns the bencoded `files` list. It is written without a tree of values, which would take much more memory for a
/// million files.
fn file_list(files: &[FileEntry]) -> Vec<u8> {
    let mut out = vec![b'l'];
    for file in files {
        out.push(b'd');
        if file.pad {
            write_bytes(&mut out, b"attr");
            write_bytes(&mut out, b"p");
        }
        write_bytes(&mut out, b"length");
        write_integer(&mut out, file.len);
        write_bytes(&mut out, b"path");
        out.push(b'l');
        file.path.iter().for_each(|element| write_bytes(&mut out, element));
        out.extend_from_slice(b"ee");
    }
    out.push(b'e');
    out
}

pub(super) const ANNOUNCE: &[u8] = b"announce";
pub(super) const ANNOUNCE_LIST: &[u8] = b"announce-list";
pub(super) const URL_LIST: &[u8] = b"url-list";

/// A metainfo file whose trackers and web seeds are filled in each time it is served. The file is `before`,
/// [`Self::trackers`], `middle`, [`Self::web_seeds`] and `after`.
#[derive(Debug)]
pub struct Template {
    pub before: Vec<u8>,
    /// The part with the info dictionary.
    pub middle: Vec<u8>,
    pub after: Vec<u8>,
    /// Unknown keys that sort between those of the trackers.
    between: Vec<(Vec<u8>, Value)>,
}

impl Template {
    /// Returns the part of the file with these trackers.
    pub fn trackers(&self, tiers: &[Vec<String>]) -> Vec<u8> {
        let mut entries = tracker_entries(tiers);
        entries.extend(self.between.iter().cloned());
        entries_alone(entries)
    }

    /// Returns the part of the file with these web seeds.
    pub fn web_seeds(&self, urls: &[String]) -> Vec<u8> {
        entries_alone(web_seed_entry(urls).into_iter().collect())
    }
}

/// An info dictionary and the values around it.
pub(super) struct Envelope<'a> {
    pub(super) info: &'a [u8],
    pub(super) tiers: &'a [Vec<String>],
    pub(super) web_seeds: &'a [String],
    pub(super) comment: Option<&'a str>,
    pub(super) created_by: Option<&'a str>,
    pub(super) creation_date: Option<i64>,
    pub(super) unknown_keys: &'a [(Vec<u8>, Vec<u8>)],
}

impl Envelope<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        Value::dictionary(self.entries()).encode()
    }

    /// Returns the [`Template`] of the file, without its trackers and web seeds.
    pub(super) fn template(&self) -> Template {
        let (mut between, mut before, mut middle, mut after) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (key, value) in self.entries() {
            let part = match &key[..] {
                ANNOUNCE | ANNOUNCE_LIST | URL_LIST => continue,
                key if key < ANNOUNCE => &mut before,
                key if key < ANNOUNCE_LIST => &mut between,
                key if key < URL_LIST => &mut middle,
                _ => &mut after,
            };
            part.push((key, value));
        }
        Template {
            before: [&b"d"[..], &entries_alone(before)].concat(),
            between,
            middle: entries_alone(middle),
            after: [&entries_alone(after)[..], b"e"].concat(),
        }
    }

    fn entries(&self) -> Vec<(Vec<u8>, Value)> {
        let unknown = self.unknown_keys.iter().map(|(key, raw)| (key.clone(), Value::Raw(raw.clone())));
        let mut entries: Vec<(Vec<u8>, Value)> = unknown.collect();
        entries.extend(tracker_entries(self.tiers));
        let mut put = |key: &str, value: Option<Value>| entries.extend(value.map(|value| (key.into(), value)));
        put("comment", self.comment.map(Value::from));
        put("created by", self.created_by.map(Value::from));
        put("creation date", self.creation_date.map(Value::Integer));
        put("info", Some(Value::Raw(self.info.to_vec())));
        entries.extend(web_seed_entry(self.web_seeds));
        entries
    }
}

pub(super) fn tracker_entries(tiers: &[Vec<String>]) -> Vec<(Vec<u8>, Value)> {
    let urls: Vec<&String> = tiers.iter().flatten().collect();
    let first = urls.first().map(|url| (ANNOUNCE.to_vec(), Value::from(url.as_str())));
    let all = || (ANNOUNCE_LIST.to_vec(), Value::List(tiers.iter().map(|tier| list(tier)).collect()));
    first.into_iter().chain((urls.len() > 1).then(all)).collect()
}

pub(super) fn web_seed_entry(web_seeds: &[String]) -> Option<(Vec<u8>, Value)> {
    let value = match web_seeds {
        [] => return None,
        [url] => url.as_str().into(),
        urls => list(urls),
    };
    Some((URL_LIST.to_vec(), value))
}

/// Returns bencoded entries without the start and end of their dictionary.
fn entries_alone(entries: Vec<(Vec<u8>, Value)>) -> Vec<u8> {
    let mut bytes = Value::dictionary(entries).encode();
    bytes.pop();
    bytes.remove(0);
    bytes
}

fn list(urls: &[String]) -> Value {
    Value::List(urls.iter().map(|url| url.as_str().into()).collect())
}
