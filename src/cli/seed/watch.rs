//! `seed --watch`: a folder whose `.torrent` files are served as they are added, and dropped as they are removed.
//!
//! The folder is polled. Its time stamp changes when names are added or removed, also on network file systems, where
//! inotify does not report the changes of other hosts. A file that does not decode is read again until it does, or
//! until it has stayed the same for [`limits::WATCH_SETTLE_TIME`].

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io};

use super::handle::SessionHandle;
use super::prepare::prepare;
use super::refusals::record_not_served;
use crate::base::{InfoHash, limits};
use crate::cli::exit::{Exit, Failure};
use crate::cli::metainfo_file::read_metainfo_file;
use crate::cli::records::Record;
use crate::codec::metainfo::Metainfo;
use crate::create::open::shown;

/// Interval at which the thread checks whether the folder is due, or SIGHUP has come, or the session is over.
const POLL: Duration = Duration::from_millis(200);

/// Keeps the session in step with the folder of `--watch`.
pub(super) struct Watch<'a> {
    folder: &'a Path,
    session: SessionHandle<'a>,
    /// Set by SIGHUP: read the whole folder at once.
    reload: &'a AtomicBool,
    files: BTreeMap<PathBuf, Seen>,
    /// Torrents of these files that are served.
    served: HashMap<InfoHash, Served>,
    /// The last warning about the folder itself, which is not repeated.
    folder_warning: Option<String>,
    /// The folder's modification time when it was last listed, if later changes are certain to have another one.
    folder_stamp: Option<SystemTime>,
}

/// The files that a check of the folder covers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Files that have changed, or are not settled.
    Changes,
    /// Waiting files too, even if the folder has the same time stamp.
    All,
}

struct Served {
    name: String,
    /// Bytes of the content.
    len: u64,
}

/// A `.torrent` file as it was last read.
struct Seen {
    stamp: Stamp,
    /// When the file was first seen with this stamp.
    since: Instant,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Served(InfoHash),
    /// Not a valid torrent yet: it may still be being written.
    Unsettled,
    /// Not served; the reason has been reported.
    Refused,
    /// Not served, and the reason has been reported, but it may end without a change of this file: the content is
    /// missing, or another file has the same torrent.
    Waiting,
}

/// Changes when a file is replaced or written to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    ino: u64,
    len: u64,
    mtime: (i64, i64),
}

impl<'a> Watch<'a> {
    pub(super) fn new(folder: &'a Path, session: SessionHandle<'a>, reload: &'a AtomicBool) -> Self {
        let (files, served) = (BTreeMap::new(), HashMap::new());
        Self { folder, session, reload, files, served, folder_warning: None, folder_stamp: None }
    }

    /// Follows the folder until the session is over.
    pub(super) fn run(mut self) {
        self.session.wait_for_session();
        let (mut next, mut next_all) = (Instant::now(), Instant::now());
        while !self.session.is_over() {
            let now = Instant::now();
            if self.reload.swap(false, Ordering::Relaxed) || now >= next_all {
                next_all = now + limits::WATCH_ALL_INTERVAL;
                next = now + limits::WATCH_INTERVAL;
                self.check_folder(Extent::All);
            } else if now >= next {
                next = now + limits::WATCH_INTERVAL;
                self.check_folder(Extent::Changes);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Adds the torrents of new files and removes those of files that are gone.
    fn check_folder(&mut self, extent: Extent) {
        match self.list(extent) {
            Ok(None) => {}
            Ok(Some(found)) => {
                self.folder_warning = None;
                self.follow(found, extent);
            }
            Err(error) => {
                // A folder that can't be read proves nothing about its files: their torrents are still served.
                let line = format!("--watch {}: {error}", shown(self.folder));
                if self.folder_warning.as_ref() != Some(&line) {
                    self.session.output.warning(&line);
                    self.folder_warning = Some(line);
                }
            }
        }
    }

    /// Lists the `.torrent` files of the folder. Returns `None` if nothing can have changed.
    fn list(&mut self, extent: Extent) -> io::Result<Option<BTreeMap<PathBuf, Stamp>>> {
        let modified = fs::metadata(self.folder)?.modified()?;
        let unsettled = self.files.values().any(|seen| seen.state == State::Unsettled);
        if extent == Extent::Changes && !unsettled && self.folder_stamp == Some(modified) {
            return Ok(None);
        }
        // A change that is still to come may get the same stamp if this one is recent.
        let old = modified.elapsed().is_ok_and(|age| age >= 2 * limits::WATCH_INTERVAL);
        let mut found = BTreeMap::new();
        let mut excess_count = 0_usize;
        for entry in fs::read_dir(self.folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != "torrent") {
                continue;
            }
            // The file may have been removed meanwhile.
            let Ok(stat) = fs::metadata(&path) else { continue };
            if !stat.is_file() {
                continue;
            }
            if found.len() >= limits::WATCHED_FILES_MAX && !self.files.contains_key(&path) {
                excess_count += 1;
                continue;
            }
            let stamp = Stamp { ino: stat.ino(), len: stat.len(), mtime: (stat.mtime(), stat.mtime_nsec()) };
            found.insert(path, stamp);
        }
        if excess_count > 0 && self.folder_stamp.is_none() {
            self.session.output.warning(format_args!(
                "--watch {}: {excess_count} files are ignored: at most {} are served",
                shown(self.folder),
                limits::WATCHED_FILES_MAX
            ));
        }
        self.folder_stamp = old.then_some(modified);
        Ok(Some(found))
    }

    fn follow(&mut self, found: BTreeMap<PathBuf, Stamp>, extent: Extent) {
        let gone: Vec<PathBuf> = self.files.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
        for path in gone {
            if let Some(Seen { state: State::Served(info_hash), .. }) = self.files.remove(&path) {
                self.drop_torrent(info_hash);
            }
        }
        for (path, stamp) in found {
            if self.session.state.stop.load(Ordering::Relaxed) {
                return;
            }
            let seen = self.files.get(&path);
            let since = seen.filter(|seen| seen.stamp == stamp).map(|seen| seen.since);
            let before = seen.map(|seen| seen.state);
            let settled = match before {
                Some(State::Served(_) | State::Refused) => true,
                Some(State::Waiting) => extent == Extent::Changes,
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

    /// Reads a file that is new, has changed or is tried again, and adds or removes its torrent. `before` is its last
    /// state.
    fn consider(&mut self, path: &Path, before: Option<State>, since: Instant) -> State {
        let output = self.session.output;
        let metainfo = read_metainfo_file(path).map_err(|error| error.to_string()).and_then(|bytes| {
            Metainfo::decode(&bytes, &self.session.options.engine.metainfo).map_err(|error| error.to_string())
        });
        if let (Err(_), Some(State::Served(other))) = (&metainfo, before) {
            self.drop_torrent(other);
        }
        let metainfo = match metainfo {
            Ok(metainfo) => metainfo,
            // A program may still be writing it.
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
        if self.session.is_known(info_hash) {
            if !again {
                output.warning(format_args!("not served twice: {}: this torrent is already served", shown(path)));
            }
            return State::Waiting;
        }
        match self.add_torrent(path) {
            Ok(()) => State::Served(info_hash),
            Err(_) if self.session.is_over() => State::Waiting,
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
        let prepared = prepare(path, &self.session)?;
        let torrent = self.session.add(prepared).map_err(|reason| reason.failure(path))?;
        self.served.insert(torrent.info_hash, Served { name: torrent.name, len: torrent.total_len });
        Ok(())
    }

    fn drop_torrent(&mut self, info_hash: InfoHash) {
        let Some(Served { name, len }) = self.served.remove(&info_hash) else { return };
        self.session.remove(info_hash, len);
        self.session.output.message(format_args!("stopped serving {name}"));
        self.session.output.record(&Record::Dropped { info_hash: info_hash.to_string(), name: &name });
    }
}
