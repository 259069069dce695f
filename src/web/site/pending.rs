//! Content that is hashed before it is published, for the web pages and the service manager.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::base::lock::lock;

/// The contents that are being hashed, at most one per hashing thread.
#[derive(Debug, Default)]
pub struct PendingList(Mutex<Vec<Arc<Pending>>>);

/// A torrent that will be published.
#[derive(Debug)]
pub struct Pending {
    /// The name in printable form.
    pub name: String,
    pub len: u64,
    done: AtomicU64,
}

/// Keeps content on the list until it is dropped.
#[derive(Debug)]
pub struct PendingGuard<'a> {
    list: &'a PendingList,
    content: Arc<Pending>,
}

impl PendingList {
    /// Adds content whose hashing begins. `name` must be printable.
    pub fn begin(&self, name: String, len: u64) -> PendingGuard<'_> {
        let content = Arc::new(Pending { name, len, done: AtomicU64::new(0) });
        lock(&self.0).push(Arc::clone(&content));
        PendingGuard { list: self, content }
    }

    pub fn list(&self) -> Vec<Arc<Pending>> {
        lock(&self.0).clone()
    }
}

impl Pending {
    /// The number of bytes hashed.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The hashed part in whole percent.
    pub fn percent(&self) -> u64 {
        let done = u128::from(self.done()) * 100;
        u64::try_from(done / u128::from(self.len.max(1))).unwrap_or(100)
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hashing {}, {} %", self.name, self.percent())
    }
}

impl PendingGuard<'_> {
    /// Notes that at least `done` bytes are hashed.
    pub fn advance(&self, done: u64) {
        self.content.done.fetch_max(done, Ordering::Relaxed);
    }
}

impl Drop for PendingGuard<'_> {
    fn drop(&mut self) {
        let mut contents = lock(&self.list.0);
        contents.retain(|content| !Arc::ptr_eq(content, &self.content));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_listed_while_it_is_hashed() {
        let list = PendingList::default();
        let guard = list.begin("big".into(), 1 << 40);
        guard.advance(1 << 38);
        guard.advance(1 << 20);
        assert_eq!(list.list()[0].to_string(), "hashing big, 25 %");
        drop(guard);
        assert!(list.list().is_empty());
    }
}
