//! Reads the trackers and web seeds of a metainfo file and keeps the usable URLs.

use super::warnings::Warnings;
use crate::base::escape::printable;
use crate::base::limits::{TRACKER_COUNT_MAX, WEB_SEED_COUNT_MAX};
use crate::codec::bencode::{Kind, Node};
use crate::codec::url::{TRACKER_SCHEMES, WEB_SCHEMES, usable};

/// Bytes of an ignored URL that a warning shows.
const SHOWN_LEN: usize = 80;

/// Reads the trackers by tier. BEP 12: if `announce-list` is present, `announce` is ignored.
pub(super) fn tiers(root: Node<'_, '_>, warnings: &mut Warnings) -> Vec<Vec<String>> {
    let mut urls = Urls { field: "announce-list", schemes: &TRACKER_SCHEMES, seen: Vec::new(), warnings };
    let mut tiers: Vec<Vec<String>> = Vec::new();
    for tier in root.get(b"announce-list").iter().flat_map(Node::items) {
        tiers.push(strings(tier).filter_map(|url| urls.keep(url, TRACKER_COUNT_MAX)).collect());
    }
    tiers.retain(|tier| !tier.is_empty());
    if tiers.is_empty() {
        urls.field = "announce";
        // A few old files have an empty `announce` instead of none.
        let announce = root.get(b"announce").filter(|url| url.as_bytes() != Some(b""));
        tiers.extend(announce.and_then(|url| urls.keep(url, TRACKER_COUNT_MAX)).map(|url| vec![url]));
    }
    tiers
}

/// Reads the web seeds. BEP 19: `url-list` is a list of strings or one string, which may be empty.
pub(super) fn web_seeds(root: Node<'_, '_>, warnings: &mut Warnings) -> Vec<String> {
    let mut urls = Urls { field: "url-list", schemes: &WEB_SCHEMES, seen: Vec::new(), warnings };
    let node = root.get(b"url-list").filter(|list| list.as_bytes() != Some(b""));
    node.into_iter().flat_map(strings).filter_map(|url| urls.keep(url, WEB_SEED_COUNT_MAX)).collect()
}

/// Returns the items of a list, or the value itself if it is not a list.
fn strings<'d, 'a>(node: Node<'d, 'a>) -> impl Iterator<Item = Node<'d, 'a>> {
    let lone = (node.kind() != Kind::List).then_some(node);
    lone.into_iter().chain(node.items())
}

/// The URLs kept from one field.
struct Urls<'w> {
    field: &'static str,
    schemes: &'static [&'static str],
    seen: Vec<String>,
    warnings: &'w mut Warnings,
}

impl Urls<'_> {
    /// Keeps a usable URL, drops a repeated one, and warns of any other.
    fn keep(&mut self, node: Node<'_, '_>, count_max: usize) -> Option<String> {
        let shown = node.as_bytes().unwrap_or(node.raw());
        let url = node.as_bytes().and_then(|bytes| usable(bytes, self.schemes));
        if url.as_ref().is_some_and(|url| self.seen.contains(url)) {
            return None;
        }
        let url = url.filter(|_| self.seen.len() < count_max);
        match &url {
            Some(url) => self.seen.push(url.clone()),
            None => {
                let shown = printable(shown.get(..SHOWN_LEN).unwrap_or(shown));
                let reason = if self.seen.len() < count_max { "not a usable URL" } else { "too many URLs" };
                self.warnings.push(|| format!("{}: '{shown}' is ignored: {reason}", self.field));
            }
        }
        url
    }
}
