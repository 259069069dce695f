//! Maps paths from outside to file names, and finds paths that collide.
//!
//! A name that Linux accepts is unchanged. Any other name is mapped, where possible as libtorrent does, so that each
//! client finds the other's content. The same torrent always gives the same names.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::{Fault, FileEntry};
use crate::base::limits::{PATH_ELEMENT_LEN_MAX, SHORT_EXTENSION_LEN_MAX, SHORTENED_NAME_LEN};

/// The name of a file whose path has no usable element.
pub(super) const NAMELESS: &[u8] = b"_";

/// Returns the file name for a path element, or `None` if the element means its own folder.
pub(super) fn file_name(element: &[u8]) -> Result<Option<Cow<'_, [u8]>>, Fault> {
    match element {
        b"" | b"." => return Ok(None),
        b".." => return Err(Fault::ParentFolder),
        _ if element.contains(&0) => return Err(Fault::Nul),
        _ => {}
    }
    let mut name = Cow::Borrowed(element);
    if name.len() > PATH_ELEMENT_LEN_MAX {
        name = Cow::Owned(shortened(element));
    }
    if name.contains(&b'/') {
        name.to_mut().iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'_');
    }
    Ok(Some(name))
}

/// Shortens a name as libtorrent does: to its beginning, plus the extension if that is short.
fn shortened(name: &[u8]) -> Vec<u8> {
    let is_inside = |at: usize| name.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let cut = (SHORTENED_NAME_LEN..SHORTENED_NAME_LEN + 4).find(|&at| !is_inside(at)).unwrap_or(SHORTENED_NAME_LEN);
    let (stem, rest) = name.split_at_checked(cut).unwrap_or((name, &[]));
    let tail = rest.get(rest.len().saturating_sub(SHORT_EXTENSION_LEN_MAX)..).unwrap_or_default();
    let extension = tail.iter().rposition(|&byte| byte == b'.').and_then(|dot| tail.get(dot..)).unwrap_or_default();
    [stem, extension].concat()
}

/// The number of the torrent's own folder.
const ROOT: usize = 0;

/// An entry of a [`PathTree`].
#[derive(Clone, Copy)]
enum PathEntry {
    File,
    /// A folder and its number.
    Folder(usize),
}

/// All paths of a torrent. Adding one takes a step per path element, independent of the number of files.
///
/// The hash of the map is keyed, so an attacker cannot choose names that collide.
pub(super) struct PathTree<'a> {
    /// Keyed by the number of the folder and the name in it.
    entries: HashMap<(usize, Cow<'a, [u8]>), PathEntry>,
    folder_count: usize,
}

impl<'a> PathTree<'a> {
    /// Returns an empty tree with memory for this number of files and folders; it grows.
    pub(super) fn with_capacity(entry_count: usize) -> Self {
        Self { entries: HashMap::with_capacity(entry_count), folder_count: 1 }
    }

    /// Adds a file. Returns false if its path is taken, or needs a folder in place of a file.
    pub(super) fn insert(&mut self, path: impl IntoIterator<Item = Cow<'a, [u8]>>) -> bool {
        let mut folder = ROOT;
        let mut path = path.into_iter().peekable();
        while let Some(element) = path.next() {
            let is_file = path.peek().is_none();
            match self.entries.entry((folder, element)) {
                Entry::Vacant(entry) if is_file => {
                    entry.insert(PathEntry::File);
                }
                Entry::Vacant(entry) => {
                    folder = self.folder_count;
                    self.folder_count += 1;
                    entry.insert(PathEntry::Folder(folder));
                }
                Entry::Occupied(entry) => match *entry.get() {
                    PathEntry::Folder(inner) if !is_file => folder = inner,
                    PathEntry::Folder(_) | PathEntry::File => return false,
                },
            }
        }
        true
    }
}

/// Renames files whose paths collide, as libtorrent does, and returns the indices of the renamed ones. Folders keep
/// their names, and so does the first of several files; the others get a number before the extension.
pub(super) fn separate(files: &mut [FileEntry]) -> Vec<usize> {
    let mut folders: HashMap<(usize, Vec<u8>), usize> = HashMap::new();
    let mut parents = Vec::with_capacity(files.len());
    for file in files.iter() {
        let above = file.path.split_last().filter(|_| !file.is_padding()).map_or(&[][..], |(_, above)| above);
        let enter = |parent, name: &Vec<u8>| {
            let number = folders.len() + 1;
            *folders.entry((parent, name.clone())).or_insert(number)
        };
        parents.push(above.iter().fold(ROOT, enter));
    }
    let mut taken: HashSet<(usize, Vec<u8>)> = HashSet::with_capacity(files.len());
    // The last number tried for a name, so that each number is tried once, however many files have the name.
    let mut counts: HashMap<(usize, Vec<u8>), u32> = HashMap::new();
    let mut renamed = Vec::new();
    for (index, (file, parent)) in files.iter_mut().zip(parents).enumerate() {
        if file.is_padding() {
            continue;
        }
        let Some(name) = file.path.last_mut() else { continue };
        let mut key = (parent, name.clone());
        if !folders.contains_key(&key) && taken.insert(key.clone()) {
            continue;
        }
        let (stem, extension) = stem_and_extension(name);
        let count = counts.entry((parent, [stem, b"/", extension].concat())).or_default();
        loop {
            *count += 1;
            key.1 = [stem, format!(".{count}").as_bytes(), extension].concat();
            if !folders.contains_key(&key) && taken.insert(key.clone()) {
                break;
            }
        }
        *name = key.1;
        renamed.push(index);
    }
    renamed
}

/// Splits a name into stem and extension, and shortens the stem so that a dot and seven digits fit between them.
fn stem_and_extension(name: &[u8]) -> (&[u8], &[u8]) {
    const LEN_MAX: usize = PATH_ELEMENT_LEN_MAX - 8;
    let dot = name.iter().rposition(|&byte| byte == b'.').filter(|&dot| name.len() - dot <= LEN_MAX);
    let (stem, extension) = name.split_at_checked(dot.unwrap_or(name.len())).unwrap_or((name, &[]));
    let mut len = stem.len().min(LEN_MAX - extension.len());
    while stem.get(len).is_some_and(|byte| byte & 0xc0 == 0x80) && len > 0 {
        len -= 1;
    }
    (stem.get(..len).unwrap_or(stem), extension)
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
