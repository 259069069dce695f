//! The published torrents in the order of the page, and the torrent that each name leads to.

use std::collections::HashMap;
use std::sync::Arc;

use super::published::Published;
use crate::base::InfoHash;

/// The published torrents. Responses that are being generated share a copy.
#[derive(Clone, Debug, Default)]
pub(super) struct Torrents {
    list: Vec<Arc<Published>>,
    /// The first torrent of each name.
    by_name: HashMap<Vec<u8>, Arc<Published>>,
}

impl Torrents {
    pub(super) fn list(&self) -> &[Arc<Published>] {
        &self.list
    }

    /// Returns the torrent that the URLs with this name lead to: the first one on the page.
    pub(super) fn first_of_name(&self, name: &[u8]) -> Option<&Arc<Published>> {
        self.by_name.get(name)
    }

    pub(super) fn find(&self, info_hash: InfoHash) -> Option<&Arc<Published>> {
        self.list.iter().find(|torrent| torrent.info_hash == info_hash)
    }

    pub(super) fn push(&mut self, torrent: Arc<Published>) {
        self.by_name.entry(torrent.name.clone()).or_insert_with(|| Arc::clone(&torrent));
        self.list.push(torrent);
    }

    /// Puts a torrent in the place of `old`, or at the end if `old` is not published.
    pub(super) fn replace(&mut self, old: InfoHash, torrent: Arc<Published>) {
        let Some(place) = self.list.iter_mut().find(|torrent| torrent.info_hash == old) else {
            return self.push(torrent);
        };
        let old = std::mem::replace(place, Arc::clone(&torrent));
        self.choose_first(&old.name);
        self.choose_first(&torrent.name);
    }

    pub(super) fn remove(&mut self, info_hash: InfoHash) {
        let Some(at) = self.list.iter().position(|torrent| torrent.info_hash == info_hash) else { return };
        let removed = self.list.remove(at);
        self.choose_first(&removed.name);
    }

    fn choose_first(&mut self, name: &[u8]) {
        match self.list.iter().find(|torrent| torrent.name == name) {
            Some(first) => self.by_name.insert(name.to_vec(), Arc::clone(first)),
            None => self.by_name.remove(name),
        };
    }
}

impl FromIterator<Published> for Torrents {
    fn from_iter<I: IntoIterator<Item = Published>>(published: I) -> Self {
        let mut torrents = Self::default();
        published.into_iter().for_each(|torrent| torrents.push(Arc::new(torrent)));
        torrents
    }
}
