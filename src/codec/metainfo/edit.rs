//! Changes to metainfo files. Values that are not edited keep their bytes, whether or not this program understands
//! them.

use std::collections::{BTreeMap, HashSet};

use super::draft::{ANNOUNCE, ANNOUNCE_LIST, URL_LIST, tracker_entries, web_seed_entry};
use super::{Info, Metainfo, MetainfoError, MetainfoLimits};
use crate::base::limits::METAINFO_DEPTH_MAX;
use crate::codec::bencode::{self, Document, Node, Value};

/// Changes to the values of a metainfo file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Edit {
    pub trackers: TrackerEdit,
    /// `Set` replaces all web seeds.
    pub web_seeds: Change<Vec<String>>,
    pub comment: Change<String>,
    /// Seconds since 1970.
    pub creation_date: Change<i64>,
    /// A change of this value changes the info-hash.
    pub private: Change<()>,
    /// A change of this value changes the info-hash.
    pub source: Change<String>,
}

/// A change of one value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Change<T> {
    #[default]
    Keep,
    Remove,
    Set(T),
}

/// A change of the trackers, in tiers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum TrackerEdit {
    #[default]
    Keep,
    /// Replaces all trackers; an empty list removes them.
    Replace(Vec<Vec<String>>),
    /// Adds tiers at the end, without the trackers that the torrent has, and each tracker once.
    Add(Vec<Vec<String>>),
}

type Entries = BTreeMap<Vec<u8>, Value>;

impl Edit {
    /// Returns whether the edit changes the info dictionary of this torrent, and with it the info-hash.
    pub fn changes_info(&self, info: &Info) -> bool {
        self.changes_private(info) || self.changes_source(info)
    }

    fn changes_private(&self, info: &Info) -> bool {
        match self.private {
            Change::Keep => false,
            Change::Remove => info.private,
            Change::Set(()) => !info.private,
        }
    }

    fn changes_source(&self, info: &Info) -> bool {
        match &self.source {
            Change::Keep => false,
            Change::Remove => info.source.is_some(),
            Change::Set(source) => info.source.as_deref() != Some(source.as_bytes()),
        }
    }

    /// Returns the edited file. `bytes` is the file that was decoded as `metainfo`. The info dictionary is copied
    /// unchanged unless [`Self::changes_info`]; a dictionary that is changed is written with sorted keys.
    pub fn apply(&self, bytes: &[u8], metainfo: &Metainfo, limits: &MetainfoLimits) -> Result<Vec<u8>, MetainfoError> {
        let caps = bencode::Limits { depth_max: METAINFO_DEPTH_MAX, tokens_max: limits.tokens_max };
        let document = Document::decode(bytes.trim_ascii_end(), &caps)?;
        let root = document.root();
        let mut entries = raw_entries(root);
        match &self.trackers {
            TrackerEdit::Keep => {}
            TrackerEdit::Replace(tiers) => replace(&mut entries, &[ANNOUNCE, ANNOUNCE_LIST], tracker_entries(tiers)),
            TrackerEdit::Add(tiers) => add_trackers(root, &mut entries, tiers),
        }
        match &self.web_seeds {
            Change::Keep => {}
            Change::Remove => replace(&mut entries, &[URL_LIST], None),
            Change::Set(urls) => replace(&mut entries, &[URL_LIST], web_seed_entry(urls)),
        }
        change(&mut entries, b"comment", &self.comment, |comment| comment.as_str().into());
        change(&mut entries, b"creation date", &self.creation_date, |date| Value::Integer(*date));
        if let Some(info) = root.get(b"info").filter(|_| self.changes_info(&metainfo.info)) {
            let mut values = raw_entries(info);
            if self.changes_private(&metainfo.info) {
                change(&mut values, b"private", &self.private, |()| Value::Integer(1));
            }
            if self.changes_source(&metainfo.info) {
                change(&mut values, b"source", &self.source, |source| source.as_str().into());
            }
            entries.insert(b"info".to_vec(), Value::Dictionary(values));
        }
        Ok(Value::Dictionary(entries).encode())
    }
}

/// Returns the entries of a dictionary with their bytes. Of equal keys the first counts.
fn raw_entries(dictionary: Node<'_, '_>) -> Entries {
    let mut entries = Entries::new();
    for (key, value) in dictionary.entries() {
        entries.entry(key.to_vec()).or_insert_with(|| raw(value));
    }
    entries
}

fn raw(node: Node<'_, '_>) -> Value {
    Value::Raw(node.raw().to_vec())
}

fn replace(entries: &mut Entries, keys: &[&[u8]], with: impl IntoIterator<Item = (Vec<u8>, Value)>) {
    keys.iter().for_each(|key| drop(entries.remove(*key)));
    entries.extend(with);
}

fn change<T>(entries: &mut Entries, key: &[u8], change: &Change<T>, value: impl Fn(&T) -> Value) {
    match change {
        Change::Keep => {}
        Change::Remove => drop(entries.remove(key)),
        Change::Set(new) => drop(entries.insert(key.to_vec(), value(new))),
    }
}

/// Adds tiers after those of the torrent, which keep their bytes.
fn add_trackers(root: Node<'_, '_>, entries: &mut Entries, tiers: &[Vec<String>]) {
    let announce = root.get(ANNOUNCE).filter(|url| url.as_bytes().is_some_and(|url| !url.is_empty()));
    let old: Vec<Node<'_, '_>> = root.get(ANNOUNCE_LIST).into_iter().flat_map(|list| list.items()).collect();
    let mut list: Vec<Value> = old.iter().map(|tier| raw(*tier)).collect();
    if list.is_empty() {
        list.extend(announce.map(|url| Value::List(vec![raw(url)])));
    }
    let urls = old.iter().flat_map(Node::items).chain(old.iter().copied()).chain(announce);
    let mut known: HashSet<&[u8]> = urls.filter_map(|node| node.as_bytes()).collect();
    let mut fresh: Vec<Vec<&String>> =
        tiers.iter().map(|tier| tier.iter().filter(|url| known.insert(url.as_bytes())).collect()).collect();
    fresh.retain(|tier| !tier.is_empty());
    let Some(first) = fresh.iter().flatten().next() else { return };
    if announce.is_none() && list.is_empty() {
        entries.insert(ANNOUNCE.to_vec(), first.as_str().into());
        if fresh.iter().flatten().count() == 1 {
            return;
        }
    }
    list.extend(fresh.iter().map(|tier| Value::List(tier.iter().map(|url| url.as_str().into()).collect())));
    entries.insert(ANNOUNCE_LIST.to_vec(), Value::List(list));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An info dictionary with unsorted and unknown keys, which other programs may have hashed as it is.
    const ODD_INFO: &[u8] =
        b"d6:pieces20:aaaaaaaaaaaaaaaaaaaa4:name1:x6:lengthi3e12:piece lengthi16384e7:x-thingd1:bi2e1:ai1eee";

    fn torrent(before: &[u8], after: &[u8]) -> Vec<u8> {
        [&b"d"[..], before, b"4:info", ODD_INFO, after, b"e"].concat()
    }

    #[track_caller]
    fn edited(bytes: &[u8], edit: &Edit) -> Vec<u8> {
        let limits = MetainfoLimits::default();
        let metainfo = Metainfo::decode(bytes, &limits).unwrap();
        let edited = edit.apply(bytes, &metainfo, &limits).unwrap();
        let after = Metainfo::decode(&edited, &limits).unwrap();
        assert_eq!(after.info_hash == metainfo.info_hash, !edit.changes_info(&metainfo.info));
        assert_eq!(after.unknown_keys, metainfo.unknown_keys);
        edited
    }

    fn tiers(tiers: &[&[&str]]) -> Vec<Vec<String>> {
        tiers.iter().map(|tier| tier.iter().map(|&url| url.to_owned()).collect()).collect()
    }

    #[test]
    fn values_that_are_not_edited_keep_their_bytes() {
        let old = torrent(b"8:announce9:wss://w/a7:comment2:\xff\xfe", b"7:unknownd1:zi1e1:ai2ee");
        assert_eq!(edited(&old, &Edit::default()), old);
        let edit = Edit { comment: Change::Set("new".into()), creation_date: Change::Set(7), ..Edit::default() };
        let new = torrent(b"8:announce9:wss://w/a7:comment3:new13:creation datei7e", b"7:unknownd1:zi1e1:ai2ee");
        assert_eq!(edited(&old, &edit), new);
        let edit = Edit { comment: Change::Remove, creation_date: Change::Remove, ..Edit::default() };
        assert_eq!(edited(&new, &edit), torrent(b"8:announce9:wss://w/a", b"7:unknownd1:zi1e1:ai2ee"));
    }

    #[test]
    fn trackers_are_replaced_added_and_removed() {
        let bare = torrent(b"", b"");
        let replace = |urls| Edit { trackers: TrackerEdit::Replace(tiers(urls)), ..Edit::default() };
        let add = |urls| Edit { trackers: TrackerEdit::Add(tiers(urls)), ..Edit::default() };
        let one = torrent(b"8:announce10:http://a/x", b"");
        let two = torrent(b"8:announce10:http://a/x13:announce-listll10:http://a/xel10:http://b/xee", b"");
        assert_eq!(edited(&bare, &add(&[&["http://a/x"]])), one);
        assert_eq!(edited(&bare, &add(&[&["http://a/x"], &["http://b/x"]])), two);
        assert_eq!(edited(&one, &add(&[&["http://a/x", "http://b/x"]])), two);
        assert_eq!(edited(&two, &add(&[&["http://b/x"]])), two);
        assert_eq!(edited(&one, &add(&[&["http://b/x", "http://b/x"], &["http://b/x"]])), two);
        assert_eq!(edited(&two, &replace(&[&["http://a/x"]])), one);
        assert_eq!(edited(&two, &replace(&[])), bare);
        let foreign = torrent(b"8:announce9:wss://w/a13:announce-listll9:wss://w/aee", b"");
        let added = torrent(b"8:announce9:wss://w/a13:announce-listll9:wss://w/ael10:http://b/xee", b"");
        assert_eq!(edited(&foreign, &add(&[&["http://b/x"]])), added);
    }

    #[test]
    fn web_seeds_are_replaced_and_removed() {
        let bare = torrent(b"", b"");
        let set = |urls: &[&str]| Edit {
            web_seeds: Change::Set(urls.iter().map(|&url| url.to_owned()).collect()),
            ..Edit::default()
        };
        let one = torrent(b"", b"8:url-list9:http://w/");
        assert_eq!(edited(&bare, &set(&["http://w/"])), one);
        assert_eq!(
            edited(&one, &set(&["http://v/", "http://w/"])),
            torrent(b"", b"8:url-listl9:http://v/9:http://w/e")
        );
        assert_eq!(edited(&one, &Edit { web_seeds: Change::Remove, ..Edit::default() }), bare);
    }

    #[test]
    fn a_change_of_the_info_dictionary_is_made_and_undone() {
        let old = torrent(b"", b"");
        assert_eq!(edited(&old, &Edit { private: Change::Remove, source: Change::Remove, ..Edit::default() }), old);
        let edit = Edit { private: Change::Set(()), source: Change::Set("S".into()), ..Edit::default() };
        let marked = edited(&old, &edit);
        let info = Metainfo::decode(&marked, &MetainfoLimits::default()).unwrap().info;
        assert!(info.private && info.source.as_deref() == Some(b"S"));
        assert!(marked.windows(23).any(|bytes| bytes == b"7:x-thingd1:bi2e1:ai1ee"));
        assert_eq!(edited(&marked, &edit), marked);
        let plain = edited(&marked, &Edit { private: Change::Remove, source: Change::Remove, ..Edit::default() });
        assert!(!Metainfo::decode(&plain, &MetainfoLimits::default()).unwrap().info.private);
    }
}
