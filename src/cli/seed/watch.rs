//! `seed --watch`: a folder whose `.torrent` files come and go while we serve.
//!
//! It is polled. A folder's time stamp tells of names that came or went on every file system, of network ones too, where
//! inotify hears nothing of other hosts; a file that is no torrent yet is looked at until it is one or stays as it is.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::origin::Origin;
use super::{Named, prepare};
use crate::base::{InfoHash, PeerId, limits};
use crate::cli::exit::{Exit, Failure};
use crate::cli::metainfo_file::read_metainfo_file;
use crate::cli::options::SeedOptions;
use crate::cli::output::Output;
use crate::cli::records::Record;
use crate::codec::metainfo::Metainfo;
use crate::create::open::shown;
use crate::engine::Change;

/// How often it is looked whether there is something to do.
const POLL: Duration = Duration::from_millis(200);

/// What watching shares with the rest of `seed`.
pub(super) struct Surroundings<'a> {
    pub(super) options: &'a SeedOptions,
    pub(super) output: &'a Output,
    pub(super) origin: Option<&'a Origin>,
    pub(super) peer_id: PeerId,
    /// The port we serve on, once we do.
    pub(super) port: &'a OnceLock<u16>,
    /// Bytes of all that is served.
    pub(super) total_len: &'a AtomicU64,
    pub(super) stop: &'a AtomicBool,
    /// SIGHUP: look now.
    pub(super) reload: &'a AtomicBool,
    pub(super) changes: mpsc::Sender<Change>,
}

/// See the module.
pub(super) struct Watch<'a> {
    folder: &'a Path,
    around: Surroundings<'a>,
    files: BTreeMap<PathBuf, Seen>,
    /// Torrents that are served, by what is told of them; those of the command line without.
    served: HashMap<InfoHash, Option<Served>>,
    /// What was told of the folder itself.
    trouble: Option<String>,
    folder_stamp: Option<SystemTime>,
}

struct Served {
    name: String,
    len: u64,
}

/// A `.torrent` file as it was found.
struct Seen {
    stamp: Stamp,
    since: Instant,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Served(InfoHash),
    /// No torrent: it may be on its way.
    Unsettled,
    /// It was told why it is not served.
    Refused,
    /// As before, but that may change by itself: its content is not there, or another file has the same torrent.
    Waiting,
}

/// Differs when a file was replaced or written to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    ino: u64,
    len: u64,
    mtime: (i64, i64),
}

impl<'a> Watch<'a> {
    /// `served`: what is served besides.
    pub(super) fn new(folder: &'a Path, served: impl Iterator<Item = InfoHash>, around: Surroundings<'a>) -> Self {
        let served = served.map(|info_hash| (info_hash, None)).collect();
        Self { folder, around, files: BTreeMap::new(), served, trouble: None, folder_stamp: None }
    }

    /// Looks until we stop.
    pub(super) fn run(mut self) {
        let is_over = |around: &Surroundings<'_>| around.stop.load(Ordering::Relaxed) || around.changes.is_closed();
        while self.around.port.get().is_none() && !is_over(&self.around) {
            std::thread::sleep(POLL / 20);
        }
        let (mut next, mut next_all) = (Instant::now(), Instant::now());
        while !is_over(&self.around) {
            let now = Instant::now();
            let all = self.around.reload.swap(false, Ordering::Relaxed) || now >= next_all;
            if all {
                next_all = now + limits::WATCH_ALL_INTERVAL;
            }
            if all || now >= next {
                next = now + limits::WATCH_INTERVAL;
                self.look(all);
            }
            std::thread::sleep(POLL);
        }
    }

    fn look(&mut self, all: bool) {
        match self.list(all) {
            Ok(None) => {}
            Ok(Some(found)) => {
                self.trouble = None;
                self.follow(found, all);
            }
            Err(error) => {
                // What is served is served on: a folder that can't be read has lost nothing.
                let line = format!("--watch {}: {error}", shown(self.folder));
                if self.trouble.as_ref() != Some(&line) {
                    self.around.output.warning(&line);
                    self.trouble = Some(line);
                }
            }
        }
    }

    /// The `.torrent` files of the folder; `None`: nothing can have changed.
    fn list(&mut self, all: bool) -> io::Result<Option<BTreeMap<PathBuf, Stamp>>> {
        let modified = fs::metadata(self.folder)?.modified()?;
        let unsettled = self.files.values().any(|seen| seen.state == State::Unsettled);
        if !all && !unsettled && self.folder_stamp == Some(modified) {
            return Ok(None);
        }
        // A stamp so young may be that of a change to come as well.
        let old = modified.elapsed().is_ok_and(|age| age >= 2 * limits::WATCH_INTERVAL);
        let mut found = BTreeMap::new();
        let mut left_over = 0_usize;
        for entry in fs::read_dir(self.folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != "torrent") {
                continue;
            }
            // It may be gone already.
            let Ok(stat) = fs::metadata(&path) else { continue };
            if !stat.is_file() {
                continue;
            }
            if found.len() >= limits::WATCHED_FILES_MAX && !self.files.contains_key(&path) {
                left_over += 1;
                continue;
            }
            let stamp = Stamp { ino: stat.ino(), len: stat.len(), mtime: (stat.mtime(), stat.mtime_nsec()) };
            found.insert(path, stamp);
        }
        if left_over > 0 && self.folder_stamp.is_none() {
            self.around.output.warning(format_args!(
                "--watch {}: {left_over} files more than the {} that are looked at",
                shown(self.folder),
                limits::WATCHED_FILES_MAX
            ));
        }
        self.folder_stamp = old.then_some(modified);
        Ok(Some(found))
    }

    fn follow(&mut self, found: BTreeMap<PathBuf, Stamp>, all: bool) {
        let gone: Vec<PathBuf> = self.files.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
        for path in gone {
            if let Some(Seen { state: State::Served(info_hash), .. }) = self.files.remove(&path) {
                self.drop_torrent(info_hash);
            }
        }
        for (path, stamp) in found {
            if self.around.stop.load(Ordering::Relaxed) {
                return;
            }
            let seen = self.files.get(&path);
            let since = seen.filter(|seen| seen.stamp == stamp).map(|seen| seen.since);
            let before = seen.map(|seen| seen.state);
            let settled = match before {
                Some(State::Served(_) | State::Refused) => true,
                Some(State::Waiting) => !all,
                Some(State::Unsettled) | None => false,
            };
            if since.is_some() && settled {
                continue;
            }
            let since = since.unwrap_or_else(Instant::now);
            let state = self.consider(&path, before, since);
            self.files.insert(path, Seen { stamp, since, state });
        }
    }

    /// A file that is new, or has changed, or is worth another look.
    fn consider(&mut self, path: &Path, before: Option<State>, since: Instant) -> State {
        let output = self.around.output;
        let metainfo = read_metainfo_file(path).map_err(|error| error.to_string()).and_then(|bytes| {
            Metainfo::decode(&bytes, &self.around.options.engine.metainfo).map_err(|error| error.to_string())
        });
        if let (Err(_), Some(State::Served(other))) = (&metainfo, before) {
            self.drop_torrent(other);
        }
        let metainfo = match metainfo {
            Ok(metainfo) => metainfo,
            // Somebody may be at it.
            Err(_) if since.elapsed() < limits::WATCH_SETTLE_TIME => return State::Unsettled,
            Err(error) => {
                output.warning(format_args!("not served: {}: {error}", shown(path)));
                return State::Refused;
            }
        };
        let info_hash = metainfo.info_hash;
        match before {
            Some(State::Served(same)) if same == info_hash => return State::Served(same),
            Some(State::Served(other)) => self.drop_torrent(other),
            _ => {}
        }
        let again = before == Some(State::Waiting);
        if self.served.contains_key(&info_hash) {
            if !again {
                output.warning(format_args!("not served twice: {}: the same torrent is served already", shown(path)));
            }
            return State::Waiting;
        }
        match self.add_torrent(path, metainfo) {
            Ok(()) => State::Served(info_hash),
            Err(failure) => {
                if !again {
                    output.warning(format_args!("not served: {failure}"));
                }
                if failure.exit == Exit::Mismatch { State::Waiting } else { State::Refused }
            }
        }
    }

    fn add_torrent(&mut self, path: &Path, metainfo: Metainfo) -> Result<(), Failure> {
        let Surroundings { options, output, origin, peer_id, port, total_len, stop, changes, .. } = &self.around;
        let (source, trust) = prepare(path, options, stop, output)?;
        let named = Named::new(&source.metainfo, &source.have, &trust);
        let port = port.get().copied().unwrap_or_default();
        if let Some(origin) = origin {
            origin.add(metainfo, &source.folder, (port, *peer_id))?;
        }
        let (info_hash, len) = (named.info_hash, named.total_len);
        if changes.blocking_send(Change::Add(Box::new(source))).is_ok() {
            total_len.fetch_add(len, Ordering::Relaxed);
            named.announce(port, *origin, output);
        }
        self.served.insert(info_hash, Some(Served { name: named.name, len }));
        Ok(())
    }

    fn drop_torrent(&mut self, info_hash: InfoHash) {
        let Some(Some(Served { name, len })) = self.served.remove(&info_hash) else { return };
        let Surroundings { output, origin, total_len, changes, .. } = &self.around;
        if let Some(origin) = origin {
            origin.remove(info_hash);
        }
        // The session may be at its end.
        let _ = changes.blocking_send(Change::Remove(info_hash));
        total_len.fetch_sub(len, Ordering::Relaxed);
        output.message(format_args!("{name} is not served any more"));
        output.record(&Record::Dropped { info_hash: info_hash.to_string(), name: &name });
    }
}
