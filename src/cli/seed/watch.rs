//! `seed --watch`: a folder whose `.torrent` files come and go while we serve.
//!
//! It is polled. A folder's time stamp tells of names that came or went on every file system, of network ones too, where
//! inotify hears nothing of other hosts; a file that is no torrent yet is looked at until it is one or stays as it is.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::intake::Surroundings;
use super::{Named, prepare, record_not_served};
use crate::base::{InfoHash, limits};
use crate::cli::exit::{Exit, Failure};
use crate::cli::metainfo_file::read_metainfo_file;
use crate::cli::records::Record;
use crate::codec::metainfo::Metainfo;
use crate::create::open::shown;
use crate::engine::Change;

/// How often it is looked whether there is something to do.
const POLL: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Watch<'a> {
    folder: &'a Path,
    around: Surroundings<'a>,
    /// SIGHUP: look now.
    reload: &'a AtomicBool,
    files: BTreeMap<PathBuf, Seen>,
    /// Torrents of these files that are served, by what is told of them.
    served: HashMap<InfoHash, Served>,
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
    pub(super) fn new(folder: &'a Path, around: Surroundings<'a>, reload: &'a AtomicBool) -> Self {
        let (files, served) = (BTreeMap::new(), HashMap::new());
        Self { folder, around, reload, files, served, trouble: None, folder_stamp: None }
    }

    /// Looks until we stop.
    pub(super) fn run(mut self) {
        self.around.wait_for_session();
        let (mut next, mut next_all) = (Instant::now(), Instant::now());
        while !self.around.is_over() {
            let now = Instant::now();
            let all = self.reload.swap(false, Ordering::Relaxed) || now >= next_all;
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
                let failure = Failure::new(Exit::Failed, format_args!("{}: {error}", shown(path)));
                output.warning(format_args!("not served: {failure}"));
                record_not_served(path, &failure, output);
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
        if self.around.is_known(info_hash) {
            if !again {
                output.warning(format_args!("not served twice: {}: the same torrent is served already", shown(path)));
            }
            return State::Waiting;
        }
        match self.add_torrent(path) {
            Ok(()) => State::Served(info_hash),
            Err(failure) => {
                if !again {
                    output.warning(format_args!("not served: {failure}"));
                    record_not_served(path, &failure, output);
                }
                if failure.exit == Exit::Mismatch { State::Waiting } else { State::Refused }
            }
        }
    }

    fn add_torrent(&mut self, path: &Path) -> Result<(), Failure> {
        let (source, trust) = prepare(path, &self.around)?;
        match self.around.add(source, &trust) {
            Some(Named { info_hash, name, total_len, .. }) => {
                self.served.insert(info_hash, Served { name, len: total_len });
                Ok(())
            }
            None => {
                Err(Failure::new(Exit::Mismatch, format_args!("{}: the same torrent is served already", shown(path))))
            }
        }
    }

    fn drop_torrent(&mut self, info_hash: InfoHash) {
        let Some(Served { name, len }) = self.served.remove(&info_hash) else { return };
        self.around.forget(info_hash);
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
