//! Paths from outside: which names are safe, and which paths meet.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Fault;
use crate::base::limits::PATH_ELEMENT_LEN_MAX;

/// Checks one path element. Any other bytes are a file name on Linux.
pub(super) fn check_element(element: &[u8]) -> Result<(), Fault> {
    match element {
        b"" => Err(Fault::EmptyElement),
        b"." => Err(Fault::CurrentFolder),
        b".." => Err(Fault::ParentFolder),
        _ if element.contains(&0) => Err(Fault::Nul),
        _ if element.contains(&b'/') => Err(Fault::Separator),
        _ if element.len() > PATH_ELEMENT_LEN_MAX => Err(Fault::ElementTooLong(element.len())),
        _ => Ok(()),
    }
}

/// The torrent's own folder.
const ROOT: u32 = 0;

#[derive(Clone, Copy)]
enum Place {
    File,
    Folder(u32),
}

/// All paths of a torrent: one step per path element, whatever the number of files.
///
/// The map's hash is keyed, so names cannot be chosen to collide.
pub(super) struct PathTree<'a> {
    /// By the folder's number and the name inside it.
    places: HashMap<(u32, &'a [u8]), Place>,
    folder_count: u32,
}

impl<'a> PathTree<'a> {
    /// A tree with room for so many files and folders; it grows.
    pub(super) fn with_capacity(place_count: usize) -> Self {
        Self { places: HashMap::with_capacity(place_count), folder_count: 1 }
    }

    /// Adds a file; refuses one at another's path, and one whose path needs a folder where a file is.
    pub(super) fn insert(&mut self, path: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Fault> {
        let mut folder = ROOT;
        let mut path = path.into_iter().peekable();
        while let Some(element) = path.next() {
            let is_file = path.peek().is_none();
            match self.places.entry((folder, element)) {
                Entry::Vacant(entry) if is_file => {
                    entry.insert(Place::File);
                }
                Entry::Vacant(entry) => {
                    folder = self.folder_count;
                    self.folder_count += 1;
                    entry.insert(Place::Folder(folder));
                }
                Entry::Occupied(entry) => match *entry.get() {
                    Place::Folder(inner) if !is_file => folder = inner,
                    Place::Folder(_) => return Err(Fault::FileIsFolder),
                    Place::File if is_file => return Err(Fault::DuplicatePath),
                    Place::File => return Err(Fault::FolderIsFile),
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn insert_all(paths: &[&str]) -> Result<(), Fault> {
        let mut tree = PathTree::with_capacity(0);
        paths.iter().try_for_each(|path| tree.insert(path.split('/').map(str::as_bytes)))
    }

    #[test]
    fn paths_that_meet_are_refused() {
        assert_eq!(insert_all(&["a", "b/a", "b/c/a", "b/c/b", "A"]), Ok(()));
        assert_eq!(insert_all(&["b/a", "x", "b/a"]), Err(Fault::DuplicatePath));
        assert_eq!(insert_all(&["a/b/c", "a/b"]), Err(Fault::FileIsFolder));
        assert_eq!(insert_all(&["a/b", "a/b/c"]), Err(Fault::FolderIsFile));
        assert_eq!(insert_all(&["a", "a/b/c"]), Err(Fault::FolderIsFile));
    }

    #[test]
    fn only_names_that_stay_where_they_are_put_are_safe() {
        for name in [b"a".as_slice(), b"...", b"..a", b"a\\b", b"\xff\xfe", b" ", b"~", &[b'x'; 255]] {
            assert_eq!(check_element(name), Ok(()), "{name:?}");
        }
        for (name, fault) in [
            (b"".as_slice(), Fault::EmptyElement),
            (b".", Fault::CurrentFolder),
            (b"..", Fault::ParentFolder),
            (b"/abs", Fault::Separator),
            (b"a/../../b", Fault::Separator),
            (b"a\0", Fault::Nul),
            (&[b'x'; 256], Fault::ElementTooLong(256)),
        ] {
            assert_eq!(check_element(name), Err(fault), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_comparing_every_pair(
            paths in prop::collection::vec(prop::collection::vec("[ab]", 1..4), 1..6)
        ) {
            let meets = |a: &Vec<String>, b: &Vec<String>| a.starts_with(b) || b.starts_with(a);
            let clash = (0..paths.len()).any(|i| (0..i).any(|j| meets(&paths[i], &paths[j])));
            let mut tree = PathTree::with_capacity(0);
            let inserted = paths.iter().try_for_each(|path| tree.insert(path.iter().map(String::as_bytes)));
            prop_assert_eq!(inserted.is_err(), clash);
        }
    }
}
