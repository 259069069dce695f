//! The torrents of an origin that a new version has replaced.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::base::InfoHash;
use crate::base::limits::REPLACED_TORRENTS_MAX;
use crate::base::lock::lock;

/// The last [`REPLACED_TORRENTS_MAX`] replaced torrents.
#[derive(Debug, Default)]
pub(super) struct ReplacedList(Mutex<VecDeque<Replaced>>);

#[derive(Debug)]
struct Replaced {
    old: InfoHash,
    newest: InfoHash,
    /// The URL path of the newest version's `.torrent`, relative to the landing page.
    path: String,
}

impl ReplacedList {
    /// Notes that the torrent `new`, whose `.torrent` has this path, replaces `old` and all torrents that `old` has
    /// replaced.
    pub(super) fn replace(&self, old: InfoHash, new: InfoHash, path: &str) {
        let mut list = lock(&self.0);
        list.retain(|entry| entry.old != new && entry.old != old);
        for entry in list.iter_mut().filter(|entry| entry.newest == old) {
            (entry.newest, entry.path) = (new, path.to_owned());
        }
        if list.len() >= REPLACED_TORRENTS_MAX {
            list.pop_front();
        }
        list.push_back(Replaced { old, newest: new, path: path.to_owned() });
    }

    /// Forgets that a torrent was replaced, since it is published again.
    pub(super) fn handle_published(&self, info_hash: InfoHash) {
        lock(&self.0).retain(|entry| entry.old != info_hash);
    }

    /// Forgets the torrents that `info_hash` has replaced, since it is not served.
    pub(super) fn forget(&self, info_hash: InfoHash) {
        lock(&self.0).retain(|entry| entry.newest != info_hash);
    }

    /// Returns the URL path of the `.torrent` of the newest version of a replaced torrent, relative to the landing
    /// page.
    pub(super) fn successor(&self, old: InfoHash) -> Option<String> {
        lock(&self.0).iter().find(|entry| entry.old == old).map(|entry| entry.path.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: usize) -> InfoHash {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        InfoHash(bytes)
    }

    #[test]
    fn every_old_version_leads_to_the_newest() {
        let list = ReplacedList::default();
        list.replace(hash(1), hash(2), "two");
        list.replace(hash(2), hash(3), "three");
        let successors = || [1, 2, 3].map(|number| list.successor(hash(number)));
        assert_eq!(successors(), [Some("three".to_owned()), Some("three".to_owned()), None]);
        // The first version is published again.
        list.replace(hash(3), hash(1), "one");
        assert_eq!(successors(), [None, Some("one".to_owned()), Some("one".to_owned())]);
        list.handle_published(hash(2));
        assert_eq!(successors(), [None, None, Some("one".to_owned())]);
        list.forget(hash(1));
        assert_eq!(successors(), [None, None, None]);
    }

    #[test]
    fn the_list_is_bounded() {
        let list = ReplacedList::default();
        (0..=REPLACED_TORRENTS_MAX).for_each(|number| list.replace(hash(number), hash(usize::MAX - number), ""));
        assert_eq!((list.successor(hash(0)), list.successor(hash(1))), (None, Some(String::new())));
    }
}
