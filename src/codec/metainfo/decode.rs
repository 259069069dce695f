//! Reading metainfo files: every rule checked before anything is built.

use std::collections::BTreeMap;

use sha1::{Digest, Sha1};

use super::path::{PathTree, check_element};
use super::{Fault, FileEntry, Info, Metainfo, MetainfoError, MetainfoLimits, urls};
use crate::base::ids::SHA1_LEN;
use crate::base::limits::{
    CONTENT_LEN_MAX, METAINFO_DEPTH_MAX, METAINFO_WARNINGS_MAX, PATH_DEPTH_MAX, PATH_LEN_MAX, PIECE_LEN_READ_MAX,
};
use crate::base::{Geometry, InfoHash, PieceHash};
use crate::codec::bencode::{self, Document, Kind, Node};

/// Top-level keys that have a place of their own in a [`Metainfo`].
const KNOWN_KEYS: [&[u8]; 7] =
    [b"announce", b"announce-list", b"comment", b"created by", b"creation date", b"info", b"url-list"];

/// Warnings gathered while reading.
#[derive(Default)]
pub(super) struct Warnings(Vec<String>);

impl Warnings {
    /// Adds a line unless there are many already.
    pub(super) fn push(&mut self, line: impl FnOnce() -> String) {
        if self.0.len() < METAINFO_WARNINGS_MAX {
            self.0.push(line());
        }
    }
}

/// A dictionary, and how its keys are called in errors.
#[derive(Clone, Copy)]
struct Fields<'d, 'a> {
    node: Node<'d, 'a>,
    prefix: &'static str,
}

impl<'d, 'a> Fields<'d, 'a> {
    fn error(&self, key: &str, fault: Fault) -> MetainfoError {
        let offset = self.node.get(key.as_bytes()).unwrap_or(self.node).offset();
        MetainfoError::new(format!("{}{key}", self.prefix), offset, fault)
    }

    fn optional(&self, key: &str, expected: Kind) -> Result<Option<Node<'d, 'a>>, MetainfoError> {
        let node = self.node.get(key.as_bytes());
        match node.map(|node| node.kind()) {
            Some(found) if found != expected => Err(self.error(key, Fault::WrongKind { found, expected })),
            _ => Ok(node),
        }
    }

    fn required(&self, key: &str, expected: Kind) -> Result<Node<'d, 'a>, MetainfoError> {
        self.optional(key, expected)?.ok_or_else(|| self.error(key, Fault::Missing))
    }

    fn bytes(&self, key: &str) -> Result<&'a [u8], MetainfoError> {
        Ok(self.required(key, Kind::Bytes)?.as_bytes().unwrap_or_default())
    }
}

pub(super) fn metainfo(bytes: &[u8], limits: &MetainfoLimits) -> Result<Metainfo, MetainfoError> {
    let caps = bencode::Limits { depth_max: METAINFO_DEPTH_MAX, tokens_max: limits.tokens_max };
    let document = Document::decode(bytes, &caps)?;
    let root = document.root();
    let expected = Kind::Dictionary;
    if root.kind() != expected {
        let fault = Fault::WrongKind { found: root.kind(), expected };
        return Err(MetainfoError::new("metainfo", root.offset(), fault));
    }
    let mut warnings = Warnings::default();
    if let Some(offset) = document.disorder() {
        warnings.push(|| format!("dictionary keys are unsorted or repeated, the first at byte {offset}"));
    }
    let info_node = Fields { node: root, prefix: "" }.required("info", Kind::Dictionary)?;
    let info = info(Fields { node: info_node, prefix: "info." }, limits, &mut warnings)?;
    // BEP 3: the hash is that "of the bencoded form of the info value [...] a substring of the metainfo file".
    let info_bytes = info_node.raw();
    let text = |key: &[u8]| Some(String::from_utf8_lossy(root.get(key)?.as_bytes()?).into_owned());
    Ok(Metainfo {
        info_hash: InfoHash(Sha1::digest(info_bytes).into()),
        info,
        info_bytes: info_bytes.into(),
        tiers: urls::tiers(root, &mut warnings),
        web_seeds: urls::web_seeds(root, &mut warnings),
        comment: text(b"comment"),
        created_by: text(b"created by"),
        creation_date: root.get(b"creation date").and_then(|date| date.as_i64()),
        warnings: warnings.0,
        unknown_keys: unknown_keys(root),
    })
}

fn unknown_keys(root: Node<'_, '_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut unknown = BTreeMap::new();
    for (key, value) in root.entries().filter(|(key, _)| !KNOWN_KEYS.contains(key)) {
        unknown.entry(key).or_insert(value);
    }
    unknown.into_iter().map(|(key, value)| (key.to_vec(), value.raw().to_vec())).collect()
}

fn info(fields: Fields<'_, '_>, limits: &MetainfoLimits, warnings: &mut Warnings) -> Result<Info, MetainfoError> {
    // BEP 52: a v2-only torrent has `file tree` in place of `pieces`; a hybrid has both.
    let is_v2 = ["meta version", "file tree"].iter().any(|key| fields.node.get(key.as_bytes()).is_some());
    if is_v2 && fields.node.get(b"pieces").is_none() {
        return Err(MetainfoError::new("info", fields.node.offset(), Fault::V2Only));
    }
    // BEP 3: "the name of a file" or "of a directory"; "purely advisory", but still a path element.
    let name = fields.bytes("name")?;
    check_element(name).map_err(|fault| fields.error("name", fault))?;
    let piece_len = piece_len(fields)?;
    let length = fields.optional("length", Kind::Integer)?;
    let list = fields.optional("files", Kind::List)?;
    // BEP 3: "There is also a key `length` or a key `files`, but not both or neither."
    let (files, total_len) = match (length, list) {
        (Some(length), None) => (None, content_len(0, length).map_err(|fault| fields.error("length", fault))?),
        (None, Some(list)) => (Some(list), check_files(list, name.len(), limits, warnings)?),
        (Some(_), Some(_)) => return Err(MetainfoError::new("info", fields.node.offset(), Fault::LengthAndFiles)),
        (None, None) => return Err(MetainfoError::new("info", fields.node.offset(), Fault::NoLengthNorFiles)),
    };
    let pieces = pieces(fields, total_len.div_ceil(piece_len.into()), limits)?;
    let files = match files {
        None => vec![FileEntry { path: vec![name.to_vec()], len: total_len, pad: false }],
        Some(list) => list.items().map(|file| file_entry(file, name)).collect(),
    };
    // The lengths were summed above, and there is a hash for each piece.
    let geometry = Geometry::new(piece_len, files.iter().map(|file| file.len)).ok_or_else(|| {
        fields.error("pieces", Fault::TooManyPieces { count: pieces.len() as u64, max: limits.piece_count_max })
    })?;
    Ok(Info {
        name: name.to_vec(),
        geometry,
        pieces,
        files,
        single_file: length.is_some(),
        // BEP 27: "private=1".
        private: fields.node.get(b"private").and_then(|private| private.as_i64()) == Some(1),
        source: fields.node.get(b"source").and_then(|source| source.as_bytes()).map(<[u8]>::to_vec),
    })
}

fn piece_len(fields: Fields<'_, '_>) -> Result<u32, MetainfoError> {
    let node = fields.required("piece length", Kind::Integer)?;
    let fault = match node.as_i64() {
        None => Fault::IntegerTooLarge,
        Some(len) if len < 1 => Fault::PieceLenNotPositive(len),
        Some(len) => match u32::try_from(len) {
            Ok(piece_len) if piece_len <= PIECE_LEN_READ_MAX => return Ok(piece_len),
            _ => Fault::PieceLenTooLong(len),
        },
    };
    Err(fields.error("piece length", fault))
}

/// The hashes. BEP 3: "a string whose length is a multiple of 20".
fn pieces(fields: Fields<'_, '_>, expected: u64, limits: &MetainfoLimits) -> Result<Box<[PieceHash]>, MetainfoError> {
    let bytes = fields.bytes("pieces")?;
    let (hashes, rest) = bytes.as_chunks::<SHA1_LEN>();
    let found = hashes.len() as u64;
    let max = limits.piece_count_max;
    let fault = if !rest.is_empty() {
        Fault::PiecesLen(bytes.len())
    } else if expected.max(found) > max.into() {
        Fault::TooManyPieces { count: expected.max(found), max }
    } else if found != expected {
        Fault::PieceCount { found, expected }
    } else {
        return Ok(hashes.iter().map(|hash| PieceHash(*hash)).collect());
    };
    Err(fields.error("pieces", fault))
}

/// Adds the length of one more file to the content's.
fn content_len(so_far: u64, length: Node<'_, '_>) -> Result<u64, Fault> {
    let length = length.as_i64().ok_or(Fault::IntegerTooLarge)?;
    let len = u64::try_from(length).map_err(|_| Fault::NegativeLength(length))?;
    so_far.checked_add(len).filter(|&sum| sum <= CONTENT_LEN_MAX).ok_or(Fault::ContentTooLong)
}

/// Checks the `files` list and gives the content's length.
fn check_files(
    list: Node<'_, '_>,
    name_len: usize,
    limits: &MetainfoLimits,
    warnings: &mut Warnings,
) -> Result<u64, MetainfoError> {
    let at_list = |fault| Err(MetainfoError::new("info.files", list.offset(), fault));
    let file_count = list.items().count();
    if file_count == 0 {
        return at_list(Fault::NoFiles);
    }
    if file_count > limits.file_count_max {
        return at_list(Fault::TooManyFiles { count: file_count, max: limits.file_count_max });
    }
    let mut tree = PathTree::with_capacity(file_count);
    let mut total_len = 0;
    for (file_index, file) in list.items().enumerate() {
        let error = |(part, node, fault): Refusal<'_, '_>| {
            MetainfoError::new(format!("info.files[{file_index}]{part}"), node.offset(), fault)
        };
        if file.kind() != Kind::Dictionary {
            let fault = Fault::WrongKind { found: file.kind(), expected: Kind::Dictionary };
            return Err(error((String::new(), file, fault)));
        }
        let fields = FileFields::of(file);
        let length = required(file, ".length", fields.length, Kind::Integer).map_err(error)?;
        total_len = content_len(total_len, length).map_err(|fault| error((".length".into(), length, fault)))?;
        let path = required(file, ".path", fields.path, Kind::List).map_err(error)?;
        check_path(path, name_len).map_err(error)?;
        // Pad files have no place in the file system, and equal ones have equal paths.
        if !fields.has_attribute(b'p') {
            let elements = path.items().filter_map(|element| element.as_bytes());
            tree.insert(elements).map_err(|fault| error((".path".into(), path, fault)))?;
        }
        if fields.has_attribute(b'l') {
            warnings.push(|| format!("info.files[{file_index}]: a symbolic link is treated as a plain file"));
        }
    }
    Ok(total_len)
}

/// What a file entry is refused for: the part of it, as `.path[1]`, that part's value, and the rule.
type Refusal<'d, 'a> = (String, Node<'d, 'a>, Fault);

/// The keys of one entry of `files`, found in one pass: there may be a million entries.
#[derive(Default)]
struct FileFields<'d, 'a> {
    length: Option<Node<'d, 'a>>,
    path: Option<Node<'d, 'a>>,
    attr: Option<Node<'d, 'a>>,
}

impl<'d, 'a> FileFields<'d, 'a> {
    fn of(file: Node<'d, 'a>) -> Self {
        let mut fields = Self::default();
        for (key, value) in file.entries() {
            let field = match key {
                b"length" => &mut fields.length,
                b"path" => &mut fields.path,
                b"attr" => &mut fields.attr,
                _ => continue,
            };
            field.get_or_insert(value);
        }
        fields
    }

    /// BEP 47: `attr` is a string of letters.
    fn has_attribute(&self, letter: u8) -> bool {
        self.attr.and_then(|attr| attr.as_bytes()).is_some_and(|attr| attr.contains(&letter))
    }
}

fn required<'d, 'a>(
    file: Node<'d, 'a>,
    part: &str,
    field: Option<Node<'d, 'a>>,
    expected: Kind,
) -> Result<Node<'d, 'a>, Refusal<'d, 'a>> {
    match field {
        None => Err((part.to_owned(), file, Fault::Missing)),
        Some(node) if node.kind() != expected => {
            Err((part.to_owned(), node, Fault::WrongKind { found: node.kind(), expected }))
        }
        Some(node) => Ok(node),
    }
}

/// BEP 3: "A list of strings corresponding to subdirectory names, the last of which is the actual file name (a zero
/// length list is an error case)."
fn check_path<'d, 'a>(path: Node<'d, 'a>, name_len: usize) -> Result<(), Refusal<'d, 'a>> {
    let mut depth = 0;
    let mut path_len = name_len;
    for (element_index, element) in path.items().enumerate() {
        let refuse = |fault| (format!(".path[{element_index}]"), element, fault);
        let kind = Fault::WrongKind { found: element.kind(), expected: Kind::Bytes };
        let bytes = element.as_bytes().ok_or_else(|| refuse(kind))?;
        check_element(bytes).map_err(refuse)?;
        path_len += 1 + bytes.len();
        depth += 1;
    }
    let fault = match depth {
        0 => Fault::EmptyPath,
        depth if depth > PATH_DEPTH_MAX => Fault::PathTooDeep(depth),
        _ if path_len > PATH_LEN_MAX => Fault::PathTooLong(path_len),
        _ => return Ok(()),
    };
    Err((".path".into(), path, fault))
}

/// Builds the entry of a file that was checked.
fn file_entry(file: Node<'_, '_>, name: &[u8]) -> FileEntry {
    let fields = FileFields::of(file);
    let elements = fields.path.into_iter().flat_map(|path| path.items()).filter_map(|element| element.as_bytes());
    let mut path: Vec<Vec<u8>> = std::iter::once(name).chain(elements).map(<[u8]>::to_vec).collect();
    // A million of these are kept.
    path.shrink_to_fit();
    let len = fields.length.and_then(|length| u64::try_from(length.as_i64()?).ok());
    FileEntry { path, len: len.unwrap_or_default(), pad: fields.has_attribute(b'p') }
}
