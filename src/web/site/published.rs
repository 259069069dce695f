//! A published torrent: its `.torrent`, whose bytes are shared by all responses, and its files by path.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;

use super::file_table::file_table;
use crate::base::InfoHash;
use crate::codec::metainfo::{FileEntry, Metainfo, Template};
use crate::codec::percent;
use crate::engine::{Contents, Timeliness};

/// A torrent that is public.
#[derive(Debug)]
pub struct Published {
    pub info_hash: InfoHash,
    pub(super) name: Vec<u8>,
    pub(super) total_len: u64,
    pub(super) single_file: bool,
    pub(super) tiers: Vec<Vec<String>>,
    pub(super) web_seeds: Vec<String>,
    pub(super) files: Vec<FileEntry>,
    /// The indices of all files but pad files, sorted by path, so that the files of a folder are adjacent.
    sorted: Box<[usize]>,
    /// The source of the files' content, if it is served over HTTP.
    pub(super) content: Option<Arc<Contents>>,
    /// The file table of the landing page; empty for a single-file torrent.
    pub(super) file_table: Bytes,
    template: Template,
    /// The parts of the `.torrent` that are the same for all clients.
    before: Bytes,
    middle: Bytes,
    after: Bytes,
    published_at: SystemTime,
    is_outdated: AtomicBool,
}

/// A `.torrent` for one client.
pub(super) struct TorrentFile {
    pub(super) parts: [Bytes; 5],
    /// The entity tag, which differs if any byte differs.
    pub(super) tag: String,
}

/// The file or folder at a path of the content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The index of a file.
    File(usize),
    /// The files beneath a folder, as a range for [`Published::entry`].
    Folder(Range<usize>),
}

/// An entry of a folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    File(&'a FileEntry),
    /// The name of a folder.
    Folder(&'a [u8]),
}

impl Published {
    /// Creates a published torrent. `content` is the source of its files, if they are served over HTTP.
    pub fn new(metainfo: Metainfo, content: Option<Arc<Contents>>, published_at: SystemTime) -> Self {
        let mut template = metainfo.template();
        let Metainfo { info_hash, info, tiers, web_seeds, .. } = metainfo;
        let files = info.files;
        let path = |index: usize| files.get(index).map(|file| &file.path);
        let mut sorted: Vec<usize> =
            files.iter().enumerate().filter(|(_, file)| !file.pad).map(|(index, _)| index).collect();
        sorted.sort_by(|&one, &other| path(one).cmp(&path(other)));
        let file_table = if info.single_file { String::new() } else { file_table(&files) };
        Self {
            info_hash,
            name: info.name,
            total_len: info.geometry.total_len(),
            single_file: info.single_file,
            tiers,
            web_seeds,
            sorted: sorted.into(),
            files,
            content,
            file_table: file_table.into(),
            before: std::mem::take(&mut template.before).into(),
            middle: std::mem::take(&mut template.middle).into(),
            after: std::mem::take(&mut template.after).into(),
            template,
            published_at,
            is_outdated: AtomicBool::new(false),
        }
    }

    /// Time of publication, in seconds since 1970.
    pub(super) fn published_at_s(&self) -> i64 {
        self.published_at.duration_since(UNIX_EPOCH).ok().and_then(|since| since.as_secs().try_into().ok()).unwrap_or(0)
    }

    /// The path of the content's file or folder, relative to the landing page; `None` if the content is not served. The
    /// path of a folder ends with a slash.
    pub(super) fn content_path(&self) -> Option<String> {
        self.content.as_ref()?;
        let mut path = format!("f/{}/", self.info_hash);
        percent::escape(&mut path, &self.name);
        if !self.single_file {
            path.push('/');
        }
        Some(path)
    }

    /// The path of the newest `.torrent` of this name, relative to the landing page.
    pub(super) fn torrent_path_by_name(&self) -> String {
        let mut path = String::from("t/");
        percent::escape(&mut path, &self.name);
        path.push_str(".torrent");
        path
    }

    pub(super) fn timeliness(&self) -> Timeliness {
        if self.is_outdated.load(Ordering::Relaxed) { Timeliness::Outdated } else { Timeliness::Current }
    }

    pub(super) fn set_timeliness(&self, timeliness: Timeliness) {
        self.is_outdated.store(timeliness == Timeliness::Outdated, Ordering::Relaxed);
    }

    /// The number of files, without pad files.
    pub(super) fn file_count(&self) -> usize {
        self.sorted.len()
    }

    pub(super) fn torrent_file(&self, tiers: &[Vec<String>], web_seeds: &[String]) -> TorrentFile {
        let own = [self.template.trackers(tiers), self.template.web_seeds(web_seeds)];
        let mut hasher = DefaultHasher::new();
        (&own, &self.before, &self.middle.len(), &self.after).hash(&mut hasher);
        let tag = format!("{}-{:016x}", self.info_hash, hasher.finish());
        let [trackers, web_seeds] = own.map(Bytes::from);
        let parts = [self.before.clone(), trackers, self.middle.clone(), web_seeds, self.after.clone()];
        TorrentFile { parts, tag }
    }

    /// Finds the file or folder with exactly this path. The first element is the name of the torrent.
    pub(super) fn find(&self, path: &[Vec<u8>]) -> Option<Found> {
        let start = self.sorted.partition_point(|&index| self.path(index) < path);
        let index = *self.sorted.get(start)?;
        if self.path(index) == path {
            return Some(Found::File(index));
        }
        let end = self.end_of(start, path);
        (start < end && !path.is_empty()).then_some(Found::Folder(start..end))
    }

    /// The entry at position `at` in `sorted` of a folder whose path has `depth` elements, and the position of the next
    /// entry.
    pub(super) fn entry(&self, at: usize, depth: usize) -> Option<(Entry<'_>, usize)> {
        let file = self.files.get(*self.sorted.get(at)?)?;
        let name = file.path.get(depth)?;
        if file.path.len() == depth + 1 {
            return Some((Entry::File(file), at + 1));
        }
        Some((Entry::Folder(name), self.end_of(at, file.path.get(..=depth)?)))
    }

    /// The end of the range in `sorted` of the files beneath `folder`. The range begins at `start`.
    fn end_of(&self, start: usize, folder: &[Vec<u8>]) -> usize {
        let rest = self.sorted.get(start..).unwrap_or_default();
        start + rest.partition_point(|&index| self.path(index).starts_with(folder))
    }

    fn path(&self, index: usize) -> &[Vec<u8>] {
        self.files.get(index).map_or(&[], |file| &file.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::metainfo::{Draft, DraftFiles, MetainfoLimits};

    fn published(paths: &[&str]) -> Published {
        let elements = |path: &str| path.split('/').map(|element| element.as_bytes().to_vec()).collect();
        let files =
            paths.iter().map(|path| FileEntry { path: elements(path), len: 1, pad: *path == "pad", symlink: None });
        let draft = Draft::new(
            b"t".to_vec(),
            1 << 14,
            DraftFiles::Many(files.collect()),
            vec![crate::base::PieceHash([0; 20])],
        );
        let metainfo = Metainfo::decode(&draft.encode(), &MetainfoLimits::default()).unwrap();
        Published::new(metainfo, None, SystemTime::UNIX_EPOCH)
    }

    fn path(text: &str) -> Vec<Vec<u8>> {
        text.split('/').map(|element| element.as_bytes().to_vec()).collect()
    }

    #[test]
    fn folders_list_their_entries() {
        let published = published(&["b/y", "z", "a", "b/x/1", "pad", "b/x/0", "b.c"]);
        let list = |folder: &str| {
            let path = path(folder);
            let Some(Found::Folder(Range { start, end })) = published.find(&path) else { panic!("{folder}") };
            let (mut names, mut at) = (Vec::new(), start);
            while at < end {
                let (entry, next) = published.entry(at, path.len()).unwrap();
                names.push(match entry {
                    Entry::File(file) => String::from_utf8(file.path.last().unwrap().clone()).unwrap(),
                    Entry::Folder(name) => format!("{}/", String::from_utf8_lossy(name)),
                });
                at = next;
            }
            names
        };
        assert_eq!(list("t"), ["a", "b/", "b.c", "z"]);
        assert_eq!(list("t/b"), ["x/", "y"]);
        assert_eq!(list("t/b/x"), ["0", "1"]);
        assert_eq!(published.find(&path("t/b/x/1")), Some(Found::File(3)));
        for none in ["t/c", "t/b/x/2", "t/pad", "", "t/b/", "u"] {
            assert_eq!(published.find(&path(none)), None, "{none}");
        }
        assert_eq!(published.find(&[]), None);
        assert_eq!(published.file_count(), 6);
    }

    #[test]
    fn responses_share_the_bytes_of_a_torrent_file() {
        let published = published(&["a"]);
        let (one, other) = (published.torrent_file(&[], &[]), published.torrent_file(&[vec!["http://t/".into()]], &[]));
        assert_eq!(one.parts[2].as_ptr(), other.parts[2].as_ptr());
        assert_ne!(one.tag, other.tag);
        let whole = Metainfo::decode(&other.parts.concat(), &MetainfoLimits::default()).unwrap();
        assert_eq!((whole.info_hash, whole.tiers), (published.info_hash, vec![vec!["http://t/".to_owned()]]));
    }
}
