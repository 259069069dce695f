//! Reading metainfo files. Every rule is checked before a value is built.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sha1::{Digest, Sha1};

use super::path::{self, NAMELESS, PathTree, file_name};
use super::warnings::Warnings;
use super::{Fault, FileEntry, Info, Metainfo, MetainfoError, MetainfoLimits, Mistaken, urls};
use crate::base::escape::printable;
use crate::base::ids::SHA1_LEN;
use crate::base::limits::{CONTENT_LEN_MAX, METAINFO_DEPTH_MAX, PATH_DEPTH_MAX, PATH_LEN_MAX, PIECE_LEN_READ_MAX};
use crate::base::{Geometry, InfoHash, PieceHash};
use crate::codec::bencode::{self, Document, Kind, Node};

/// Top-level keys that have a field in [`Metainfo`].
const KNOWN_KEYS: [&[u8]; 7] =
    [b"announce", b"announce-list", b"comment", b"created by", b"creation date", b"info", b"url-list"];

/// A dictionary, and the prefix of its keys in errors.
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
    // Editors, shells and servers append line ends to files.
    let (whole, bytes) = (bytes, bytes.trim_ascii_end());
    let document = Document::decode(bytes, &caps).map_err(|error| match Mistaken::recognize(whole) {
        Some(mistaken) => MetainfoError::Mistaken(mistaken),
        None => error.into(),
    })?;
    let root = document.root();
    let expected = Kind::Dictionary;
    if root.kind() != expected {
        let fault = Fault::WrongKind { found: root.kind(), expected };
        return Err(MetainfoError::new("metainfo", root.offset(), fault));
    }
    let mut warnings = Warnings::default();
    if bytes.len() < whole.len() {
        warnings.push(|| format!("{} blank bytes after the torrent's end are ignored", whole.len() - bytes.len()));
    }
    if let Some(offset) = document.disorder() {
        warnings.push(|| format!("dictionary keys are unsorted or repeated, the first at byte {offset}"));
    }
    let info_node = Fields { node: root, prefix: "" }.required("info", Kind::Dictionary)?;
    // BEP 3: the hash is that "of the bencoded form of the info value [...] a substring of the metainfo file".
    let info_bytes = info_node.raw();
    let info_hash = InfoHash(Sha1::digest(info_bytes).into());
    let info = info(Fields { node: info_node, prefix: "info." }, info_hash, limits, &mut warnings)?;
    let text = |key: &[u8]| Some(String::from_utf8_lossy(root.get(key)?.as_bytes()?).into_owned());
    Ok(Metainfo {
        info_hash,
        info,
        info_bytes: info_bytes.into(),
        tiers: urls::tiers(root, &mut warnings),
        web_seeds: urls::web_seeds(root, &mut warnings),
        comment: text(b"comment"),
        created_by: text(b"created by"),
        creation_date: root.get(b"creation date").and_then(|date| date.as_i64()),
        warnings: warnings.into_lines(),
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

fn info(
    fields: Fields<'_, '_>,
    info_hash: InfoHash,
    limits: &MetainfoLimits,
    warnings: &mut Warnings,
) -> Result<Info, MetainfoError> {
    // BEP 52: a v2-only torrent has `file tree` in place of `pieces`; a hybrid has both.
    let is_v2 = ["meta version", "file tree"].iter().any(|key| fields.node.get(key.as_bytes()).is_some());
    if is_v2 && fields.node.get(b"pieces").is_none() {
        return Err(MetainfoError::new("info", fields.node.offset(), Fault::V2Only));
    }
    let name = name(fields, info_hash, warnings)?;
    let piece_len = piece_len(fields)?;
    let length = fields.optional("length", Kind::Integer)?;
    let list = fields.optional("files", Kind::List)?;
    // BEP 3: "There is also a key `length` or a key `files`, but not both or neither."
    let (files, total_len) = match (length, list) {
        (Some(length), None) => (None, content_len(0, length).map_err(|fault| fields.error("length", fault))?),
        (None, Some(list)) => {
            let (paths, len) = check_files(list, name.len(), limits, warnings)?;
            (Some(Files { list, paths }), len)
        }
        (Some(_), Some(_)) => return Err(MetainfoError::new("info", fields.node.offset(), Fault::LengthAndFiles)),
        (None, None) => return Err(MetainfoError::new("info", fields.node.offset(), Fault::NoLengthNorFiles)),
    };
    let pieces = pieces(fields, total_len.div_ceil(piece_len.into()), limits)?;
    let files = match files {
        None => vec![FileEntry { path: vec![name.clone()], len: total_len, pad: false, symlink: None }],
        Some(Files { list, paths }) => {
            let mut files: Vec<FileEntry> = list.items().map(|file| file_entry(file, &name)).collect();
            if paths == Paths::Colliding {
                for index in path::separate(&mut files) {
                    warnings.push(|| {
                        let path = files.get(index).map(|file| printable(&file.path.join(&b'/'))).unwrap_or_default();
                        format!("info.files[{index}].path: another file or folder has this path: '{path}' is used")
                    });
                }
            }
            files
        }
    };
    // This cannot fail: the lengths were summed above, and each piece has a hash.
    let geometry = Geometry::new(piece_len, files.iter().map(|file| file.len)).ok_or_else(|| {
        fields.error("pieces", Fault::TooManyPieces { count: pieces.len() as u64, max: limits.piece_count_max })
    })?;
    Ok(Info {
        name,
        geometry,
        pieces,
        files,
        single_file: length.is_some(),
        // BEP 27: "private=1".
        private: fields.node.get(b"private").and_then(|private| private.as_i64()) == Some(1),
        source: fields.node.get(b"source").and_then(|source| source.as_bytes()).map(<[u8]>::to_vec),
    })
}

/// A checked `files` list.
struct Files<'d, 'a> {
    list: Node<'d, 'a>,
    paths: Paths,
}

/// Whether the paths of a `files` list collide.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paths {
    Distinct,
    /// Some paths are equal, or lead through a file.
    Colliding,
}

/// Reads the name. BEP 3: "the name of a file" or "of a directory"; it is "purely advisory", but still a path element.
/// Writers add `name.utf-8` to a name in another encoding, and all clients prefer it.
fn name(fields: Fields<'_, '_>, info_hash: InfoHash, warnings: &mut Warnings) -> Result<Vec<u8>, MetainfoError> {
    let utf8 = fields.node.get(b"name.utf-8").filter(|name| is_utf8(*name));
    let (key, name) = match utf8.and_then(|name| name.as_bytes()) {
        Some(name) => ("name.utf-8", name),
        None => ("name", fields.bytes("name")?),
    };
    let safe = file_name(name).map_err(|fault| fields.error(key, fault))?;
    let safe = safe.unwrap_or_else(|| info_hash.to_string().into_bytes().into());
    if *safe != *name {
        warnings.push(|| mapped(&format!("info.{key}"), name, &safe));
    }
    Ok(safe.into_owned())
}

/// Returns whether a value is a non-empty string in UTF-8.
fn is_utf8(node: Node<'_, '_>) -> bool {
    node.as_bytes().is_some_and(|bytes| !bytes.is_empty() && std::str::from_utf8(bytes).is_ok())
}

/// Bytes of a name from outside that a warning shows.
const SHOWN_LEN: usize = 80;

fn mapped(place: &str, from: &[u8], to: &[u8]) -> String {
    let shown = |name: &[u8]| printable(name.get(..SHOWN_LEN).unwrap_or(name));
    format!("{place}: '{}' can't be a file's name: '{}' is used", shown(from), shown(to))
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

/// Reads the hashes. BEP 3: "a string whose length is a multiple of 20".
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

/// Checks the `files` list and returns the length of the content.
fn check_files(
    list: Node<'_, '_>,
    name_len: usize,
    limits: &MetainfoLimits,
    warnings: &mut Warnings,
) -> Result<(Paths, u64), MetainfoError> {
    let at_list = |fault| Err(MetainfoError::new("info.files", list.offset(), fault));
    let file_count = list.items().count();
    if file_count == 0 {
        return at_list(Fault::NoFiles);
    }
    if file_count > limits.file_count_max {
        return at_list(Fault::TooManyFiles { count: file_count, max: limits.file_count_max });
    }
    let mut tree = PathTree::with_capacity(file_count);
    let mut paths = Paths::Distinct;
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
        // A link has no content, even if it states a length.
        if fields.has_attribute(SYMLINK) {
            warnings.push(|| {
                format!("info.files[{file_index}]: a symbolic link to '{}' is not created", printable(&fields.target()))
            });
        } else {
            let length = required(file, ".length", fields.length, Kind::Integer).map_err(error)?;
            total_len = content_len(total_len, length).map_err(|fault| error((".length".into(), length, fault)))?;
        }
        if fields.is_nameless_padding() {
            continue;
        }
        let path = required(file, ".path", fields.path(), Kind::List).map_err(error)?;
        check_path(path, name_len, file_index, warnings).map_err(error)?;
        // Pad files are not in the file system, and pad files of equal length have equal paths.
        if paths == Paths::Distinct && !fields.has_attribute(PADDING) && !tree.insert(names(path)) {
            paths = Paths::Colliding;
        }
    }
    Ok((paths, total_len))
}

/// Why a file entry is refused: the path of the value in the entry, such as `.path[1]`, the value, and the broken rule.
type Refusal<'d, 'a> = (String, Node<'d, 'a>, Fault);

/// The letter of padding in BEP 47's `attr`.
const PADDING: u8 = b'p';
/// The letter of a symbolic link in BEP 47's `attr`.
const SYMLINK: u8 = b'l';

/// The values of one entry of `files`. They are found in one pass, since there may be a million entries.
#[derive(Default)]
struct FileFields<'d, 'a> {
    length: Option<Node<'d, 'a>>,
    path: Option<Node<'d, 'a>>,
    path_utf8: Option<Node<'d, 'a>>,
    attr: Option<Node<'d, 'a>>,
    symlink: Option<Node<'d, 'a>>,
}

impl<'d, 'a> FileFields<'d, 'a> {
    fn of(file: Node<'d, 'a>) -> Self {
        let mut fields = Self::default();
        for (key, value) in file.entries() {
            let field = match key {
                b"length" => &mut fields.length,
                b"path" => &mut fields.path,
                b"path.utf-8" => &mut fields.path_utf8,
                b"attr" => &mut fields.attr,
                b"symlink path" => &mut fields.symlink,
                _ => continue,
            };
            field.get_or_insert(value);
        }
        fields
    }

    /// Returns whether `attr`, a string of letters (BEP 47), contains this letter.
    fn has_attribute(&self, letter: u8) -> bool {
        self.attr.and_then(|attr| attr.as_bytes()).is_some_and(|attr| attr.contains(&letter))
    }

    /// Returns the path, as for [`name`] preferably in UTF-8.
    fn path(&self) -> Option<Node<'d, 'a>> {
        let is_whole = |path: &Node<'d, 'a>| path.items().next().is_some() && path.items().all(is_utf8);
        self.path_utf8.filter(is_whole).or(self.path)
    }

    /// Returns whether this is a pad file without a path. A pad file's path has no meaning (BEP 47), and some writers
    /// leave it out.
    fn is_nameless_padding(&self) -> bool {
        self.has_attribute(PADDING) && self.path().is_none_or(|path| path.items().next().is_none())
    }

    /// Returns the target of a symbolic link.
    fn target(&self) -> Box<[u8]> {
        let elements = self.symlink.into_iter().flat_map(|target| target.items()).filter_map(|part| part.as_bytes());
        elements.collect::<Vec<_>>().join(&b'/').into()
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

/// Checks a path. BEP 3: "A list of strings corresponding to subdirectory names, the last of which is the actual file
/// name (a zero length list is an error case)."
fn check_path<'d, 'a>(
    path: Node<'d, 'a>,
    name_len: usize,
    file_index: usize,
    warnings: &mut Warnings,
) -> Result<(), Refusal<'d, 'a>> {
    if path.items().next().is_none() {
        return Err((".path".into(), path, Fault::EmptyPath));
    }
    let mut depth = 0;
    let mut path_len = name_len;
    for (element_index, element) in path.items().enumerate() {
        let refuse = |fault| (format!(".path[{element_index}]"), element, fault);
        let kind = Fault::WrongKind { found: element.kind(), expected: Kind::Bytes };
        let bytes = element.as_bytes().ok_or_else(|| refuse(kind))?;
        let name = file_name(bytes).map_err(refuse)?;
        let place = || format!("info.files[{file_index}].path[{element_index}]");
        match name {
            Some(name) => {
                if *name != *bytes {
                    warnings.push(|| mapped(&place(), bytes, &name));
                }
                path_len += 1 + name.len();
                depth += 1;
            }
            None => warnings.push(|| format!("{}: '{}' is no name: it is left out", place(), printable(bytes))),
        }
    }
    let fault = match depth {
        depth if depth > PATH_DEPTH_MAX => Fault::PathTooDeep(depth),
        _ if path_len > PATH_LEN_MAX => Fault::PathTooLong(path_len),
        _ => return Ok(()),
    };
    Err((".path".into(), path, fault))
}

/// Returns the file names for the elements of a checked path, at least one.
fn names<'a>(path: Node<'_, 'a>) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let mut names = path.items().filter_map(|element| file_name(element.as_bytes()?).ok().flatten()).peekable();
    let nameless = names.peek().is_none().then_some(Cow::Borrowed(NAMELESS));
    names.chain(nameless)
}

/// Builds the entry of a checked file.
fn file_entry(file: Node<'_, '_>, name: &[u8]) -> FileEntry {
    let fields = FileFields::of(file);
    let symlink = fields.has_attribute(SYMLINK).then(|| fields.target());
    let stated = fields.length.and_then(|length| u64::try_from(length.as_i64()?).ok());
    let len = stated.filter(|_| symlink.is_none()).unwrap_or_default();
    let mut path = vec![name.to_vec()];
    match fields.path().filter(|_| !fields.is_nameless_padding()) {
        Some(elements) => path.extend(names(elements).map(Cow::into_owned)),
        None => path.extend([b".pad".to_vec(), len.to_string().into_bytes()]),
    }
    // There may be a million of these.
    path.shrink_to_fit();
    FileEntry { path, len, pad: symlink.is_some() || fields.has_attribute(PADDING), symlink }
}
